"""Freed memory stays with a process that mixes or trains."""

import subprocess
import sys

import pytest

USES = """
import resource, torch
from hifitse.params import resolve
from hifitse.data.mixing import Mixer
if {kept}:
    Mixer(resolve("smoke"), "train")
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(25_000_000)  # 100 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told")
def test_a_process_that_mixes_takes_memory_anew_without_page_faults():
    freed, kept = (
        int(subprocess.run([sys.executable, "-c", USES.format(kept=k)], capture_output=True, text=True, check=True).stdout)
        for k in (False, True)
    )
    assert kept < 1000, f"page faults of ten uses of 100 MB: {kept}"
    assert freed > 2 * kept, "without it the system clears the pages for each use"
