"""capturePositions against a receiver, or a line, at its worst: no wrong position, no valid epoch lost.

What is right is judged by what the simulator wrote down; what was valid, by pynmea2 and the bytes as they came.
"""

import csv
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pynmea2
import pytest

import capturePositions
from capturePositions import CaptureSummary
from configs import Settings
from rig.errors import DeviceNotFoundError
from rig.gnss.positions import Track
from simulator.receiver import Receiver
from simulator.world import Street, World

WRITTEN_DEG = 3e-10  # 8 decimals of minutes, and 10 of degrees in the truth
FRAME = re.compile(rb"\$[\x20-\x7e]{5,100}?\*[0-9A-Fa-f]{2}")
EIGHT = "GGA,RMC,GST,VTG,ZDA,GLL,GSA,GSV"
Row = dict[str, str]
Fault = tuple[float, str, float | None]  # seconds after the start, name, value; 0 switches it off


@dataclass(frozen=True, slots=True)
class Recording:
    """What was logged, and what the receiver said in truth."""

    summary: CaptureSummary
    rows: list[Row]
    truth: list[Row]

    @property
    def folder(self) -> Path:
        return self.summary.folder

    @property
    def placed(self) -> list[Row]:
        return [row for row in self.rows if row["latitude"]]

    def missing(self) -> set[str]:
        """Times that the receiver said between the first row and the last, and that no row has."""
        times = [row["said_utc_ns"] for row in self.truth]
        first, last = (times.index(self.rows[end]["utc_ns"]) for end in (0, -1))
        return set(times[first : last + 1]) - {row["utc_ns"] for row in self.rows}

    def flags(self) -> list[str]:
        return [row["flags"] for row in self.rows if row["flags"]]


def capture_positions(port: str, folder: Path, seconds: float, baud: int = 0) -> CaptureSummary:
    settings = Settings(receiver_port=port, receiver_baud=baud)
    return capturePositions.capture_positions(settings, folder, seconds)


def table(path: Path) -> list[Row]:
    with path.open() as file:
        return list(csv.DictReader(file))


def record(
    folder: Path, faults: Sequence[Fault] = (), seconds: float = 2.0, listen_at: int = 0, **options: Any
) -> Recording:
    """A capture of so many seconds while faults come and go; what must hold for each of them is asserted here."""
    now_ns = time.time_ns()
    world, street = World(now_ns, time.monotonic_ns()), Street(start_utc_ns=now_ns - 8_000_000_000)
    with Receiver(folder / "gnss", world, street, truth=folder, **{"rate_hz": 20} | options) as receiver:
        _switch(receiver, [fault for fault in faults if fault[0] == 0])
        Thread(target=_switch, args=(receiver, [fault for fault in faults if fault[0]]), daemon=True).start()
        summary = capture_positions(str(folder / "gnss"), folder / "out", seconds, listen_at)
    rows = table(folder / "out" / "positions.csv")
    undated = sum(not row["utc_ns"] for row in rows)  # until the first ZDA
    recording = Recording(summary, rows[undated:], table(folder / "fixes.csv"))
    _assert_no_wrong_position(recording)
    _assert_no_valid_epoch_lost(recording)
    return recording


def _switch(receiver: Receiver, faults: Sequence[Fault]) -> None:
    begun = time.monotonic()
    for second, name, value in faults:
        time.sleep(max(0.0, begun + second - time.monotonic()))
        receiver.set_fault(name, value)


def _assert_no_wrong_position(recording: Recording) -> None:
    said: dict[str, list[tuple[float, float]]] = {}
    for row in recording.truth:
        place = (float(row["said_latitude"]), float(row["said_longitude"]))
        said.setdefault(row["said_utc_ns"], []).append(place)
    for row in recording.placed:
        logged = (float(row["latitude"]), float(row["longitude"]))
        assert any(np.allclose(logged, place, 0, WRITTEN_DEG) for place in said[row["utc_ns"]]), row


def _assert_no_valid_epoch_lost(recording: Recording) -> None:
    heard: dict[str, None] = {}
    for frame in FRAME.findall((recording.folder / "raw.nmea").read_bytes()):
        try:
            sentence = pynmea2.parse(frame.decode(), check=True)
        except pynmea2.ParseError:
            continue
        if (sentence.sentence_type == "GGA" and sentence.data[5] != "0") or (
            sentence.sentence_type == "RMC" and sentence.data[1] == "A"
        ):
            heard[sentence.data[0]] = None
    every = table(recording.folder / "positions.csv")
    logged = {row["utc"].rpartition("T")[2].rstrip("Z").replace(":", "") for row in every if row["latitude"]}
    assert {f"{time_of_day}0" for time_of_day in list(heard)[:-1]} <= logged
    times = [row["utc"] for row in recording.rows if "clock-set" not in row["flags"]]
    assert len(times) >= 10


# The line


