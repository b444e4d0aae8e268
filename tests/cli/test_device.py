"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from nps_cli.device import keep_freed_memory
if {keep}:
    keep_freed_memory()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(2**26, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_large_block_is_reused_without_asking_the_system_for_pages():
    def faults(keep: bool) -> int:
        script = SCRIPT.format(keep=keep)
        ran = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        return int(ran.stdout)

    assert faults(keep=True) < faults(keep=False) / 4
