"""The simulated receiver: read through pyserial and understood by pynmea2, neither of which knows it."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pynmea2
import pytest
import serial

from simulator.receiver import FaultError, Receiver, main, parse_fault, parse_sentences
from simulator.sentences import KINDS, Epoch, frame, write
from simulator.world import Street, World

METRES_PER_DEGREE = 111_200.0
PATIENCE_S = 20.0
Make = Callable[..., Receiver]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Start receivers on `tmp_path`/gnss and stop them at the end."""
    made = []

    def start(**options: Any) -> Receiver:
        now_ns = time.time_ns()
        world = World(now_ns, time.monotonic_ns())
        street = Street(start_utc_ns=now_ns - 8_000_000_000)
        made.append(Receiver(tmp_path / "gnss", world, street, truth=tmp_path, **{"rate_hz": 20} | options))
        made[-1].start()
        return made[-1]

    yield start
    for receiver in made:
        receiver.stop()
    assert not (tmp_path / "gnss").is_symlink()


def listen(link: Path, seconds: float, least: int = 0) -> bytes:
    """What a program reads that has the port for some time; on a busy machine longer, until so many sentences came."""
    with serial.Serial(str(link), 115200, timeout=0.05, exclusive=True) as port:
        end, heard = time.monotonic() + seconds, bytearray()
        while (left_s := end - time.monotonic()) > 0 or (len(whole(heard)) < least and left_s > -PATIENCE_S):
            heard += port.read(max(1, port.in_waiting))
        return bytes(heard)


def whole(data: bytes | bytearray) -> list[str]:
    """The sentences of which both ends were heard."""
    lines = data.decode("ascii", "replace").split("\r\n")
    return [line for line in lines[:-1] if line.startswith("$")]


def truths(folder: Path) -> dict[int, dict[str, float]]:
    """The receiver's own log of the truth, by UTC in ns."""
    with (folder / "fixes.csv").open() as file:
        return {int(row["utc_ns"]): {k: float(v) for k, v in row.items()} for row in csv.DictReader(file)}


def test_pynmea2_reads_the_true_drive(make: Make, tmp_path: Path) -> None:
    make()
    lines = whole(listen(tmp_path / "gnss", 1.0, least=60))
    fixes = [pynmea2.parse(line, check=True) for line in lines]
    rmcs = [fix for fix in fixes if fix.sentence_type == "RMC"]
    truth = truths(tmp_path)
    assert len(rmcs) >= 15
    assert len({rmc.timestamp for rmc in rmcs}) == len(rmcs), "one for each epoch"
    for rmc in rmcs:
        true = truth[round(datetime.combine(rmc.datestamp, rmc.timestamp, UTC).timestamp() * 1000) * 1_000_000]
        assert rmc.latitude == pytest.approx(true["latitude"], abs=0.05 / METRES_PER_DEGREE)
        assert rmc.longitude == pytest.approx(true["longitude"], abs=0.07 / METRES_PER_DEGREE)
        assert rmc.spd_over_grnd * 0.514444 == pytest.approx(true["speed_mps"], abs=0.1)
        assert rmc.true_course == pytest.approx(true["heading_deg"], abs=2)
    for gga in (fix for fix in fixes if fix.sentence_type == "GGA"):
        assert (gga.gps_qual, gga.horizontal_dil, gga.ref_station_id) == (4, "0.6", "0123")
        assert 17 <= int(gga.num_sats) <= 23