@pytest.mark.parametrize(("fault", "share"), [("noise", 0.6), ("cut", 0.3), ("checksum", 0.3)])
def test_damaged_lines(tmp_path: Path, fault: str, share: float) -> None:
    recording = record(tmp_path, [(0.0, fault, share)], sentences="GGA,RMC,GST")
    assert recording.flags() == []
    if fault == "noise":
        assert recording.missing() == set()
        assert recording.summary.skipped_bytes > 300
    if fault == "checksum":
        assert recording.summary.bad_checksums > 10


def test_all_damage_at_once(tmp_path: Path) -> None:
    record(tmp_path, [(0.0, "noise", 0.4), (0.0, "cut", 0.1), (0.0, "checksum", 0.1)], sentences=EIGHT, baud=230_400)


@pytest.mark.parametrize("fault", ["unplug", "replug"])
def test_cable_out_and_in_again(tmp_path: Path, fault: str) -> None:
    recording = record(tmp_path, [(1.0, fault, 0.5)], 3.5)
    assert recording.flags() == ["replug"]
    at = next(number for number, row in enumerate(recording.rows) if row["flags"])
    assert 3 < at < len(recording.rows) - 3
    away_s = (int(recording.rows[at]["utc_ns"]) - int(recording.rows[at - 1]["utc_ns"])) / 1e9
    assert 0.5 <= away_s < 3.0  # it is looked for each second, later on a busy machine
    places = Track.load([recording.folder / "positions.csv"])
    middle_ns = int(recording.rows[at]["utc_ns"]) - round(away_s / 2 * 1e9)
    assert places.interpolate(np.array([middle_ns]), 10.0).how == ["none"]


def test_receiver_comes_back_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports, list_ports_common

    link, before, after = (tmp_path / name for name in ("gnss", "ttyACM0", "ttyACM1"))

    def ports() -> list[list_ports_common.ListPortInfo]:
        return [list_ports_common.ListPortInfo(str(name)) for name in (before, after) if name.exists()]

    def move() -> None:
        time.sleep(1.5)
        before.unlink()
        receiver.set_fault("replug", 0.4)
        after.symlink_to(link)

    monkeypatch.setattr(list_ports, "comports", ports)
    before.symlink_to(link)  # the names of pseudo terminals are soon those of other tests
    now_ns = time.time_ns()
    world, street = World(now_ns, time.monotonic_ns()), Street(start_utc_ns=now_ns - 8_000_000_000)
    with Receiver(link, world, street, truth=tmp_path, rate_hz=20) as receiver:
        first = link.readlink()
        Thread(target=move, daemon=True).start()
        summary = capture_positions(
            "auto", tmp_path / "out", 9.0
        )  # it is heard again after 3 s, later on a busy machine
        assert link.readlink() != first
    rows = table(tmp_path / "out" / "positions.csv")
    recording = Recording(summary, rows, table(tmp_path / "fixes.csv"))
    _assert_no_wrong_position(recording)
    assert recording.flags() == ["replug"]
    assert len([row for row in rows if int(row["utc_ns"]) > int(rows[0]["utc_ns"]) + 2_500_000_000]) > 10


def test_wrong_baud_gives_no_position_and_the_right_one_is_found(tmp_path: Path) -> None:
    with pytest.raises(DeviceNotFoundError, match="speaks NMEA"):
        record(tmp_path, [(0.0, "uart", None)], 1.0, 9600)
    assert (tmp_path / "out" / "positions.csv").read_text().count("\n") == 1
    recording = record(tmp_path, [(0.0, "uart", None)], 1.5)
    assert recording.summary.baud == 115_200
    assert recording.missing() == set()


@pytest.mark.parametrize("talker", ["GP", "GN"])
def test_twenty_hertz_with_eight_sentences_in_any_order(tmp_path: Path, talker: str) -> None:
    recording = record(tmp_path, [(0.5, "order", 1.0)], 3.0, sentences=EIGHT, talker=talker, baud=230_400)
    assert recording.missing() == set()
    assert recording.flags() == []
    assert len(recording.rows) >= 30  # the first second may have no date yet
    assert [row for row in recording.rows[1:-1] if not row["speed_mps"] or not row["sigma_lat_m"]] == []


# The receiver


def test_fix_lost_and_found(tmp_path: Path) -> None:
    recording = record(tmp_path, [(0.7, "no_fix", None), (1.4, "no_fix", 0)], 2.5)
    assert recording.missing() == set()
    lost = [row for row in recording.rows if not row["latitude"]]
    assert 5 <= len(lost) <= 28  # 14, but who switches may be late
    assert {row["quality"] for row in lost} == {"0"}
    track = Track.load([recording.folder / "positions.csv"])
    assert len(track) == len(recording.placed)
    assert track.interpolate(np.array([int(lost[5]["utc_ns"])]), 10.0).how == ["none"]


