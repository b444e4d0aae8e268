"""Quality of poses and views on three small pairs: a change of a number is seen.

The pairs are procedural worlds (a table top, a room, a garden) photographed at 384x288 with noise
as textures; `pairs.json` holds their true cameras. SIFT alone matches them, so that what other
processors round differently stays within the tolerances.
"""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
RECORDED = {  # degrees of rotation and direction; dB of a new view and of view 1
    "table": (0.10, 0.85, 21.79, 35.96),
    "room": (0.16, 3.52, 24.11, 36.85),
    "garden": (0.09, 1.52, 24.22, 44.25),
}
TOLERANCES = (0.05, 0.2, 0.1, 0.1)


@pytest.mark.quality
@pytest.mark.parametrize("world", RECORDED)
def test_poses_and_views_are_as_good_as_recorded(nps, tmp_path: Path, world: str):
    entries = json.loads((FOLDER / "pairs.json").read_text())
    entry = next(entry for entry in entries if entry["id"] == world)
    entry["images"] = [str(FOLDER / image) for image in entry["images"]]
    for target in entry["targets"]:
        target["image"] = str(FOLDER / target["image"])
    data, report = tmp_path / "pairs.json", tmp_path / "report.json"
    data.write_text(json.dumps([entry]))

    ran = nps("evaluate", data, "--pose", "--views", "--no-align", "--jobs", 1, "-o", report)

    assert ran.code == 0, ran.err
    pair = json.loads(report.read_text())["pairs"][0]
    (pose,), (target,) = pair["poses"], pair["targets"]
    found = (
        pose["rotation_deg"],
        pose["translation_deg"],
        target["posed"]["psnr"],
        pair["first_view"]["psnr"],
    )
    for value, recorded, tolerance in zip(found, RECORDED[world], TOLERANCES, strict=True):
        assert value == pytest.approx(recorded, abs=tolerance), found
