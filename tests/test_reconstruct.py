"""From photos to a scene with poses: registration, refinement, and what is said when it fails."""

from dataclasses import replace

import pytest
import torch
from two_planes_scene import INTRINSICS, SIZE, raytrace

import models.reconstruct as reconstruct_module
from models.confidence import (
    TRUSTED_CONFIDENCE,
    PairQuality,
    combine,
    describe_confidence,
    low_confidence_message,
    match_confidence,
    pnp_quality,
)
from models.features.aliked_lightglue import LearnedMatcher
from models.features.sift import SiftMatcher
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import rotation_angle, se3_exponential
from models.geometry.views import View, resize
from models.metrics.errors import psnr
from models.network.config import NoPoSplatConfig
from models.network.noposplat import NoPoSplat
from models.network.preprocessing import network_size
from models.options import Options, PoseMethod
from models.pose.pnp import PnpPose
from models.reconstruct import estimate_poses, reconstruct
from models.reconstruction import Networks
from models.render import render
from models.sfm.hypotheses import RunnerUp
from models.sfm.registration import register
from models.sfm.tracks import depth_bounds
from models.stereo.network import StereoConfig, StereoNetwork

POSES = torch.stack(
    [
        torch.eye(4),
        se3_exponential(torch.tensor([-0.4, 0.05, 0.0, 0.0, -0.1, 0.0])),
        se3_exponential(torch.tensor([0.3, -0.1, 0.1, 0.05, 0.1, 0.0])),
    ]
)
ALONE = Options(PoseMethod.pnp)
FAST = Options(resolution=128)


def view_of(image: torch.Tensor, intrinsics: torch.Tensor = INTRINSICS) -> View:
    return View(image, Camera(intrinsics, torch.eye(4), (image.shape[1], image.shape[2])))


@pytest.fixture(scope="module")
def networks():
    config = NoPoSplatConfig(
        encoder_width=64,
        encoder_depth=1,
        decoder_width=64,
        decoder_depth=2,
        trunk_widths=(8, 8, 8, 8),
        fusion_width=8,
        sh_degree=0,
        anchor_distance=1.0,
        pixel_color=True,
    )
    stereo = StereoNetwork(StereoConfig()).eval()
    return Networks(NoPoSplat(config).eval(), matchers=(SiftMatcher(),), stereo=stereo)


@pytest.fixture(scope="module")
def views():
    return [view_of(raytrace(pose)[0]) for pose in POSES]


@pytest.fixture(scope="module")
def prediction(views, networks):
    return reconstruct(views[:2], networks, ALONE)


@pytest.fixture(scope="module")
def scene(views, networks):
    return reconstruct(views[:2], networks, FAST)


@pytest.fixture
def cut(views) -> torch.Tensor:
    """The middle of the first photo."""
    return views[0].image[:, 12:-12, 16:-16].contiguous()


def direction_error_deg(found: torch.Tensor, true: torch.Tensor) -> float:
    cosine = torch.cosine_similarity(found.double(), true.double(), dim=0).clamp(-1, 1)
    return float(torch.rad2deg(torch.acos(cosine)))


def test_three_photos_get_one_consistent_set_of_poses(views):
    found = register(views, [SiftMatcher()]).world2cam
    scale = POSES[1, :3, 3].norm() / found[1, :3, 3].norm()
    assert torch.rad2deg(rotation_angle(found[:, :3, :3], POSES[:, :3, :3])).max() < 0.3
    torch.testing.assert_close(found[1:, :3, 3] * scale, POSES[1:, :3, 3], rtol=0, atol=0.02)


def test_photos_of_different_cameras_and_shapes_are_registered(views):
    tall = INTRINSICS.clone()
    tall[0, 0], tall[1, 1] = 1.4, 0.9
    second, _ = raytrace(POSES[1], tall, (256, 176))
    found = register([views[0], view_of(second, tall)], [SiftMatcher()]).world2cam
    assert direction_error_deg(found[1, :3, 3], POSES[1, :3, 3]) < 2