def test_receiver_that_knows_no_time_yet(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    world, street = World(now_ns, time.monotonic_ns()), Street(start_utc_ns=now_ns - 8_000_000_000)
    with Receiver(tmp_path / "gnss", world, street, truth=tmp_path, rate_hz=20) as receiver:
        receiver.set_fault("no_time")
        Thread(target=_switch, args=(receiver, [(1.0, "no_time", 0)]), daemon=True).start()
        summary = capture_positions(str(tmp_path / "gnss"), tmp_path / "out", 2.0, 115_200)
    rows = table(tmp_path / "out" / "positions.csv")
    known = [row for row in rows if row["utc"]]
    assert 5 <= len(known) < len(rows)
    assert {(row["utc_ns"], row["latitude"], row["flags"]) for row in rows if not row["utc"]} == {("", "", "no-time")}
    _assert_no_wrong_position(Recording(summary, known, table(tmp_path / "fixes.csv")))


@pytest.mark.parametrize(("fault", "value", "quality"), [("float", 1.0, "5"), ("jump", 4.0, "4")])
def test_float_and_jumps_are_never_interpolated_across(tmp_path: Path, fault: str, value: float, quality: str) -> None:
    recording = record(tmp_path, [(0.7, fault, value), (1.4, fault, 0)], 2.2)
    assert recording.missing() == set()
    truth = {row["said_utc_ns"]: row for row in recording.truth}
    north_m = [111_195 * (float(row["latitude"]) - float(truth[row["utc_ns"]]["latitude"])) for row in recording.rows]
    words = [int(row["quality"] or 4) for row in recording.rows]  # a capture that begins within an epoch missed its GGA
    steps = np.abs(np.diff(north_m)) > 2.0 if fault == "jump" else np.diff(words)
    ends = np.flatnonzero(steps)
    assert len(ends) == 2
    assert recording.rows[ends[0] + 1]["quality"] == quality
    track = Track.load([recording.folder / "positions.csv"])
    across = track.utc_ns[:-1] + 25_000_000
    assert np.flatnonzero(np.array(track.interpolate(across, 1.0).how) == "none").tolist() == ends.tolist()


def test_midnight(tmp_path: Path) -> None:
    recording = _with_clock(tmp_path, "midnight")
    days = {row["utc"][:10] for row in recording.rows}
    assert len(days) == 2
    assert np.ptp([int(row["utc_ns"]) for row in recording.rows]) < 4e9
    assert recording.missing() == set()
    assert recording.flags() == []


def test_midnight_without_a_date_in_each_epoch(tmp_path: Path) -> None:
    recording = _with_clock(tmp_path, "midnight", sentences="GGA,ZDA@1")
    assert len({row["utc"][:10] for row in recording.rows}) == 2
    assert recording.missing() == set()


def test_leap_second(tmp_path: Path) -> None:
    recording = _with_clock(tmp_path, "leap", seconds=3.5)
    leap = [row for row in recording.rows if row["flags"] == "leap"]
    assert len(leap) == 20
    assert all(row["utc"].startswith("2026-12-31T23:59:60.") for row in leap)
    track = Track.load([recording.folder / "positions.csv"])
    assert len(track) == len(recording.rows) - 20  # their times belong to the second after
    assert recording.missing() == set()


def test_week_rollover_is_flagged(tmp_path: Path) -> None:
    recording = _with_clock(tmp_path, "rollover")
    assert set(recording.flags()) == {"old-date"}
    assert len(recording.flags()) == len(recording.rows)
    assert recording.missing() == set()


def test_clock_set_backwards(tmp_path: Path) -> None:
    recording = record(tmp_path, [(1.2, "back", 40.0)], 2.5)
    assert recording.flags() == ["clock-set"]
    at = next(number for number, row in enumerate(recording.rows) if row["flags"])
    step_ns = int(recording.rows[at]["utc_ns"]) - int(recording.rows[at - 1]["utc_ns"])
    assert step_ns == -40_000_000_000 + 50_000_000
    track = Track.load([recording.folder / "positions.csv"])
    assert (np.diff(track.utc_ns) > 0).all()
    assert len(track) == len(recording.rows) - at  # the later word counts


def _with_clock(folder: Path, fault: str, seconds: float = 2.5, **options: Any) -> Recording:
    return record(folder, [(0.0, fault, None)], seconds, **options)


def test_host_clock_that_jumps_a_year_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_ns, asked = time.time_ns, itertools.count()

    def jumping_ns() -> int:
        return true_ns() + (365 * 86_400_000_000_000 if next(asked) > 10 else 0)

    monkeypatch.setattr("rig.gnss.receiver.time.time_ns", jumping_ns)
    recording = record(tmp_path, [], 3.0)
    arrival_ns = [int(row["arrival_monotonic_ns"]) for row in recording.rows]
    delays_ms = np.diff([a - int(row["utc_ns"]) for a, row in zip(arrival_ns, recording.rows, strict=True)]) / 1e6
    assert np.abs(delays_ms).max() < 2000, "of a busy machine; a year is more"
    assert np.ptp([int(row["arrival_utc_ns"]) for row in recording.rows]) > 3e16
    assert recording.missing() == set()