def test_epochs_are_exact_and_late_by_the_latency(make: Make, tmp_path: Path) -> None:
    make(latency_ms=12.0)
    delays = []
    with serial.Serial(str(tmp_path / "gnss"), timeout=0.3, exclusive=True) as port:
        for _ in range(14):
            heard = port.read(18)
            arrival_ns = time.time_ns()
            port.read_until(b"*")
            while port.read_until(b"\n", 100)[:6] and port.in_waiting:
                pass
            if heard.startswith(b"$GPGGA,"):
                below_second_ms = int(heard[14:16]) * 10
                assert below_second_ms % 50 == 0
                delays.append((arrival_ns // 1000 / 1000 - below_second_ms) % 1000)
    # 17 bytes more take 1.5 ms; the machine may be busy, so only the quickest counts.
    assert len(delays) > 3
    assert 12.0 < min(delays) < 30.0


def test_bytes_come_at_the_pace_of_the_line(make: Make, tmp_path: Path) -> None:
    make(rate_hz=1, baud=4800, sentences="GGA")
    with serial.Serial(str(tmp_path / "gnss"), timeout=2, exclusive=True) as port:
        port.read_until(b"$")
        begun = time.monotonic()
        sentence = port.read_until(b"\n")
        took_s = time.monotonic() - begun
    line_s = len(sentence) * 10 / 4800
    assert line_s - 0.05 < took_s < line_s + 1.0, "a busy machine may hold it up"


def test_every_kind_of_sentence_has_a_right_checksum() -> None:
    epoch = Epoch(1_795_356_192_350_000_000, -47.5, 2.25, 35.0, 5, 19, 0.7, 0.25, 0.4, 10.0, 361.0, -1.0, 1.2, "0001")
    for kind in KINDS:
        for talker in ("GP", "GN"):
            for line in write(kind, epoch, talker):
                assert pynmea2.parse(line, check=True).sentence_type == kind
    assert frame("GPHDT,123.4,T") == "$GPHDT,123.4,T*31\r\n"
    assert ",4730.00000000,S,00215.00000000,E," in write("GGA", epoch, "GP")[0]


def test_a_sentence_may_have_its_own_rate(make: Make, tmp_path: Path) -> None:
    make(sentences="GGA,ZDA@1")
    lines = whole(listen(tmp_path / "gnss", 1.2, least=40))
    ggas, zdas = (sum(line.startswith(kind) for line in lines) for kind in ("$GPGGA", "$GPZDA"))
    assert 1 <= zdas <= 1 + ggas / 10
    assert ggas + zdas == len(lines)


@pytest.mark.parametrize("text", ["GGA,XYZ", "GGA@7", ""])
def test_unknown_sentences_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown sentence|own rate"):
        parse_sentences(text)


def test_what_nobody_reads_is_lost(make: Make, tmp_path: Path) -> None:
    make()
    first = whole(listen(tmp_path / "gnss", 0.2, least=1))[-1]
    time.sleep(0.6)
    seconds = [float(line.split(",")[1][4:]) for line in (first, whole(listen(tmp_path / "gnss", 0.2, least=1))[0])]
    assert (seconds[1] - seconds[0]) % 60 > 0.5


def test_no_fix_float_and_silence(make: Make, tmp_path: Path) -> None:
    receiver = make(sentences="GGA")
    for name, expected in (("no_fix", "0"), ("float", "5"), ("no_time", "0")):
        receiver.set_fault(name)
        time.sleep(0.1)
        fields = whole(listen(tmp_path / "gnss", 0.2, least=1))[-1].split(",")
        assert fields[6] == expected
        assert bool(fields[2]) == (name == "float")
        assert bool(fields[1]) == (name != "no_time")
        receiver.clear_fault(name)
    receiver.set_fault("silent")
    time.sleep(0.1)
    assert listen(tmp_path / "gnss", 0.2) == b""
    receiver.set_fault("silent", 0)
    assert receiver.faults == {}


def test_damaged_sentences_and_rubbish(make: Make, tmp_path: Path) -> None:
    receiver = make(sentences="GGA,RMC,GST")
    receiver.set_fault("checksum", 0.5)
    damaged = 0
    lines = whole(listen(tmp_path / "gnss", 0.6, least=100))
    for line in lines:
        try:
            pynmea2.parse(line, check=True)
        except pynmea2.ParseError:
            damaged += 1
    assert len(lines) / 4 < damaged < len(lines) * 3 / 4
    receiver.clear_fault("checksum")
    receiver.set_fault("noise", 1)
    assert any(byte > 127 for byte in listen(tmp_path / "gnss", 0.3, least=30))


def test_a_uart_is_only_understood_at_its_speed(make: Make, tmp_path: Path) -> None:
    make(baud=57600).set_fault("uart")
    assert b"$GPGGA" not in listen(tmp_path / "gnss", 0.3)
    with serial.Serial(str(tmp_path / "gnss"), 57600, timeout=1) as port:
        assert port.read_until(b"$GPGGA").endswith(b"$GPGGA")


def test_the_cable_comes_out_and_in_again(make: Make, tmp_path: Path) -> None:
    receiver = make()
    link = tmp_path / "gnss"
    with serial.Serial(str(link), timeout=5, exclusive=True) as port:
        port.read(20)
        receiver.set_fault("unplug", 0.3)
        with pytest.raises(serial.SerialException):
            port.read(100_000)
    assert not link.is_symlink()
    end = time.monotonic() + 2
    while not link.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert whole(listen(link, 0.3, least=1))


def test_faults_are_read_from_text() -> None:
    assert parse_fault("checksum=0.2") == ("checksum", 0.2)
    assert parse_fault("no_fix") == ("no_fix", 1.0)
    for text in ("flying", "checksum=many", "noise=-1", "unplug=inf"):
        with pytest.raises(FaultError, match=r"^(unknown fault|fault \w+ has)"):
            parse_fault(text)


@pytest.mark.parametrize("wrong", [["--fault", "flying"], ["--rate", "7"], ["--sentences", "ABC"]])
def test_a_wrong_option_is_one_line_and_exit_code_2(
    wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert main(["--link", str(tmp_path / "gnss"), *wrong]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]


def test_a_file_in_the_way_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gnss").write_text("mine")
    assert main(["--link", str(tmp_path / "gnss")]) == 2
    assert "not a link" in capsys.readouterr().err
    assert (tmp_path / "gnss").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_when_it_is_ready_and_ends_on_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    link = tmp_path / "gnss"
    code = "import sys; from simulator.receiver import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--link", str(link), "--fault", "float"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["receiver"] == str(link)
        assert ready["faults"] == {"float": 1.0}
        assert link.exists()
        process.send_signal(number)
        assert process.wait(5) == 0
    assert not link.is_symlink()
