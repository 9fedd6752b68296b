"""GoPro's own SDK, and its own programs, take the virtual camera for a real one.

It needs a Python of its own, because it is large and wants packages of other versions:
    python3 -m venv .venv-open-gopro && .venv-open-gopro/bin/pip install "open-gopro>=0.22,<0.24"
OPEN_GOPRO_VENV names another folder.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest

from simulator.hero import models
from tests.gopros import running

ROOT = Path(__file__).parents[2]
SESSION = Path(__file__).with_name("open_gopro_session.py")
VENV = Path(os.environ.get("OPEN_GOPRO_VENV", ROOT / ".venv-open-gopro"))
BLACKS = [name for name in models.names() if not name.endswith("Mini")]
NOT_IN_SDK = {28}  # a status of the document
OLD_FIRMWARE = {"HERO9 Black": "01.22.00"}  # the last that records on command over USB

pytestmark = pytest.mark.skipif(
    not (VENV / "bin/gopro-video").exists(), reason=f"GoPro's SDK is not installed in {VENV.name}: see this file"
)


def run(*arguments: str | Path, folder: Path) -> str:
    command = [VENV / "bin/python", SESSION, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("model", BLACKS)
def test_the_sdk_opens_reads_changes_records_downloads_deletes_and_streams(model: str, tmp_path: Path) -> None:
    with running(model=model, firmware=OLD_FIRMWARE.get(model)) as camera:
        found: dict[str, Any] = json.loads(run(camera.address, tmp_path, "shutter", folder=tmp_path))
    known = models.load(model)
    assert set(map(int, found["statuses"])) == set(known.statuses) - NOT_IN_SDK
    assert found["statuses"]["30"] == model
    assert found["settings"] > 20
    assert (found["version"], found["keep_alive"], found["presets"], found["auto_power_down"]) == ("2.0", True, 3, True)
    assert found["anti_flicker"] == ([1, 0] if model == "HERO13 Black" else [3, 2])
    assert found["webcam"] == [[2, 0], [2, 0], [3, 0], [1, 0], [0, 0]]
    assert found["preview"] == [True, True]
    video = f"G{known.traits.file_letter}010001.MP4"
    assert found["media"].pop("left") == 0
    assert set(found["media"]) == {video, "GOPR0002.JPG"}
    assert all(told["bytes"] == (tmp_path / name).stat().st_size for name, told in found["media"].items())
    assert (tmp_path / video).with_suffix(".gpmf").read_bytes().startswith(b"DEVC")
    assert (tmp_path / "GOPR0002.screen.jpg").read_bytes().startswith(b"\xff\xd8\xff")


def test_a_hero9_of_today_is_opened_read_and_streams(tmp_path: Path) -> None:
    with running(model="HERO9 Black") as camera:
        found = json.loads(run(camera.address, tmp_path, folder=tmp_path))
    assert (found["version"], found["webcam"][0], found["media"]) == ("2.0", [2, 0], {"left": 0})


@pytest.mark.parametrize("model", ["HERO10 Black", "HERO13 Black"])
def test_gopros_own_programs_take_a_video_and_a_photo(model: str, tmp_path: Path) -> None:
    wired = ("--wired", "--identifier", "000", "--log", tmp_path / "log")
    with running(model=model) as camera:
        said = run(camera.address, "demo", "video", *wired, "-r", "1", "-o", tmp_path / "film", folder=tmp_path)
        assert "Success!!" in said
        said = run(camera.address, "demo", "photo", *wired, "--output", tmp_path / "photo.jpg", folder=tmp_path)
        assert "Success!!" in said
    with av.open(str(tmp_path / "film.mp4")) as film:
        assert 20 < sum(1 for _ in film.decode(video=0)) < 180
    assert (tmp_path / "film.gpmf").read_bytes().startswith(b"DEVC")
    assert (tmp_path / "photo.jpg").read_bytes().startswith(b"\xff\xd8\xff")


# A network of its own, in which a camera has the address that its serial number says.
NETWORK = """
ip link set lo up && ip link set lo multicast on && ip addr add 172.27.111.51/24 dev lo || exit 77
ip route add 224.0.0.0/4 dev lo || exit 77
"$1" -m simulator camera --host 172.27.111.51 --http-port 8080 --serial C3501324500711 --size 180 --mdns > "$3/ready" &
until [ -s "$3/ready" ]; do kill -0 $! || exit 3; sleep 0.1; done
cd "$3"
"$2/bin/gopro-photo" --wired --identifier 711 --output by-serial.jpg --log log1
"$2/bin/gopro-photo" --wired --output by-mdns.jpg --log log2
kill $! && wait $!
"""


@pytest.mark.skipif(shutil.which("unshare") is None or shutil.which("ip") is None, reason="no unshare or ip")
def test_the_sdk_as_it_comes_finds_the_camera_by_serial_number_and_by_mdns(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command: list[str | Path] = ["unshare", "-rn", "sh", "-c", NETWORK, "sh", sys.executable, VENV, tmp_path]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110, check=False)
    if done.returncode in (1, 77) and not (tmp_path / "ready").exists():
        pytest.skip(f"this machine gives no network of its own: {done.stderr.strip()}")
    for name in ("by-serial.jpg", "by-mdns.jpg"):
        assert (tmp_path / name).read_bytes().startswith(b"\xff\xd8\xff"), done.stdout
