"""Damaged files of every kind end in a result or in one sentence: soon, and in little memory.

For `FUZZ_MINUTES`, which the kinds share, or half a minute. What fails is left in the test's
folder, as small as hypothesis could make it.
"""

import itertools
import os
import sys
import time
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("limits on memory are Linux's", allow_module_level=True)

import fuzz.camera_kinds
import fuzz.photo_kinds
import fuzz.weight_kinds  # noqa: F401
from fuzz.kinds import KINDS
from fuzz.limits import PICTURES, SMALL_FILE, check_run, empty, parse_once
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0.5))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
WARM_UP = 5  # cases, which import and compile
FIRST_SEED = int(os.environ.get("FUZZ_SEED", 0))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_ends_in_a_result_or_in_one_sentence(
    kind: str, tmp_path: Path, request, record_property, monkeypatch
):
    share = 60 * MINUTES * min(WORKERS, len(KINDS)) / len(KINDS)
    start, ran = time.monotonic(), 0
    monkeypatch.setenv("HOME", str(tmp_path))
    slow = kind == "pictures"
    if not slow:
        request.getfixturevalue("fake_pipeline")
    limits = PICTURES if slow else SMALL_FILE
    examples = (100 if share > 10 else 10) // (1 + 4 * slow)
    valid, cases = tmp_path / "valid", tmp_path / "case"
    valid.mkdir(), cases.mkdir()
    make = KINDS[kind](valid)
    parse_once()

    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(st.data())
    def run(data: DataObject) -> None:
        nonlocal ran
        empty(cases)
        ran += 1
        check_run(make(data, cases), limits if ran > WARM_UP else None)

    for number in itertools.count(FIRST_SEED):
        seed(number)(run)()
        if time.monotonic() > start + share:
            break
    record_property("fuzz", f"{kind} {ran} cases in {time.monotonic() - start:.0f} s")
