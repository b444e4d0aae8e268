"""Damaged files of every kind end in a result or in one sentence: soon, and in little memory.

For `FUZZ_MINUTES`, which the kinds share, or half a minute. What fails is left in the test's
folder, as small as hypothesis could make it.
"""

import os
import sys
import time
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("limits on memory are Linux's", allow_module_level=True)

from fuzz.cases import CASES
from fuzz.limits import check_run, empty, parse_once
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

MINUTES = float(os.environ.get("FUZZ_MINUTES", 0.5))
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
WARM_UP = 5  # cases, which import and compile
FIRST_SEED = int(os.environ.get("FUZZ_SEED", 0))


@pytest.mark.parametrize("kind", CASES)
def test_damage_ends_in_a_result_or_in_one_sentence(
    kind: str, tmp_path: Path, fake_pipeline, record_property, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    valid, cases = tmp_path / "valid", tmp_path / "case"
    valid.mkdir(), cases.mkdir()
    make = CASES[kind](valid)
    parse_once()
    ran, share = 0, 60 * MINUTES * min(WORKERS, len(CASES)) / len(CASES)

    @settings(
        max_examples=20 if share < 60 else 500,
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
        check_run(make(data, cases), limited=ran > WARM_UP)

    number = FIRST_SEED
    seed(number)(run)()
    until = time.monotonic() + share
    while time.monotonic() < until:
        seed(number)(run)()
        number += 1
    record_property("fuzz", f"{kind} {ran} cases in {share:.0f} s")
