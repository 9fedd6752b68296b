"""Memory of one picture is that of the next, also where the surroundings want all that is freed given back."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

PICTURES, PICTURE_BYTES, PAGE_BYTES = 40, 3_000_000, 4096  # of larger arrays NumPy asks for huge pages
CHILD = f"""
import resource, threading
import numpy as np
from rig.heap import keep_freed_memory

def fill_pictures():
    for _ in range({PICTURES}):
        np.empty({PICTURE_BYTES}, dtype=np.uint8).fill(1)

if {{keeps}}:
    keep_freed_memory()
thread = threading.Thread(target=fill_pictures)  # Dask works in one, too
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc is told")
def test_pictures_lie_in_memory_that_is_not_always_new() -> None:
    """Dask's workers start with this variable; the kernel counts the pages that it had to give."""
    surroundings = os.environ | {"MALLOC_TRIM_THRESHOLD_": "65536", "GLIBC_TUNABLES": ""}
    given_back, kept = (
        int(
            subprocess.run(
                [sys.executable, "-c", CHILD.format(keeps=keeps)],
                cwd=Path(__file__).parent.parent,
                env=surroundings,
                capture_output=True,
                check=True,
            ).stdout
        )
        for keeps in (False, True)
    )
    assert given_back - kept > 0.5 * PICTURES * PICTURE_BYTES / PAGE_BYTES
