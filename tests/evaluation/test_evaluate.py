"""Photos of a slanted, patterned wall, ray-cast; an oracle knows the wall and the cameras."""

import json
import math
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image

from models.data.pairs import PhotoPair, load_pairs
from models.evaluation.evaluate import EvaluationConfig, Unusable, evaluate_pair, evaluate_pairs
from models.evaluation.scores import ImageScore, PairScores, TargetScore
from models.evaluation.summary import compare, summarize
from models.geometry.camera import camera_rays, to_pixels
from models.geometry.gaussians import SH_DEGREE_0, Gaussians, rescale
from models.geometry.rigid import invert, se3_exponential, transform_points
from models.geometry.views import View
from models.metrics.errors import FAILED_DEG, PoseError, psnr
from models.reconstruction import Reconstruction

SIZE = (144, 192)
INTRINSICS = torch.tensor([[1.0, 0, 0.53], [0, 4 / 3, 0.46], [0, 0, 1]])
TWISTS = {  # of world2cam; the wall stands in the first camera's frame
    "first.png": [0.0, 0, 0, 0, 0, 0],
    "second.png": [-0.5, 0.1, 0.1, 0.05, 0.12, -0.03],
    "third.png": [0.4, -0.2, -0.1, -0.04, -0.1, 0.02],
    "target.png": [-0.2, 0.1, 0.0, 0.03, 0.05, 0.0],
}
WORLD2CAM = {name: se3_exponential(torch.tensor(twist)) for name, twist in TWISTS.items()}
ELSEWHERE = se3_exponential(torch.tensor([7.0, -3, 2, 0.5, 1, -0.5], dtype=torch.float64))
QUICK = EvaluationConfig(size=128, align=False)


