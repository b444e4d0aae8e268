"""From photos to a scene with poses: registration, refinement, and what is said when it fails."""

from dataclasses import replace

import pytest
import torch
from card_world import INTRINSICS, SIZE, photograph

import models.reconstruct as reconstruct_module
from models.confidence import (
    TRUSTED,
    PairEvidence,
    back_up,
    match_confidence,
    pnp_evidence,
)
from models.features.sift import SiftMatcher
from models.geometry.camera import Camera
from models.geometry.depth_map import DepthMap
from models.geometry.rigid import rotation_angle, se3_exponential
from models.geometry.views import resize
from models.metrics.errors import psnr
from models.network.noposplat import NoPoSplat, NoPoSplatConfig
from models.network.preprocessing import network_size
from models.pose.pnp import PnpPose
from models.reconstruct import Refinement, reconstruct, weak_point
from models.render import render
from models.sfm.contender import Contender
from models.sfm.registration import depth_range, register
from models.stereo.network import StereoConfig, StereoNetwork

POSES = torch.stack(
    [
        torch.eye(4),
        se3_exponential(torch.tensor([-0.4, 0.05, 0.0, 0.0, -0.1, 0.0])),
        se3_exponential(torch.tensor([0.3, -0.1, 0.1, 0.05, 0.1, 0.0])),
    ]
)

BOTH = INTRINSICS.expand(2, 3, 3)


@pytest.fixture(scope="module")
def network():
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
    return NoPoSplat(config).eval()


@pytest.fixture(scope="module")
def refinement():
    return Refinement([SiftMatcher()], StereoNetwork(StereoConfig()).eval())


@pytest.fixture(scope="module")
def photos():
    return [photograph(pose)[0] for pose in POSES]


def direction_error_deg(found: torch.Tensor, true: torch.Tensor) -> float:
    cosine = torch.cosine_similarity(found.double(), true.double(), dim=0).clamp(-1, 1)
    return float(torch.rad2deg(torch.acos(cosine)))


def test_three_photos_get_one_consistent_set_of_poses(photos):
    found = register(photos, INTRINSICS.expand(3, 3, 3), [SiftMatcher()]).world2cam
    scale = POSES[1, :3, 3].norm() / found[1, :3, 3].norm()
    assert torch.rad2deg(rotation_angle(found[:, :3, :3], POSES[:, :3, :3])).max() < 0.3
    torch.testing.assert_close(found[1:, :3, 3] * scale, POSES[1:, :3, 3], rtol=0, atol=0.02)


def test_photos_of_different_cameras_and_shapes_are_registered(photos):
    tall = INTRINSICS.clone()
    tall[0, 0], tall[1, 1] = 1.4, 0.9
    second, _ = photograph(POSES[1], tall, (256, 176))
    found = register(
        [photos[0], second], torch.stack([INTRINSICS, tall]), [SiftMatcher()]
    ).world2cam
    assert direction_error_deg(found[1, :3, 3], POSES[1, :3, 3]) < 2


def test_the_range_of_depths_holds_the_points():
    points = torch.rand(200, 3) + torch.tensor([0.0, 0.0, 2.0])
    near, far = depth_range(points, torch.eye(4))
    assert near < points[:, 2].min() and far > points[:, 2].max()
    assert near > 1 and far < 20


def test_a_refined_scene_looks_like_the_photos_from_where_they_were_taken(
    photos, network, refinement
):
    result = reconstruct(photos[:2], BOTH, network, refinement, resolution=256)

    assert direction_error_deg(result.world2cam[1, :3, 3], POSES[1, :3, 3]) < 1.5
    for photo, pose in zip(photos[:2], result.world2cam, strict=True):
        drawn = render(result.gaussians, Camera(INTRINSICS, pose, SIZE))
        assert psnr(drawn.color, photo) > 22
    (pair,) = result.pairs
    assert pair.method == "matches" and pair.confidence > 0.9 and not result.problems
    assert 0.5 < pair.overlap <= 1 and pair.photometric_error < 0.05


def test_depth_keeps_the_networks_scale(photos, network, refinement):
    answer = reconstruct(photos[:2], BOTH, network, None)
    refined = reconstruct(photos[:2], BOTH, network, refinement, resolution=128)
    assert float(refined.depths[0].median()) == pytest.approx(
        float(answer.depths[0].median()), rel=0.3
    )


