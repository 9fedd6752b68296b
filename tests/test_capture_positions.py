"""The receiver on real pseudo terminals: found, logged, lost and found again; logs replayed; the command's answers."""

import csv
import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import capturePositions
from capturePositions import (
    CaptureSummary,
    ReceiverStatus,
    main,
    receiver_worker,
    replay,
)
from configs import Settings
from rig.clock import NS_PER_S
from rig.errors import ConflictError, DeviceError, DeviceNotFoundError, NoSpaceError
from rig.gnss import port as rig_port
from rig.gnss import receiver as receiver_module
from rig.gnss.nmea import read_log
from rig.gnss.port import find_port
from rig.gnss.positionlog import CSV_HEADER, INDEX_HEADER, Arrivals, PositionLog
from rig.gnss.positions import Track
from rig.gnss.receiver import Receiver
from rig.workers import StartCapture, StopCapture, Worker
from simulator.receiver import Receiver as SimulatedReceiver
from simulator.world import Street, World
from tests.machine import wait_for

PROJECT = Path(__file__).parents[1]
BURST = (
    b"$GPGGA,153530.00,4710.11000000,N,00116.04400000,W,4,18,0.7,68.000,M,47.500,M,1.0,0123*67\r\n"
    b"$GPRMC,153530.00,A,4710.11000000,N,00116.04400000,W,14.50,16.20,230324,0.4,E,R*34\r\n"
)
Simulate = Callable[..., SimulatedReceiver]


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Simulate]:
    """Start simulated receivers on `tmp_path`/gnss, with their truth in `tmp_path`."""
    running = []

    def start(**options: Any) -> SimulatedReceiver:
        now_ns = time.time_ns()
        world = World(now_ns, time.monotonic_ns())
        street = Street(start_utc_ns=now_ns - 8_000_000_000)
        receiver = SimulatedReceiver(tmp_path / "gnss", world, street, truth=tmp_path, **{"rate_hz": 20} | options)
        running.append(receiver)
        receiver.start()
        return receiver

    yield start
    for receiver in running:
        receiver.stop()


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """Both ends of a serial line: a number to write to, a device to read from."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    for number in (master, slave):
        with suppress(OSError):
            os.close(number)


@pytest.fixture
def reader() -> Iterator[Callable[..., Receiver]]:
    """Start readers of a port, stopped at the end."""
    running = []

    def start(device: object, baud: int = 115_200) -> Receiver:
        running.append(Receiver(Settings(receiver_port=str(device), receiver_baud=baud)))
        running[-1].start()
        return running[-1]

    yield start
    for receiver in running:
        receiver.stop_log()
        receiver.stop()


def capture_positions(port: object, folder: Path, seconds: float, baud: int = 0) -> CaptureSummary:
    settings = Settings(receiver_port=str(port), receiver_baud=baud)
    return capturePositions.capture_positions(settings, folder, seconds)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "positions.csv").open() as file:
        return list(csv.DictReader(file))


def assert_true(rows: list[dict[str, str]], truth: Path, metres: float) -> None:
    """All rows with a position are where the simulator was."""
    with (truth / "fixes.csv").open() as file:
        known = {row["utc_ns"]: row for row in csv.DictReader(file)}
    for row in rows:
        if row["latitude"]:
            right = known[row["utc_ns"]]
            assert abs(float(row["latitude"]) - float(right["latitude"])) * 111_195 < metres
            assert abs(float(row["longitude"]) - float(right["longitude"])) * 76_000 < metres


# The command


def test_replay_writes_three_files_and_a_second_run_replaces_them(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = shared_data / "nmea" / "synthetic" / "damaged.nmea"
    contents = []
    for _ in range(2):
        assert main(["--port", str(log), "--output", str(tmp_path / "out"), "--json"]) == 0
        summary = json.loads(capsys.readouterr().out)
        assert (summary["epochs"], summary["positions"], summary["baud"]) == (60, 60, None)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert contents[0] == contents[1]
    assert contents[0].keys() == {"positions.csv", "raw.nmea", "raw.idx"}
    assert contents[0]["raw.nmea"] == log.read_bytes()
    assert contents[0]["raw.idx"] == INDEX_HEADER.encode()
    rows = rows_of(tmp_path / "out")
    assert {row["arrival_monotonic_ns"] for row in rows} == {""}
    assert [row["utc"] for row in rows] == [fix.utc for fix in read_log(log)]


@pytest.mark.parametrize(
    ("options", "exit_code", "says"),
    [
        (["--port", "/dev/nothing-here"], 6, "there is no port /dev/nothing-here"),
        (["--port", str(PROJECT / "configs.py")], 3, "no NMEA sentence"),
        (["--port", str(PROJECT)], 3, "cannot be read"),
        (["--port", "/dev/null"], 7, "/dev/null"),
        (["--baud", "fast"], 2, "neither auto nor a rate"),
        (["--duration", "0"], 2, "not a number of seconds above 0"),
        (["--duration", "nan"], 2, "not a number of seconds above 0"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(
    options: list[str], exit_code: int, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options, "--output", str(tmp_path / "out")]) == exit_code
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_a_signal_ends_a_capture_and_says_what_was_kept(simulate: Simulate, tmp_path: Path) -> None:
    simulate()
    command = [sys.executable, "capturePositions.py", "--port", str(tmp_path / "gnss"), "--baud", "115200", "--output"]
    for number in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / number.name
        with subprocess.Popen([*command, str(out)], cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
            wait_for(lambda out=out: (out / "positions.csv").exists() and len(rows_of(out)) > 5, 20)  # type: ignore[misc]
            process.send_signal(number)
            _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert re.search(rf"(?m)^{len(rows_of(out))} epochs are in {out}\n.*interrupted", said)


def test_a_full_disk_ends_a_capture(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    simulate()
    monkeypatch.setattr(PositionLog, "add_bytes", full)
    command = ["--port", str(tmp_path / "gnss"), "--baud", "115200", "--output", str(tmp_path / "out")]
    assert main([*command, "--duration", "60"]) == 8
    assert capsys.readouterr().err.count("\n") == 1


def test_help_names_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(option in text for option in ("--port", "--baud", "--output", "--duration", "--json", "-v"))


def test_capture_is_true_stamped_and_can_be_done_again_from_its_bytes(simulate: Simulate, tmp_path: Path) -> None:
    simulate(sentences="GSA,GGA,RMC,GST,VTG,ZDA,GSV@1")
    summary = capture_positions(tmp_path / "gnss", tmp_path / "out", 2.0)
    rows = rows_of(tmp_path / "out")
    assert summary.baud == 115_200
    assert summary.epochs == summary.positions == len(rows) >= 25
    assert_true(rows, tmp_path, 0.05)
    assert {row["flags"] for row in rows} == {""}
    late_ms = sorted((int(row["arrival_utc_ns"]) - int(row["utc_ns"])) / 1e6 for row in rows)
    # On a busy machine the end of a burst comes late, and lends its time to an epoch that is read with it.
    assert late_ms[0] >= 4.0 - receiver_module.LONG_READ_NS / 1e6
    assert next(ms for ms in late_ms if ms >= 4.0) < 15  # and it is late for most of them
    again = replay(tmp_path / "out" / "raw.nmea", tmp_path / "again")
    assert again.epochs == summary.epochs
    untimed = {"hdop", "pdop", "vdop"}  # of GSA: after a pause within a burst they may have gone to the next epoch
    for one, other in zip(rows, rows_of(tmp_path / "again"), strict=True):
        assert {name for name, value in one.items() if other[name] != value} <= untimed


def test_replay_into_its_own_folder_keeps_the_bytes(simulate: Simulate, tmp_path: Path) -> None:
    simulate()
    capture_positions(tmp_path / "gnss", tmp_path / "out", 0.5)
    before = [(tmp_path / "out" / name).read_bytes() for name in ("raw.nmea", "raw.idx")]
    replay(tmp_path / "out" / "raw.nmea", tmp_path / "out")
    assert before == [(tmp_path / "out" / name).read_bytes() for name in ("raw.nmea", "raw.idx")]


def test_a_second_capture_continues_the_first(simulate: Simulate, tmp_path: Path) -> None:
    simulate()
    epochs = [capture_positions(tmp_path / "gnss", tmp_path / "out", 0.5, 115_200).epochs for _ in range(2)]
    text = (tmp_path / "out" / "positions.csv").read_text()
    assert text.count("utc,utc_ns") == 1
    assert text.count("\n") == sum(epochs) + 1
    offsets = [int(row.split(",")[0]) for row in (tmp_path / "out" / "raw.idx").read_text().splitlines()[1:]]
    assert offsets == sorted(offsets)
    raw = (tmp_path / "out" / "raw.nmea").read_bytes()
    assert offsets[-1] < len(raw)


def test_receiver_that_stays_away_is_exit_code_7(simulate: Simulate, tmp_path: Path) -> None:
    simulated = simulate()
    simulated.set_fault("unplug", 30.0)
    time.sleep(0.1)
    simulated.stop()
    simulated = simulate()
    command = [sys.executable, "capturePositions.py", "--port", str(tmp_path / "gnss"), "--duration", "2.5", "--baud"]
    with subprocess.Popen(
        [*command, "115200", "--output", str(tmp_path / "out")], cwd=PROJECT, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: (tmp_path / "out" / "positions.csv").exists() and len(rows_of(tmp_path / "out")) > 5)
        simulated.stop()
        _, said = process.communicate(timeout=20)
    assert process.returncode == 7
    assert "has vanished" in said.splitlines()[-1]
    assert len(rows_of(tmp_path / "out")) > 5


# The port


def test_two_programs_on_one_port_is_an_error_that_names_the_other(simulate: Simulate, tmp_path: Path) -> None:
    simulate()
    port = str(tmp_path / "gnss")
    script = (
        f"import serial, time; port = serial.Serial({port!r}, exclusive=True); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as thief:
        assert thief.stdout is not None
        thief.stdout.readline()
        with pytest.raises(DeviceError, match=rf"cannot be opened .*: stop python.* \(process {thief.pid}\)"):
            find_port(port)
        thief.kill()
    assert find_port(port).device == port


def test_silent_port_is_no_receiver(line: tuple[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig_port, "LISTEN_S", 0.02)
    os.write(line[0], b"\x00\xff$$$GPGGA,*00\r\n")
    with pytest.raises(DeviceNotFoundError, match=r"nothing on .* speaks NMEA"):
        find_port(line[1])


def test_auto_looks_at_ports_with_the_right_name_first(
    simulate: Simulate, tmp_path: Path, line: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from serial.tools import list_ports, list_ports_common

    def port(device: str, description: str) -> list_ports_common.ListPortInfo:
        found = list_ports_common.ListPortInfo(device)
        found.description = description
        return found

    simulate()
    receiver = str(tmp_path / "gnss")
    monkeypatch.setattr(rig_port, "LISTEN_S", 8.0)
    ports = [port(line[1], "modem"), port(receiver, "Eos GNSS Arrow 100")]
    monkeypatch.setattr(list_ports, "comports", lambda: ports)
    begun = time.monotonic()
    assert find_port().device == receiver
    assert time.monotonic() - begun < 8.0, "nobody listened to the modem"
    monkeypatch.setattr(rig_port, "LISTEN_S", 0.5)
    ports[1].description = "n/a"
    assert find_port(baud=115_200).device == receiver
    monkeypatch.setattr(list_ports, "comports", list)
    with pytest.raises(DeviceNotFoundError, match=r"no serial port is there\): plug it in and switch it on$"):
        find_port()


@pytest.mark.parametrize(
    ("number", "cure"),
    [(errno.EACCES, "add this user to the group dialout"), (errno.EBUSY, "sudo systemctl stop edencar")],
)
def test_auto_tells_what_to_do_about_a_port_that_cannot_be_listened_to(
    line: tuple[int, str], monkeypatch: pytest.MonkeyPatch, number: int, cure: str
) -> None:
    import serial
    from serial.tools import list_ports, list_ports_common

    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(number, os.strerror(number))

    monkeypatch.setattr(rig_port, "_user_of", lambda _: None)
    monkeypatch.setattr(serial, "Serial", refuse)
    monkeypatch.setattr(list_ports, "comports", lambda: [list_ports_common.ListPortInfo(line[1])])
    with pytest.raises(DeviceNotFoundError, match=f"cannot be opened .*: plug it in and switch it on, or .*{cure}"):
        find_port()


def test_auto_calls_a_port_by_its_stable_name(
    simulate: Simulate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serial.tools import list_ports

    simulate()
    (tmp_path / "by-id").mkdir()
    stable = tmp_path / "by-id" / "usb-Eos_GNSS_Arrow_100-if00"
    stable.symlink_to((tmp_path / "gnss").readlink())
    monkeypatch.setattr(rig_port, "BY_ID", tmp_path / "by-id")
    monkeypatch.setattr(list_ports, "comports", list)
    assert find_port(baud=115_200).device == str(stable)


def test_nothing_is_ever_written_to_the_receiver(line: tuple[int, str], reader: Callable[..., Receiver]) -> None:
    receiver = reader(line[1])
    wait_for(lambda: receiver.status().state == "listening")
    os.write(line[0], BURST)
    wait_for(lambda: receiver.status().quality == "RTK fixed")
    os.set_blocking(line[0], False)
    with pytest.raises(BlockingIOError):
        os.read(line[0], 1)


# Reading


def test_an_epoch_is_logged_when_the_line_falls_silent(
    line: tuple[int, str], reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    receiver = reader(line[1])
    receiver.start_log(tmp_path)
    wait_for(lambda: receiver.status().state == "listening")
    before_ns = time.monotonic_ns()
    os.write(line[0], BURST[:40])
    time.sleep(0.15)
    rest_ns = time.monotonic_ns()
    os.write(line[0], BURST[40:])
    wait_for(lambda: receiver.status().epochs_logged == 1)
    (row,) = rows_of(tmp_path)
    assert row["speed_mps"] == "7.4594"
    assert before_ns <= int(row["arrival_monotonic_ns"]) < rest_ns  # the first byte, not the last


def test_a_pause_in_the_middle_of_a_line_loses_nothing(
    line: tuple[int, str], reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    receiver = reader(line[1])
    receiver.start_log(tmp_path)
    wait_for(lambda: receiver.status().state == "listening")
    for begin, end in ((0, 40), (40, 120), (120, len(BURST))):
        os.write(line[0], BURST[begin:end])
        time.sleep(0.1)  # longer than bytes are gathered, shorter than the silence that ends an epoch
    wait_for(lambda: receiver.status().epochs_logged == 1, 1.0)
    (row,) = rows_of(tmp_path)
    assert (row["speed_mps"], row["flags"]) == ("7.4594", "")
    assert (tmp_path / "raw.nmea").read_bytes() == BURST


def test_stop_waits_for_the_epoch_that_is_coming_in(
    line: tuple[int, str], reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    receiver = reader(line[1])
    receiver.start_log(tmp_path)
    wait_for(lambda: receiver.status().state == "listening")
    os.write(line[0], BURST)
    wait_for(lambda: receiver.status().capture == tmp_path and (tmp_path / "raw.nmea").stat().st_size == len(BURST))
    ended = receiver.stop_log()
    assert ended is not None
    assert ended.epochs == len(rows_of(tmp_path)) == 1


def test_cable_out_and_in_again(simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path) -> None:
    simulated = simulate()
    receiver = reader(tmp_path / "gnss")
    receiver.start_log(tmp_path / "out")
    wait_for(lambda: receiver.status().epochs_logged > 5)
    simulated.set_fault("unplug", 1.0)
    wait_for(lambda: receiver.status().state == "lost")
    assert "vanished" in receiver.status().problems[0]
    wait_for(lambda: receiver.status().state == "listening")
    wait_for(lambda: receiver.status().epochs_logged > 20)
    receiver.stop_log()
    rows = rows_of(tmp_path / "out")
    assert_true(rows, tmp_path, 0.05)
    assert [row["flags"] for row in rows].count("replug") == 1
    flagged = next(i for i, row in enumerate(rows) if row["flags"])
    assert int(rows[flagged]["utc_ns"]) - int(rows[flagged - 1]["utc_ns"]) > 900_000_000


def test_noise_and_damage_give_no_wrong_row(
    simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    simulated = simulate()
    simulated.set_fault("noise", 0.3)
    simulated.set_fault("checksum", 0.3)
    receiver = reader(tmp_path / "gnss")
    receiver.start_log(tmp_path / "out")
    wait_for(lambda: receiver.status().epochs_logged > 30)
    receiver.stop_log()
    dated = [
        row for row in rows_of(tmp_path / "out") if row["utc_ns"]
    ]  # the first sentences with a date may be damaged
    assert len(dated) > 15
    assert_true(dated, tmp_path, 0.05)
    assert receiver.framer.bad > 5


def test_status_tells_what_the_crew_must_know(
    simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    simulated = simulate()
    assert Receiver(Settings()).status().state == "searching"
    receiver = reader(tmp_path / "gnss")
    wait_for(lambda: receiver.status().clock)
    wait_for(lambda: receiver.status().rate_hz == pytest.approx(20, abs=1))  # a busy machine delays some
    wait_for(lambda: (receiver.status().fix_age_s or 9.0) < 0.5)
    status = receiver.status()
    assert (status.quality, status.port, status.problems) == ("RTK fixed", str(tmp_path / "gnss"), ())
    assert status.sigma_m == pytest.approx(0.01, abs=0.005)
    assert status.correction_age_s is not None
    assert status.clock is not None
    assert status.clock.source == "gnss"
    behind_ns = [time.time_ns() - status.clock.utc_ns() for _ in range(10)]
    assert 0 < min(behind_ns) < 15e6  # by the receiver's latency, here 4 ms
    simulated.set_fault("float")
    wait_for(lambda: receiver.status().quality == "RTK float")
    simulated.set_fault("no_fix")
    wait_for(lambda: receiver.status().quality == "none")
    assert receiver.status().latitude is None
    assert receiver.status().rate_hz


def test_status_tells_of_satellites_heading_and_a_rate_too_low(
    simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "RATE_KNOWN_NS", NS_PER_S)
    simulate(rate_hz=5, sentences="GGA,RMC,GSV,HDT")
    receiver = reader(tmp_path / "gnss")
    wait_for(lambda: any("not 10: set its rate" in problem for problem in receiver.status().problems))
    status = receiver.status()
    assert status.rate_hz == pytest.approx(5, abs=0.5)
    assert status.rate_asked_hz == 10
    assert status.satellites is not None
    assert status.satellites_in_view is not None
    assert abs(status.satellites_in_view - status.satellites) <= 3  # the simulator shows those it uses
    assert status.cn0_dbhz is not None
    assert 38 <= status.cn0_dbhz <= 50
    assert status.heading_deg is not None


def test_receiver_without_a_date_is_a_problem(
    simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    simulate(sentences="GGA")
    receiver = reader(tmp_path / "gnss")
    wait_for(lambda: receiver.status().quality != "none")
    assert "no date" in receiver.status().problems[0]
    assert receiver.status().clock is None


def test_date_of_a_week_rollover_is_a_problem(
    simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path
) -> None:
    simulate().set_fault("rollover")
    receiver = reader(tmp_path / "gnss")
    wait_for(lambda: any("its firmware is too old" in problem for problem in receiver.status().problems))


def test_rubbish_at_a_baud_that_was_given_names_the_baud(simulate: Simulate, tmp_path: Path) -> None:
    simulate(baud=38_400).set_fault("uart")
    with pytest.raises(DeviceNotFoundError, match="at 9600 baud") as caught:
        capture_positions(tmp_path / "gnss", tmp_path / "out", 1.0, baud=9_600)
    assert caught.value.cure == "try --baud auto"


def test_silent_receiver_is_a_problem_and_is_looked_for_again(
    simulate: Simulate, reader: Callable[..., Receiver], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiver_module, "SILENT_NS", 300_000_000)
    monkeypatch.setattr(receiver_module, "LOST_NS", 900_000_000)
    monkeypatch.setattr(rig_port, "LISTEN_S", 0.1)
    simulated = simulate()
    receiver = reader(tmp_path / "gnss", 0)
    wait_for(lambda: receiver.status().rate_hz)
    simulated.set_fault("silent")
    wait_for(lambda: receiver.status().problems)
    assert "nothing comes" in receiver.status().problems[0]
    wait_for(lambda: receiver.status().state == "lost")
    simulated.clear_fault("silent")
    wait_for(lambda: receiver.status().state == "listening" and not receiver.status().problems)


# The files


def test_a_full_disk_loses_rows_but_spoils_none(tmp_path: Path) -> None:
    log = PositionLog(tmp_path)
    seconds = [replace(fix, utc_ns=(fix.utc_ns or 0) + i * NS_PER_S) for fix in read_log(BURST) for i in range(9)]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700, limits[1]))
    refused = 0
    try:
        for fix in seconds[:8]:
            try:
                log.add_fix(fix)
            except OSError:
                refused += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    log.add_fix(seconds[8])
    log.close()
    assert 0 < refused < 8
    assert len(Track.load([tmp_path / "positions.csv"])) == 9 - refused


def test_a_log_cut_by_a_crash_is_continued_on_a_new_line(tmp_path: Path) -> None:
    (tmp_path / "positions.csv").write_text(CSV_HEADER + "2024-03-23T15:35:29.000Z,17112081")
    (tmp_path / "raw.nmea").write_bytes(b"half")
    log = PositionLog(tmp_path)
    log.add_bytes(BURST, [(0, (5, 6))])
    log.add_fix(read_log(BURST)[0])
    log.close()
    assert (tmp_path / "raw.idx").read_text().splitlines()[1] == "4,5,6"
    assert (tmp_path / "positions.csv").read_text().count("utc,utc_ns") == 1
    assert len(Track.load([tmp_path / "positions.csv"])) == 1


def test_a_torn_row_of_the_index_dates_nothing(tmp_path: Path) -> None:
    (tmp_path / "raw.idx").write_text(f"{INDEX_HEADER}0,1000,2000\n40,3000,4")
    assert Arrivals(tmp_path / "raw.idx").at(50) == (1000, 2000)


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    receiver = Receiver(Settings())
    (tmp_path / "file").touch()
    (tmp_path / "log.nmea").write_bytes(BURST)
    with pytest.raises(DeviceError, match="cannot be written"):
        replay(tmp_path / "log.nmea", tmp_path / "file")
    with pytest.raises(DeviceError, match="cannot be written"):
        receiver.start_log(tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "positions.csv").symlink_to("/dev/full")
    with pytest.raises(NoSpaceError, match="cannot be written"):
        receiver.start_log(tmp_path / "full")


# The server's worker


def test_worker_logs_between_start_and_stop(simulate: Simulate, tmp_path: Path) -> None:
    simulate()
    worker = Worker("receiver", receiver_worker, Settings(receiver_port=str(tmp_path / "gnss"), receiver_baud=115_200))
    worker.start()
    try:
        wait_for(lambda: worker.status is not None and worker.status.rate_hz, 15)
        out = tmp_path / "positions"
        first = worker.ask(StartCapture(out, "video"), 5)
        assert isinstance(first, ReceiverStatus)
        assert worker.ask(StartCapture(out, "video"), 5).capture == out
        with pytest.raises(ConflictError):
            worker.ask(StartCapture(tmp_path / "other", "video"), 5)
        wait_for(lambda: worker.status.epochs_logged > 5)
        begun = time.monotonic()
        ended = worker.ask(StopCapture(), 5)
        assert time.monotonic() - begun < 4.0
        assert ended.epochs_logged == len(rows_of(out)) > 5
        size = (out / "raw.nmea").stat().st_size
        assert worker.ask(StopCapture(), 5).epochs_logged == 0
        worker.ask(StartCapture(out, "video"), 5)
        time.sleep(0.3)
        wait_for(lambda: worker.status.epochs_logged > 3)
        logged = worker.status.epochs_logged
        assert worker.pid is not None
        os.kill(worker.pid, 9)
        worker.join(5)
        assert (out / "raw.nmea").stat().st_size > size
        assert len(rows_of(out)) >= ended.epochs_logged + logged
        worker.start()
        worker.ask(StartCapture(out, "video"), 15)
        wait_for(lambda: worker.status is not None and worker.status.epochs_logged > 3, 15)
        worker.ask(StopCapture(), 5)
    finally:
        worker.stop()
    assert (out / "positions.csv").read_text().count("utc,utc_ns") == 1
    assert_true(rows_of(out), tmp_path, 0.05)


def test_the_server_can_import_this_without_a_serial_port() -> None:
    code = (
        "import sys, capturePositions; sys.exit(any(name in sys.modules for name in ('serial', 'pandas', 'cv2', 'av')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0