def color_of_the_wall(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    pattern = [torch.sin(7 * x + 2 * y), torch.sin(8 * y - x), torch.cos(5 * x) * torch.cos(6 * y)]
    return 0.5 + 0.4 * torch.stack(pattern, dim=-1)


def photo_from(world2cam: torch.Tensor) -> torch.Tensor:
    """The wall z = 3 + 0.4 x, ray-cast."""
    cam2world = invert(world2cam)
    rays = camera_rays(INTRINSICS, SIZE) @ cam2world[:3, :3].mT
    normal = torch.tensor([-0.4, 0, 1])
    depth = (3 - normal @ cam2world[:3, 3]) / (rays @ normal)
    hits = cam2world[:3, 3] + rays * depth[..., None]
    return color_of_the_wall(hits[..., 0], hits[..., 1]).permute(2, 0, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A pair and a triple with a target each, in a world that is none of the cameras'."""
    folder = tmp_path_factory.mktemp("photos")
    for name, world2cam in WORLD2CAM.items():
        pixels = (photo_from(world2cam) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / name)
    size, intrinsics_px = [SIZE[1], SIZE[0]], to_pixels(INTRINSICS, SIZE).tolist()

    def camera(name: str) -> dict:
        world2cam = (WORLD2CAM[name].double() @ ELSEWHERE).tolist()
        return {"image": name, "size": size, "K": intrinsics_px, "w2c": world2cam}

    entries = []
    for count in (2, 3):
        cameras = [camera(name) for name in list(TWISTS)[:count]]
        keys = {"size": "size", "K": "K", "w2c": "w2c", "images": "image"}
        entry = {key: [camera[theirs] for camera in cameras] for key, theirs in keys.items()}
        usual = {"id": f"wall/{count}", "scene": "wall", "difficulty": "easy"}
        entries.append(usual | entry | {"targets": [camera("target.png")]})
    (folder / "pairs.json").write_text(json.dumps(entries))
    return folder / "pairs.json"


@pytest.fixture
def pair(data: Path) -> PhotoPair:
    return load_pairs(data)[0]


def oracle(views: list[View]) -> Reconstruction:
    count = 160
    x, y = torch.meshgrid(
        torch.linspace(-2.4, 3.0, count), torch.linspace(-2.2, 2.2, count), indexing="ij"
    )
    x, y = x.flatten(), y.flatten()
    gaussians = Gaussians(
        means=torch.stack([x, y, 3 + 0.4 * x], dim=-1),
        scales=torch.full((count**2, 3), 0.015),
        rotations=torch.tensor([1.0, 0, 0, 0]).repeat(count**2, 1),
        harmonics=((color_of_the_wall(x, y) - 0.5) / SH_DEGREE_0)[:, :, None],
        opacities=torch.full((count**2,), 0.95),
    )
    cameras = tuple(
        replace(view.camera, world2cam=world2cam)
        for view, world2cam in zip(views, WORLD2CAM.values(), strict=False)
    )
    nothing = torch.zeros(0, 3), torch.zeros(len(views), 0, 2)
    return Reconstruction(gaussians, cameras, (), *nothing, (), ())


def scaled(views: list[View], factor: float) -> Reconstruction:
    right = oracle(views)
    scale = torch.ones(4, 4)
    scale[:3, 3] = factor
    cameras = tuple(replace(c, world2cam=c.world2cam * scale) for c in right.cameras)
    return replace(right, gaussians=rescale(right.gaussians, factor), cameras=cameras)


def too_close(views: list[View]) -> Reconstruction:
    right = oracle(views)
    return replace(right, gaussians=rescale(right.gaussians, 0.7))


def tilted(views: list[View]) -> Reconstruction:
    right = oracle(views)
    turn = se3_exponential(torch.tensor([0.0, 0, 0, 0.04, -0.04, 0.04]))
    means = transform_points(right.gaussians.means, turn)
    return replace(right, gaussians=replace(right.gaussians, means=means))


def broken(views: list[View]) -> Reconstruction:
    raise RuntimeError("the photos show nothing")


def not_finite(views: list[View]) -> Reconstruction:
    right = oracle(views)
    cameras = tuple(replace(c, world2cam=c.world2cam * math.nan) for c in right.cameras)
    return replace(right, cameras=cameras)


def on_one_point(views: list[View]) -> Reconstruction:
    right = oracle(views)
    cameras = tuple(replace(camera, world2cam=torch.eye(4)) for camera in right.cameras)
    return replace(right, cameras=cameras)


def test_a_perfect_reconstruction_scores_high_in_everything(pair):
    scores = evaluate_pair(pair, oracle, QUICK).scores

    assert scores.failure is None
    assert scores.poses[0].pose_deg < 0.01
    for image in (scores.first_view, scores.targets[0].posed):
        assert image.psnr > 26
        assert image.ssim > 0.95
    assert scores.targets[0].photo == "target.png"
    assert scores.targets[0].aligned is None


def test_the_unit_of_length_does_not_matter(pair):
    one = evaluate_pair(pair, oracle, QUICK).scores
    other = evaluate_pair(pair, partial(scaled, factor=37.0), QUICK).scores
    assert other.targets[0].posed.psnr == pytest.approx(one.targets[0].posed.psnr, abs=0.1)


def test_a_depth_that_does_not_fit_the_baseline_costs_decibels_at_the_target_only(pair):
    right = evaluate_pair(pair, oracle, QUICK).scores
    wrong = evaluate_pair(pair, too_close, QUICK).scores
    assert wrong.targets[0].posed.psnr < right.targets[0].posed.psnr - 5
    assert wrong.first_view.psnr > 26


def test_three_views_are_scored_by_two_poses(data):
    scores = evaluate_pair(load_pairs(data)[1], oracle, QUICK).scores
    assert [error.pose_deg < 0.01 for error in scores.poses] == [True, True]
    assert scores.targets[0].posed.psnr > 26


def test_alignment_repairs_a_scene_that_is_turned_a_little(pair):
    config = EvaluationConfig(size=128)
    target = evaluate_pair(pair, tilted, config).scores.targets[0]
    assert target.posed.psnr < 15
    assert target.aligned.psnr > 25


@pytest.mark.parametrize(
    ("reconstruct", "reason"),
    [
        (broken, "RuntimeError: the photos show nothing"),
        (not_finite, "ValueError: the reconstruction is not finite"),
        (on_one_point, "ValueError: the reconstruction has all cameras on one point"),
    ],
)
def test_a_failure_is_named_and_counts_as_wrong_and_black(data, reconstruct, reason):
    triple = load_pairs(data)[1]
    scores = evaluate_pair(triple, reconstruct, EvaluationConfig(size=SIZE[0])).scores

    assert scores.failure == reason
    assert [error.pose_deg for error in scores.poses] == [FAILED_DEG, FAILED_DEG]
    side = (SIZE[1] - SIZE[0]) // 2
    square = triple.targets[0].load().image[:, :, side : side + SIZE[0]]
    black = psnr(torch.zeros_like(square), square)
    assert scores.targets[0].posed.psnr == pytest.approx(black)
    assert scores.targets[0].aligned == scores.targets[0].posed


def test_a_pair_with_a_photo_that_is_not_there_is_unusable_not_a_failure(pair, tmp_path):
    lost = replace(pair.views[1], path=tmp_path / "lost.png")
    unusable = evaluate_pair(replace(pair, views=(pair.views[0], lost)), oracle, QUICK)
    assert unusable.id == pair.id and "lost.png cannot be read" in unusable.reason


def test_the_picture_has_a_row_for_each_view_and_the_photos_on_the_left(pair):
    picture = evaluate_pair(pair, oracle, replace(QUICK, side_by_side=True)).side_by_side
    assert picture.shape == (3, 2 * 128, 2 * 128)
    assert psnr(picture[:, :, :128], picture[:, :, 128:]) > 26


def open_oracle():
    return oracle


def test_two_processes_find_what_one_finds(data):
    pairs, config = load_pairs(data), EvaluationConfig(views=False)
    alone = [result.scores for result in evaluate_pairs(pairs, open_oracle, config)]
    shared = [result.scores for result in evaluate_pairs(pairs, open_oracle, config, jobs=2)]
    assert [replace(score, seconds=0.0) for score in shared] == [
        replace(score, seconds=0.0) for score in alone
    ]


def scores_of(name: str, error_deg: float, psnrs: list[float], **changes) -> PairScores:
    images = [ImageScore(value, value / 100) for value in psnrs]
    usual = PairScores(
        id=name,
        scene="desk",
        difficulty="easy",
        low_parallax=False,
        failure=None,
        problems=(),
        seconds=1.0,
        poses=(PoseError(error_deg, 0.0, 0.0),),
        first_view=ImageScore(30.0, 0.9),
        targets=tuple(TargetScore("t.png", image, image) for image in images),
    )
    return replace(usual, **changes)


def test_groups_average_over_their_own_targets_and_poses():
    scores = [
        scores_of("a", 2.5, [10.0, 20.0]),
        scores_of("b", 180.0, [30.0], difficulty="hard", failure="ValueError: no"),
        scores_of("c", 0.0, [], scene="door", low_parallax=True),
    ]
    summaries = {summary.group: summary for summary in summarize(scores)}

    assert list(summaries) == ["all", "easy", "hard", "scene desk", "scene door"]
    everything = summaries["all"]
    assert everything.pairs == 3
    assert everything.failed == ("b",)
    assert everything.views.targets == 3
    assert everything.views.posed.psnr == pytest.approx(20)
    # from (0, 1/3) to (2.5, 2/3), then level to 5: (0.5 * 2.5 + 2/3 * 2.5) / 5
    assert everything.pose.auc5 == pytest.approx((0.5 + 2 / 3) / 2)
    # without the third pair: from (0, 0) to (2.5, 1/2), then level
    assert everything.pose_without_low_parallax.auc5 == pytest.approx((0.25 + 0.5) / 2)
    assert summaries["hard"].pose.auc20 == 0
    assert summaries["scene door"].pose_without_low_parallax is None
    assert summaries["scene door"].views.posed is None


def test_triples_have_a_row_of_their_own_and_are_in_no_other():
    pose = PoseError(1.0, 1.0, 1.0)
    triple = scores_of("t", 0.0, [10.0], poses=(pose, pose))
    summaries = summarize([scores_of("a", 1.0, [20.0]), triple])
    assert [summary.group for summary in summaries] == ["all", "easy", "scene desk", "three views"]
    assert summaries[0].views.posed.psnr == 20
    assert summaries[-1].pose.poses == 2


def test_ray_finds_what_one_process_finds(data, monkeypatch):
    ray = pytest.importorskip("ray")
    paths = [str(folder) for folder in Path(__file__).parents[1:3]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("RAY_worker_register_timeout_seconds", "600")  # for busy machines
    pairs, config = load_pairs(data), EvaluationConfig(views=False)
    lost = replace(
        pairs[0], id="lost", views=(replace(pairs[0].views[0], path=Path("no.png")),) * 2
    )
    pairs.append(lost)
    alone = list(evaluate_pairs(pairs, open_oracle, config))
    there = list(evaluate_pairs(pairs, open_oracle, config, jobs=2, engine="ray"))
    assert not ray.is_initialized()
    assert [timeless(result) for result in there] == [timeless(result) for result in alone]


def timeless(result):
    if isinstance(result, Unusable):
        return result
    return replace(result.scores, seconds=0.0)


def test_photos_that_cannot_be_read_do_not_end_an_evaluation(data, tmp_path):
    pair, triple = load_pairs(data)
    lost = replace(pair.views[1], path=tmp_path / "lost.png")
    pairs = [replace(pair, views=(pair.views[0], lost)), triple]
    bad, good = evaluate_pairs(pairs, open_oracle, EvaluationConfig(views=False))
    assert (bad.id, "lost.png cannot be read" in bad.reason) == (pair.id, True)
    assert good.scores.id == triple.id


def test_the_scenes_own_unit_is_taken_as_it_is_where_that_is_asked(pair):
    """The published networks are trained to make the baseline one."""
    baseline = float(pair.views[1].camera.world2cam[:3, 3].norm())
    own = replace(QUICK, keep_scale=True)
    right = evaluate_pair(pair, partial(scaled, factor=1 / baseline), own).scores
    wrong = evaluate_pair(pair, partial(scaled, factor=2 / baseline), own).scores
    assert right.targets[0].posed.psnr > 26
    assert wrong.targets[0].posed.psnr < 20


def test_means_over_pairs_weigh_every_pair_alike_and_bins_are_in_their_order():
    scores = [
        scores_of("a", 1.0, [10.0, 20.0], difficulty="large", overlap=0.7),
        scores_of("b", 1.0, [30.0], difficulty="small", overlap=0.1),
    ]
    summaries = summarize(scores)
    assert [summary.group for summary in summaries] == ["all", "small", "large"]
    assert summaries[0].views.posed.psnr == pytest.approx(20)
    assert summaries[0].views.posed_by_pair.psnr == pytest.approx(22.5)


def test_lpips_has_a_mean_only_where_all_pictures_have_one():
    known, unknown = ImageScore(20.0, 0.5, 0.3), ImageScore(20.0, 0.5)
    targets = [TargetScore("t", known, known), TargetScore("t", known, unknown)]
    [everything, *_] = summarize([replace(scores_of("a", 1.0, []), targets=tuple(targets))])
    assert everything.views.posed.lpips == pytest.approx(0.3)
    assert everything.views.aligned.lpips is None


def test_the_distribution_names_the_worst_and_interpolates_percentiles():
    scores = [scores_of(f"p{n}", float(n), [20.0 + n]) for n in range(7)]
    found = summarize(scores)[0].distribution
    assert found.psnr.p50 == 23
    assert found.psnr.p5 == pytest.approx(20.3)
    assert found.worst_views[0] == ("p0", 20.0)
    assert [name for name, _ in found.worst_poses] == ["p6", "p5", "p4", "p3", "p2"]


def test_a_comparison_counts_what_got_better_and_names_what_got_worse():
    alone = [scores_of(f"p{n}", 10.0, [20.0, 20.0]) for n in range(3)]
    refined = [
        scores_of("p0", 2.0, [22.0, 20.05]),
        scores_of("p1", 10.5, [18.0, 19.0]),
        scores_of("p2", 30.0, [20.0, 20.0]),
    ]
    found = compare(refined, alone)
    assert (found.targets, found.better, found.worse) == (6, 1, 2)
    assert found.mean_psnr_gain == pytest.approx((2 + 0.05 - 2 - 1) / 6)
    assert found.most_harmed == (("p1", pytest.approx(-1.5)),)
    assert (found.poses_better, found.poses_worse) == (1, 1)


def test_failures_draw_nothing_and_take_no_time(pair):
    scores = evaluate_pair(pair, broken, EvaluationConfig(size=64)).scores
    assert scores.parts.alignment is None