def test_the_range_of_depths_holds_the_points():
    points = torch.rand(200, 3) + torch.tensor([0.0, 0.0, 2.0])
    near, far = depth_bounds(points, Camera(INTRINSICS, torch.eye(4), SIZE))
    assert near < points[:, 2].min() and far > points[:, 2].max()
    assert near > 1 and far < 20


def test_a_refined_scene_looks_like_the_photos_from_where_they_were_taken(views, networks):
    result = reconstruct(views[:2], networks, Options(resolution=256))

    assert direction_error_deg(result.world2cam[1, :3, 3], POSES[1, :3, 3]) < 1.5
    for view, camera in zip(views[:2], result.cameras, strict=True):
        rendering = render(result.gaussians, camera)
        assert psnr(rendering.color, view.image) > 22
    (pair,) = result.pairs
    assert pair.method == "matches" and pair.confidence > 0.9 and not result.problems
    assert 0.5 < pair.overlap <= 1 and pair.photometric_error < 0.05


def test_a_scene_is_polished_on_demand(views, networks, scene):
    stages: list[str] = []
    polished = reconstruct(views[:2], networks, replace(FAST, polish=True), stages.append)
    assert stages[-1] == "polishing the scene"
    assert len(polished.gaussians) == len(scene.gaussians)
    assert not torch.equal(polished.gaussians.harmonics, scene.gaussians.harmonics)
    assert torch.equal(polished.gaussians.guessed, scene.gaussians.guessed)


def test_depth_keeps_the_networks_scale(prediction, scene):
    medians = [float(result.depths[0].median()) for result in (scene, prediction)]
    assert medians[0] == pytest.approx(medians[1], rel=0.3)


def test_the_prediction_has_one_gaussian_per_pixel(prediction):
    height, width = network_size(SIZE[1] / SIZE[0])
    assert len(prediction.gaussians) == 2 * height * width
    assert prediction.pairs[0].method == "pnp"


@pytest.mark.parametrize("aspect", [9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9])
def test_the_network_sees_whole_patches_of_about_the_photos_shape(aspect: float):
    height, width = network_size(aspect)
    assert height % 16 == 0 and width % 16 == 0
    assert width / height == pytest.approx(aspect, rel=0.1)
    assert height * width == pytest.approx(256 * 256, rel=0.1)


def test_photos_with_nothing_in_common_leave_the_prediction_and_say_so(networks):
    noise = [view_of(torch.rand(3, *SIZE)) for _ in range(2)]
    result = reconstruct(noise, networks)
    assert result.problems
    assert len(result.gaussians) == 2 * 224 * 288 or result.pairs[0].confidence < 0.3


def test_a_camera_that_only_turned_is_recognized(views, networks):
    turned = se3_exponential(torch.tensor([0.0, 0.0, 0.0, 0.02, 0.05, 0.0]))
    second, _ = raytrace(turned)
    result = reconstruct([views[0], view_of(second)], networks)
    assert result.problems and "moved" in result.problems[0]
    assert torch.rad2deg(rotation_angle(result.world2cam[1, :3, :3], turned[:3, :3])) < 0.3
    assert result.world2cam[1, :3, 3].norm() < 0.02 and result.pairs[0].confidence == 0


def test_a_crop_of_the_other_photo_is_recognized(views, networks, cut):
    result = reconstruct([views[0], view_of(cut)], networks)
    assert "cut out" in result.problems[0] and result.pairs[0].confidence == 0


def test_a_flat_scene_is_reconstructed_with_doubt(networks, monkeypatch):
    monkeypatch.setattr("two_planes_scene.HALF_CARD", 0.0)
    closer = se3_exponential(torch.tensor([0.1, -0.05, -0.6, 0.05, 0.1, 0.0]))
    flat = [view_of(raytrace(pose)[0]) for pose in (POSES[0], closer)]
    result = reconstruct(flat, networks, FAST)
    assert "flat surface" in result.problems[0]
    assert result.pairs[0].confidence == 0.5 and len(result.points)


