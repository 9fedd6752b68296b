"""Where the privacy command fails, in whatever way, the photo does not come through."""

import sys
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from rig.photo.privacy import PrivacyError, make_private
from tests.machine import wait_for

GREY = np.full((40, 60, 3), 200, dtype=np.uint8)
BLACKEN = "import cv2, sys; p = cv2.imread(sys.argv[1]); p[:] = 0; cv2.imwrite(sys.argv[1], p)"
SHRINK = "import cv2, sys; cv2.imwrite(sys.argv[1], cv2.imread(sys.argv[1])[:20])"


def jpeg() -> bytes:
    return bytes(cv2.imencode(".jpg", GREY)[1].tobytes())


def brightness(data: bytes) -> float:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return float(picture.mean())


def is_alive(pid: int) -> bool:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("place", [["{}"], []])
def test_what_comes_out_is_what_the_command_left(place: list[str]) -> None:
    assert brightness(make_private(jpeg(), [sys.executable, "-c", BLACKEN, *place], 30)) < 5
    assert make_private(jpeg(), (), 30) == jpeg()


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit('no faces found')", "ended with 1: no faces found"),
        ("import time; time.sleep(60)", "longer than 2 s"),
        ("import os, sys; os.remove(sys.argv[1])", "left no JPEG"),
        ("import sys; open(sys.argv[1], 'w').write('gone')", "left no JPEG"),
        (SHRINK, "changed the size"),
        ("import os, sys; os.truncate(sys.argv[1], os.path.getsize(sys.argv[1]) - 9)", "cut off"),
    ],
)
def test_a_failure_of_any_kind_is_told(program: str, why: str) -> None:
    with pytest.raises(PrivacyError, match=why):
        make_private(jpeg(), [sys.executable, "-c", program], 2 if "sleep" in program else 30)


def test_what_the_command_has_started_ends_with_it(tmp_path: Path) -> None:
    """As a shell script that waits for a program does: the shell alone would leave it behind."""
    said = tmp_path / "pid"
    script = f"sleep 600 & echo $! > {said}; wait"
    with pytest.raises(PrivacyError, match="longer than 1 s"):
        make_private(jpeg(), ["sh", "-c", script], 1)
    wait_for(lambda: not said.exists() or not is_alive(int(said.read_text() or 0)))


def test_a_command_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="cannot be run"):
        make_private(jpeg(), [str(tmp_path / "nothing")], 30)
