"""The Pi's clock jumps by years in mid-recording, in all processes at once: nothing of the recording notices."""

import re
import shutil
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from rig.clock import parse_utc
from tests.faults.rig import SERIALS, SURELY_S, Server, check_gaps, wait_for

SOURCE = Path(__file__).with_name("realshift.c")
YEAR_S = 365 * 86400
BUSY_S = 30.0  # what a busy machine may take for anything, far less than any of the jumps
PROJECT = Path(__file__).parents[2]
# Where the wall clock is read: as the last resort, beside CLOCK_MONOTONIC for the log, and for the kernel's own stamps.
EDGES = {"rig/clock.py", "rig/footage/stream.py", "rig/gnss/receiver.py"}


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    built = tmp_path_factory.mktemp("shift") / "realshift.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(built), str(SOURCE), "-ldl"], check=True)
    return built


@pytest.mark.parametrize(
    "jump_s", [YEAR_S, *(pytest.param(jump, marks=pytest.mark.long) for jump in (-50 * YEAR_S, -3600))]
)
def test_a_jump_of_the_wall_clock_changes_nothing(
    stopped_server: Server, library: Path, tmp_path: Path, jump_s: int
) -> None:
    server, shift = stopped_server, tmp_path / "shift"
    shift.write_text("0")
    server.start({"LD_PRELOAD": str(library), "SHIFT_FILE": str(shift)})
    server.ready(2)
    recording_id = server.record()
    begun_s = time.monotonic() - server.status["recording"]["elapsed_s"]
    time.sleep(1.5)
    workers = server.workers
    shift.write_text(str(jump_s))
    for _ in range(8):
        time.sleep(0.5)
        status = server.status
        assert abs(status["recording"]["elapsed_s"] - (time.monotonic() - begun_s)) < BUSY_S
        assert (status["receiver"]["fix_age_s"] or 0) < BUSY_S
        assert status["time"]["source"] == "gnss"
    assert server.workers == workers
    (camera, _) = status["cameras"]
    assert camera["fps"] > 5
    stopped = server.call("POST", "/api/stop")["recording"]
    length_s = (parse_utc(stopped["stopped"]) - parse_utc(stopped["started"])) / 1e9
    assert abs(length_s - (time.monotonic() - begun_s)) < BUSY_S
    assert abs(datetime.fromisoformat(stopped["started"]).timestamp() - time.time()) < 60
    for device in ("receiver", *(f"camera {serial}" for serial in SERIALS)):
        assert all(end - begin < SURELY_S * 1e9 for begin, end in check_gaps(server, recording_id, device))
    assert wait_for(lambda: server.manifest(recording_id)["state"]) == "finished"
    server.end()


def test_the_wall_clock_is_read_at_the_edges_only() -> None:
    files = [*PROJECT.glob("*.py"), *(PROJECT / "rig").rglob("*.py")]
    readers = {
        str(file.relative_to(PROJECT))
        for file in files
        if re.search(
            r"\btime\.time(_ns)?\(|gettime(_ns)?\(time\.CLOCK_REALTIME|datetime\.(now|utcnow)\(",
            file.read_text(encoding="utf-8"),
        )
    }
    assert readers <= EDGES