def test_more_matches_mean_more_confidence():
    assert match_confidence(15, 0.2) < 0.3 < match_confidence(40, 0.5) < match_confidence(300, 0.8)


def test_a_pose_that_is_hardly_ahead_of_another_is_less_certain_and_says_so():
    sure, unsure, behind = (match_confidence(60, 0.4, 0.0, margin) for margin in (20.0, 1.0, -5.0))
    assert sure > 0.8 > 0.5 > unsure > behind > 0.1
    assert match_confidence(60, 0.4) == match_confidence(60, 0.4, 0.0, 6.0)
    assert "29 degrees away" in low_confidence_message(60, RunnerUp(margin=1.0, angle_rad=0.5))
    assert "only 12 matches" in low_confidence_message(12, None)
    assert "only 60 matches" in low_confidence_message(60, RunnerUp(margin=30.0, angle_rad=0.5))


def test_alignment_keeps_the_networks_shapes_and_looks_no_worse(views, networks, prediction):
    aligned = reconstruct(views[:2], networks, Options(PoseMethod.photometric))

    assert torch.equal(aligned.gaussians.means, prediction.gaussians.means)
    assert not torch.equal(aligned.world2cam[1], prediction.world2cam[1])
    assert (prediction.pairs[0].method, aligned.pairs[0].method) == ("pnp", "pnp+photometric")
    size = network_size(SIZE[1] / SIZE[0])
    image = resize(views[1].image, size)
    errors = [
        (render(prediction.gaussians, camera.resized(size)).color - image).square()
        for camera in (aligned.cameras[1], prediction.cameras[1])
    ]
    assert errors[0].mean() < errors[1].mean()


def test_a_pose_from_which_colors_do_not_agree_is_not_trusted():
    wall, plain = torch.rand(3, 16, 24), torch.ones(16, 24)
    camera = Camera(INTRINSICS, torch.eye(4), (16, 24))
    first, like, unlike = (
        DepthMap((wall + off).clamp(0, 1), 2 * plain, plain, camera) for off in (0.0, 0.02, 0.3)
    )
    pose = PnpPose(torch.eye(4), 300, 0.8)
    right, wrong = (
        pnp_quality(PoseMethod.pnp, 1, pose, [first, second]) for second in (like, unlike)
    )
    assert wrong.confidence < TRUSTED_CONFIDENCE < right.confidence


@pytest.mark.parametrize("brightness", [0.02, 0.5])
def test_photos_that_show_nothing_agree_under_any_pose_which_is_no_evidence(brightness):
    plain = torch.ones(16, 24)
    camera = Camera(INTRINSICS, torch.eye(4), (16, 24))
    walls = [
        DepthMap(brightness + 0.005 * torch.randn(3, 16, 24), 2 * plain, plain, camera)
        for _ in range(2)
    ]
    quality = pnp_quality(PoseMethod.pnp, 1, PnpPose(torch.eye(4), 300, 0.8), walls)
    assert quality.photometric_error < 0.01
    assert quality.confidence == 0


@pytest.mark.parametrize(
    ("confidence", "problems", "words"),
    [
        (0.95, (), "sure"),
        (0.7, (), "fairly sure"),
        (0.4, (), "unsure"),
        (0.2, (), "not to be trusted"),
        (0.9, ("The photos repeat.",), "not to be trusted"),
    ],
)
def test_confidence_is_said_in_words(confidence, problems, words):
    assert describe_confidence(confidence, problems) == words


def test_poses_alone_are_those_of_the_scene(views, networks, scene):
    poses = estimate_poses(views[:2], networks, FAST)
    assert torch.equal(poses.world2cam, scene.world2cam)
    assert poses.pairs[0].confidence == scene.pairs[0].confidence
    assert poses.pairs[0].overlap == pytest.approx(scene.pairs[0].overlap, abs=0.15)
    assert poses.pairs[0].photometric_error < 0.1
    assert float(poses.depths[0].median() / scene.depths[0].median()) == pytest.approx(1, rel=0.1)


