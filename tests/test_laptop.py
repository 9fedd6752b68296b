"""`parseVideo.py` and `parsePhotos.py` on a laptop: without what serves and drives, and without what only Linux has."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from simulator.phone import Phone
from tests.albums import album
from tests.films import BEGIN_NS, steady, write_film

ROOT = Path(__file__).parent.parent
# What a server, a car and its receiver need: a laptop that makes photos has none of it.
CAR_ONLY = ("flask", "waitress", "werkzeug", "serial", "zeroconf", "requests", "urllib3", "ifaddr", "psutil")
FLEET_ONLY = ("dask", "distributed", "fsspec", "s3fs")
# No other system is here to run on; this one says that it is another and hides what that one lacks. Libraries of others
# and Python's own are loaded before: they are made for the system that they find.
MODULES = {"win32": ("fcntl", "termios", "resource", "pwd", "grp"), "darwin": ()}
FUNCTIONS = {  # of os; sendfile is there on a Mac, for sockets only
    "win32": ("fdatasync", "sched_getaffinity", "sendfile", "fchmod", "O_DIRECTORY", "O_CLOEXEC", "nice"),
    "darwin": ("fdatasync", "sched_getaffinity", "sendfile"),
}
CHILD = """
import os, runpy, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent}:
            raise ImportError(name + " is not there")
sys.meta_path.insert(0, Absent())
import multiprocessing.connection, subprocess  # of the system that is here
import av, cv2, numpy, pandas, segno, zxingcpp
for name in {absent}:
    sys.modules.pop(name, None)
for name in {lacking}:
    delattr(os, name)
sys.platform = {system!r}
sys.argv = {words}
sys.path.insert(0, {root!r})
runpy.run_path(os.path.join({root!r}, sys.argv[0]), run_name="__main__")
"""


def run(system: str, folder: Path, *words: object) -> dict[str, object]:
    """What a script says with --json on such a system."""
    child = CHILD.format(
        absent=(*CAR_ONLY, *FLEET_ONLY, *MODULES[system]),
        lacking=FUNCTIONS[system],
        system=system,
        words=[str(word) for word in (*words, "--json")],
        root=str(ROOT),
    )
    command = [sys.executable, "-c", child]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    return said


@pytest.mark.parametrize("system", sorted(MODULES))
def test_a_video_becomes_photos_with_time_and_place(system: str, tmp_path: Path) -> None:
    phone = Phone(shown=((BEGIN_NS, None),))
    write_film(tmp_path / "film.mp4", steady(75), phone=phone)
    track(tmp_path / "track.gpx")
    run(system, tmp_path, "parseVideo.py", "film.mp4", "--output", "out", "--format", "geojson,gpkg,kml")
    run(system, tmp_path, "parsePhotos.py", "out", "--positions", "track.gpx")
    rows = (tmp_path / "out/photos.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) > 3
    assert all(",hermite,47." in row for row in rows[2:-1])
    assert not (tmp_path / "out/photos.part").exists()


@pytest.mark.parametrize("system", sorted(MODULES))
def test_photos_of_any_camera_get_their_place(system: str, tmp_path: Path) -> None:
    album(tmp_path / "DCIM", [BEGIN_NS + second * 10**9 for second in range(3)], coded=(0, 1, 2))
    track(tmp_path / "track.gpx")
    run(system, tmp_path, "parsePhotos.py", "DCIM", "--positions", "track.gpx", "--output", "tagged")
    assert len(list((tmp_path / "tagged/photos").rglob("*.JPG"))) == 3


def track(path: Path) -> None:
    """A way of ten seconds around the films, five fixes a second."""
    points = "".join(
        f'<trkpt lat="{47 + tenth * 1e-5:.6f}" lon="-1.27"><ele>35</ele>'
        f"<time>2026-11-22T14:03:{10 + tenth / 10:06.3f}Z</time></trkpt>"
        for tenth in range(0, 100, 2)
    )
    path.write_text(
        '<?xml version="1.0"?><gpx version="1.1" creator="test" xmlns="http://www.topografix.com/GPX/1/1">'
        f"<trk><trkseg>{points}</trkseg></trk></gpx>",
        encoding="utf-8",
    )