def test_the_networks_answer_has_one_gaussian_per_pixel(photos, network):
    result = reconstruct(photos[:2], BOTH, network, None)
    height, width = network_size(SIZE[1] / SIZE[0])
    assert len(result.gaussians) == 2 * height * width
    assert result.pairs[0].method == "pnp"


@pytest.mark.parametrize("aspect", [9 / 16, 3 / 4, 1.0, 4 / 3, 16 / 9])
def test_the_network_sees_whole_patches_of_about_the_photos_shape(aspect: float):
    height, width = network_size(aspect)
    assert height % 16 == 0 and width % 16 == 0
    assert width / height == pytest.approx(aspect, rel=0.1)
    assert height * width == pytest.approx(256 * 256, rel=0.1)


def test_photos_with_nothing_in_common_leave_the_networks_answer_and_say_so(network, refinement):
    noise = [torch.rand(3, *SIZE) for _ in range(2)]
    result = reconstruct(noise, BOTH, network, refinement)
    assert result.problems
    assert len(result.gaussians) == 2 * 224 * 288 or result.pairs[0].confidence < 0.3


def test_a_camera_that_only_turned_is_recognized(photos, network, refinement):
    turned = se3_exponential(torch.tensor([0.0, 0.0, 0.0, 0.02, 0.05, 0.0]))
    second, _ = photograph(turned)
    result = reconstruct([photos[0], second], BOTH, network, refinement)
    assert result.problems and "moved" in result.problems[0]
    assert torch.rad2deg(rotation_angle(result.world2cam[1, :3, :3], turned[:3, :3])) < 0.3
    assert result.world2cam[1, :3, 3].norm() < 0.02 and result.pairs[0].confidence == 0


def test_a_cut_out_of_the_other_photo_is_recognized(photos, network, refinement):
    cut = photos[0][:, 12:-12, 16:-16].contiguous()
    result = reconstruct([photos[0], cut], BOTH, network, refinement)
    assert "cut out" in result.problems[0] and result.pairs[0].confidence == 0


def test_a_flat_scene_is_reconstructed_with_doubt(photos, network, refinement, monkeypatch):
    monkeypatch.setattr("card_world.HALF_CARD", 0.0)
    closer = se3_exponential(torch.tensor([0.1, -0.05, -0.6, 0.05, 0.1, 0.0]))
    flat = [photograph(pose)[0] for pose in (POSES[0], closer)]
    result = reconstruct(flat, BOTH, network, refinement, resolution=128)
    assert "flat surface" in result.problems[0]
    assert result.pairs[0].confidence == 0.5 and len(result.points)


def test_more_matches_mean_more_confidence():
    assert match_confidence(15, 0.2) < 0.3 < match_confidence(40, 0.5) < match_confidence(300, 0.8)


def test_a_pose_that_is_hardly_ahead_of_another_is_less_certain_and_says_so():
    sure, unsure, behind = (match_confidence(60, 0.4, 0.0, margin) for margin in (20.0, 1.0, -5.0))
    assert sure > 0.8 > 0.5 > unsure > behind > 0.1
    assert match_confidence(60, 0.4) == match_confidence(60, 0.4, 0.0, 6.0)
    assert "29 degrees away" in weak_point(60, Contender(margin=1.0, angle=0.5))
    assert "only 12 matches" in weak_point(12, None)
    assert "only 60 matches" in weak_point(60, Contender(margin=30.0, angle=0.5))


def test_alignment_keeps_the_networks_shapes_and_looks_no_worse(photos, network):
    answer = reconstruct(photos[:2], BOTH, network, None)
    aligned = reconstruct(photos[:2], BOTH, network, None, align=True)

    assert torch.equal(aligned.gaussians.means, answer.gaussians.means)
    assert not torch.equal(aligned.world2cam[1], answer.world2cam[1])
    assert (answer.pairs[0].method, aligned.pairs[0].method) == ("pnp", "pnp+photometric")
    size = network_size(SIZE[1] / SIZE[0])
    photo = resize(photos[1], size)
    errors = [
        (render(answer.gaussians, Camera(INTRINSICS, pose, size)).color - photo).square()
        for pose in (aligned.world2cam[1], answer.world2cam[1])
    ]
    assert errors[0].mean() < errors[1].mean()