def test_a_third_photo_that_repeats_the_first_is_said_to(views, networks, cut):
    larger = INTRINSICS.clone()
    larger[0, 0] *= SIZE[1] / (SIZE[1] - 32)
    larger[1, 1] *= SIZE[0] / (SIZE[0] - 24)
    result = estimate_poses([*views[:2], view_of(cut, larger)], networks, FAST)
    said = [problem for problem in result.problems if "cut out" in problem]
    assert said and said[0].startswith("Photos 1 and 3")
    confidence = {(pair.first, pair.second): pair.confidence for pair in result.pairs}
    assert confidence[0, 2] == 0 and confidence[0, 1] > 0.8


def quality(method: str, confidence: float) -> PairQuality:
    return PairQuality(0, 1, PoseMethod(method), 50, 0.5, 0.05, 0.8, confidence)


def test_two_ways_to_one_pose_confirm_each_other():
    matches, network = quality("matches", 0.6), quality("pnp", 0.5)
    longer = POSES[1].clone()
    longer[:3, 3] *= 1.7  # lengths are not known
    found, near, far = (
        tuple(Camera(INTRINSICS, pose, SIZE) for pose in (POSES[0], second))
        for second in (POSES[1], longer, POSES[2])
    )
    assert combine(matches, found, network, near).confidence == pytest.approx(0.8)
    assert combine(matches, found, network, far).confidence == 0.6


@pytest.mark.parametrize(("sure", "method"), [(0.9, "pnp+photometric"), (0.35, "matches")])
def test_where_matches_leave_doubts_the_better_way_wins(views, networks, monkeypatch, sure, method):
    monkeypatch.setattr("models.reconstruct.least_confidence", lambda registration: 0.2)
    monkeypatch.setattr("models.confidence.match_confidence", lambda *support: 0.2)
    for name, found in (
        ("predict", quality("pnp", 0.1)),
        ("align_prediction", quality("pnp+photometric", sure)),
    ):
        honest = getattr(reconstruct_module, name)

        def fake(*arguments, honest=honest, found=found):
            return replace(honest(*arguments), pairs=(found,), problems=())

        monkeypatch.setattr(reconstruct_module, name, fake)
    monkeypatch.setattr("models.reconstruct.TRUSTED_CONFIDENCE", 0.4)
    result = estimate_poses(views[:2], networks, replace(FAST, method=PoseMethod.auto))
    assert result.pairs[0].method == method
    assert estimate_poses(views[:2], networks, FAST).pairs[0].method == "matches"


def test_a_focal_length_that_is_not_known_lowers_the_confidence():
    known, estimated, guessed = (match_confidence(300, 0.8, spread) for spread in (0.0, 0.1, 0.3))
    assert known > estimated > guessed
    assert 0.2 < guessed < 0.8


@pytest.mark.parametrize("options", [ALONE, FAST])
def test_a_cut_out_leaves_its_ground_empty(views, networks, options):
    mask = torch.zeros(SIZE, dtype=torch.bool)
    mask[:, : SIZE[1] // 2] = True
    scene = reconstruct([replace(view, mask=mask) for view in views[:2]], networks, options)
    coordinates, _ = scene.cameras[0].project(scene.gaussians.means)
    other, _ = scene.cameras[1].project(scene.gaussians.means)
    assert len(scene.gaussians) > 100
    assert torch.minimum(coordinates[:, 0], other[:, 0]).max() < 0.51


def test_poses_and_confidence_are_the_same_on_every_number_of_threads(views, networks):
    networks = replace(networks, matchers=(LearnedMatcher(torch.device("cpu")),))
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            result = estimate_poses(views[:2], networks, FAST)
            assert torch.get_num_threads() == number
            found.append((result.world2cam.tolist(), result.pairs, result.points.tolist()))
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1]
    assert found[0][1][0].inliers > 20
