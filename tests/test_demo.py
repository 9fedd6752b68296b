"""The whole of edenCar, end to end: `./edencar demo` with a short recording. The slowest tests there are."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from configs import Settings
from jobs import Task
from rig.errors import NoPositionError
from rig.workers import Link
from simulator import demo, stage
from simulator.demo import choose_port
from simulator.stage import Api, Child, DemoError
from simulator.verdict import Figures
from tests.browser.site import a_site, add_recording
from tests.machine import free_port

pytestmark = pytest.mark.timeout(240)
SHORT = ["--seconds", "12", "--size", "720", "--port", "0"]


def below(pid: int) -> set[int]:
    """Processes that a process started, and theirs; zombies do not count."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if int(parent) == pid and state != "Z":
            found |= {int(stat.parent.name)} | below(int(stat.parent.name))
    return found


def left_of(pids: set[int]) -> list[int]:
    """Which of these processes do not end soon."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in pids):
        time.sleep(0.1)
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def check(result: dict[str, Any], output: Path) -> None:
    """The figures are what a simulated car must give, and kept beside the photos."""
    figures = result["figures"]["all"]
    assert figures["photos"] >= 20
    assert figures["time_p95_ms"] < 20
    assert figures["time_covered_share"] == 1.0
    assert figures["interpolated_p95_m"] < 0.3 < figures["nearest_p95_m"]
    assert list(result["figures"]) == ["left", "right", "all"]
    folder = Path(result["recording"])
    assert folder.parent == output
    assert json.loads((folder / "demo.json").read_text()) == result
    assert (folder / "photos.csv").exists()
    assert (output / "demo-server.log").exists()


def test_a_video_becomes_photos_close_to_the_truth_and_is_served_until_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "demo", *SHORT, "--json", "--output", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("serving on"):
                break
        assert "serving on" in said[-1], "".join(said)
        children = below(process.pid)
        assert requests.get(f"{said[-1].split()[2]}/healthz", timeout=5).ok
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0
    assert left_of(children) == []
    check(json.loads(out), tmp_path)


def test_files_from_the_cards_become_photos_close_to_the_truth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = below(os.getpid())
    code = demo.main([*SHORT, "--exit", "--json", "--mode", "camera", "--output", str(tmp_path)])
    said = capsys.readouterr()
    assert code == 0, said.err
    check(json.loads(said.out), tmp_path)
    assert below(os.getpid()) <= before


def test_a_server_that_cannot_start_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = below(os.getpid())
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert demo.main([*SHORT, "--exit", "--cameras", "1", "--output", str(tmp_path)]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("demo: the server ended by itself")
    assert "demo-server.log" in error[1]
    assert any("another edenCar" in line for line in error[2:])
    assert below(os.getpid()) <= before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_demo_is_ended_early(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "demo", *SHORT, "--cameras", "1", "--output", str(tmp_path)]
    environ = os.environ | {"TMPDIR": str(tmp_path)}  # who is killed leaves files
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "recording" in line:
                break
        children = below(process.pid)
        assert len(children) >= 4
        process.send_signal(number)
        code = process.wait(60)
        assert code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
    assert left_of(children) == []


def test_a_taken_port_is_replaced_and_said() -> None:
    said: list[str] = []
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wanted = taken.getsockname()[1]
        assert choose_port(wanted, said.append) not in (0, wanted)
    assert len(said) == 1
    assert str(wanted) in said[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "3"], "the phone alone needs 10"),
        (["--seconds", "nan"], "--seconds nan cannot be"),
        (["--seconds", "inf"], "--seconds inf cannot be"),
        (["--port", "99999"], "no TCP port"),
    ],
)
def test_options_that_cannot_be_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        demo.main(arguments)
    assert refused.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main(["--output", "/proc/nowhere"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_log_that_cannot_be_written_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo-server.log").mkdir()
    assert demo.main(["--output", str(tmp_path), "--size", "720"]) == 1
    assert capsys.readouterr().err == (
        f"demo: {tmp_path / 'demo-server.log'} cannot be written (Is a directory): name another --output\n"
    )


@pytest.mark.parametrize(("most_load", "height", "is_slow"), [(1e9, 1080, False), (0.0, 720, True)])
def test_pictures_are_as_large_as_this_machine_can_draw(
    most_load: float, height: int, is_slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "MEASURING_S", 0.01)
    monkeypatch.setattr(demo, "MOST_LOAD", most_load)
    said: list[str] = []
    assert demo.choose_height(2, said.append) == height
    assert said[0].startswith(f"pictures of {height} rows")
    assert ("this machine is slow" in said[0]) is is_slow


def test_figures_that_are_not_sane_are_told() -> None:
    none = Figures(0, *[None] * 10)
    good = Figures(100, 0.1, 2.0, 5.0, 6.0, 1.0, 0.5, 1.0, 0.02, 0.05, 1.0)
    assert demo._doubts(none) == ["no photo could be compared with the truth"]
    assert demo._doubts(good) == []
    assert "of the times are within 25.0 ms" in demo._doubts(replace(good, time_p95_ms=25.0))[0]
    assert len(demo._doubts(replace(good, interpolated_p95_m=2.0))) == 2, "far, and no better than the nearest fix"
    assert len(demo._doubts(replace(good, interpolated_p95_m=None, nearest_p95_m=None))) == 2


def fail(_link: Link, _task: Task, _settings: Settings) -> None:
    raise NoPositionError("no photo has a position", cure="look for the log")


def test_a_server_that_refuses_or_fails_is_told_in_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = add_recording(tmp_path, seconds=2)
    with (
        (tmp_path / "log").open("w") as log,
        a_site(tmp_path, work=fail) as site,
        Child("server", [sys.executable, "-c", "input()"], log, {}) as child,
        Api(site.url().rstrip("/"), child) as api,
    ):
        with pytest.raises(DemoError, match="processing failed: no photo has a position"):
            demo._process(api, recording, print)
        with pytest.raises(DemoError, match=r"GET /api/jobs/none is answered 404: "):
            api.call("GET", "/api/jobs/none")
        with pytest.raises(DemoError, match=r"GET / : |JSONDecodeError"):
            api.call("GET", "/")
        with pytest.raises(
            DemoError, match=r'the fix did not come within 0 s; /api/status last said \{"state": "idle"'
        ):
            api.wait("/api/status", lambda _: False, 0.01, "the fix")
        assert child.process.stdin
        child.process.stdin.close()
        child.process.wait()
        with pytest.raises(DemoError, match="the server ended by itself with exit code"):
            api.call("GET", "/api/status")


def test_a_program_that_does_not_end_when_asked_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "STOP_S", 0.1)
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(99)"
    )
    with (tmp_path / "log").open("w") as log, Child("deaf", [sys.executable, "-c", deaf], log) as child:
        assert child.read_line(60) == "deaf\n"
    assert child.process.returncode == -signal.SIGKILL


def test_a_program_that_says_nothing_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "input()"]
    with (
        (tmp_path / "log").open("w") as log,
        Child("mute", command, log) as child,
        pytest.raises(DemoError, match="the mute was not ready within 0 s"),
    ):
        child.read_line(0.1)


def test_a_car_that_is_gone_is_told() -> None:
    with pytest.raises(DemoError, match="the simulated car does not answer"):
        stage.show_phone(f"http://127.0.0.1:{free_port()}", None)


def test_a_port_that_is_lost_at_the_last_moment_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another demo took it after this one had found it free."""
    tried: list[int] = []

    @contextmanager
    def serve(_car: object, _output: object, port: int, _log: object) -> Iterator[str]:
        tried.append(port)
        if len(tried) == 1:
            raise DemoError("the server ended by itself with exit code 7")
        yield "served"

    monkeypatch.setattr(demo, "real_server", serve)
    plan = demo.Plan(seconds=8, output=tmp_path, port=0, cameras=1, height=720, mode="video")
    with (tmp_path / "log").open("w") as log, demo._serving(plan, {}, log, print) as api:
        assert str(api) == "served"
    assert len(tried) == 2