def test_a_pose_from_which_colors_do_not_agree_is_not_trusted():
    wall = torch.rand(3, 16, 24)
    plain = torch.ones(16, 24)
    pose = PnpPose(torch.eye(4), 300, 0.8)
    views = [
        DepthMap((wall + off).clamp(0, 1), 2 * plain, plain, Camera(INTRINSICS, torch.eye(4), SIZE))
        for off in (0.0, 0.02, 0.3)
    ]
    alike, unlike = (pnp_evidence(1, pose, [views[0], other]) for other in views[1:])
    assert unlike.confidence < TRUSTED < alike.confidence


def test_poses_alone_are_those_of_the_scene(photos, network, refinement):
    options = {"network": network, "refinement": refinement, "resolution": 128}
    scene, poses = (
        reconstruct(photos[:2], BOTH, poses_only=only, **options) for only in (False, True)
    )
    assert torch.equal(poses.world2cam, scene.world2cam)
    assert poses.pairs[0].confidence == scene.pairs[0].confidence
    assert poses.pairs[0].overlap == pytest.approx(scene.pairs[0].overlap, abs=0.15)
    assert poses.pairs[0].photometric_error < 0.1
    assert float(poses.depths[0].median() / scene.depths[0].median()) == pytest.approx(1, rel=0.1)


def test_a_third_photo_that_repeats_the_first_is_said_to(photos, network, refinement):
    cut = photos[0][:, 12:-12, 16:-16].contiguous()
    larger = INTRINSICS.clone()
    larger[0, 0] *= SIZE[1] / (SIZE[1] - 32)
    larger[1, 1] *= SIZE[0] / (SIZE[0] - 24)
    three = torch.stack([INTRINSICS, INTRINSICS, larger])
    result = reconstruct(
        [photos[0], photos[1], cut], three, network, refinement, 128, poses_only=True
    )
    said = [problem for problem in result.problems if "cut out" in problem]
    assert said and said[0].startswith("Photos 1 and 3")
    confidence = {(pair.first, pair.second): pair.confidence for pair in result.pairs}
    assert confidence[0, 2] == 0 and confidence[0, 1] > 0.8


def evidence(method: str, confidence: float) -> PairEvidence:
    return PairEvidence(0, 1, method, 50, 0.5, 0.05, 0.8, confidence)


def test_two_ways_to_one_pose_confirm_each_other():
    matches, network = evidence("matches", 0.6), evidence("pnp", 0.5)
    near = POSES[:2].clone()
    near[1, :3, 3] *= 1.7  # lengths are not known
    far = torch.stack([POSES[0], POSES[2]])
    assert back_up(matches, POSES[:2], network, near).confidence == pytest.approx(0.8)
    assert back_up(matches, POSES[:2], network, far).confidence == 0.6


@pytest.mark.parametrize(("sure", "method"), [(0.9, "pnp+photometric"), (0.35, "matches")])
def test_where_matches_leave_doubts_the_better_way_wins(
    photos, network, refinement, monkeypatch, sure, method
):
    monkeypatch.setattr("models.reconstruct.weakest_link", lambda registration: 0.2)
    monkeypatch.setattr("models.confidence.match_confidence", lambda *support: 0.2)
    honest = reconstruct_module.predict

    def predict(*arguments):
        answer = honest(*arguments[:4])
        aligned = len(arguments) > 4 and arguments[4]
        confidence = sure if aligned else 0.1
        found = evidence("pnp+photometric" if aligned else "pnp", confidence)
        return replace(answer, pairs=(found,), problems=())

    monkeypatch.setattr("models.reconstruct.predict", predict)
    monkeypatch.setattr("models.reconstruct.TRUSTED", 0.4)
    result = reconstruct(photos[:2], BOTH, network, refinement, 128, compete=True, poses_only=True)
    assert result.pairs[0].method == method
    only_matches = reconstruct(photos[:2], BOTH, network, refinement, 128, poses_only=True)
    assert only_matches.pairs[0].method == "matches"


def test_a_focal_length_that_is_not_known_lowers_the_confidence():
    known, estimated, guessed = (match_confidence(300, 0.8, spread) for spread in (0.0, 0.1, 0.3))
    assert known > estimated > guessed
    assert 0.2 < guessed < 0.8
