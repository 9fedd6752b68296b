"""Sentences and epochs against made edge cases, against what gpsd says of real logs, and against damage."""

import csv
import random
from pathlib import Path

import pytest

from benchmarks.damage import damage, measure, sentence, swap
from rig.clock import parse_utc
from rig.gnss.fix import FIX_COLUMNS, Fix, csv_line, horizontal_sigma_m, quality_of
from rig.gnss.framing import Framer
from rig.gnss.nmea import Epochs, assemble, read_log
from rig.gnss.sentences import Sky, heading_of

GPSD_DEG = 6e-10  # gpsd rounds to 1e-9 degrees
WRITTEN_DEG = 6e-11  # the expected tables have 10 decimals
SYNTHETIC = [
    "damaged",
    "fix_lost",
    "foreign_sentences",
    "gga_only_no_date",
    "leap_second_2016",
    "midnight_gga_only_after_zda",
    "midnight_rmc",
    "minutes_4_digits",
    "minutes_5_digits",
    "minutes_7_digits",
    "minutes_8_digits",
    "order_changes",
    "plain_10hz",
    "repeat_and_back",
    "replug",
    "talker_changes",
    "wrong_baud_115200_read_at_19200",
    "wrong_baud_19200_read_at_115200",
    "wrong_baud_19200_read_at_38400",
    "wrong_baud_19200_read_at_9600",
    "wrong_baud_9600_read_at_4800",
    "zda_is_send_time",
]
# Instants that gpsd gives a position and we do not, or another one; each is explained in docs/receiver.md.
GPSD_ALONE = {"bu303-moving.gpsdecode322": 12, "bu303-moving.gpsd_chk": 12, "eXplorist210.gpsd_chk": 3}
GPSD_ALONE |= {"rst39.gpsd_chk": 40, "tcp-torture.gpsd_chk": 1}
GPSD_OTHER = {"ublox-zed-f9r.gpsdecode322": 1}
ARROW_EPOCHS = 10_140


def log(*bodies: str) -> list[Fix]:
    return read_log(b"".join(map(sentence, bodies)))


def gga(
    time: str, north: str = "4710.11000000", quality: int = 4, east: str = "00116.04400000", used: str = "18"
) -> str:
    return f"GPGGA,{time},{north},N,{east},W,{quality},{used},0.7,68.000,M,47.500,M,1.0,0123"


def rmc(time: str, date: str = "230324", north: str = "4710.11000000", status: str = "A") -> str:
    return f"GPRMC,{time},{status},{north},N,00116.04400000,W,14.50,16.20,{date},0.4,E,R"


def same(text: str, value: float | None, tolerance: float) -> bool:
    return value is None if text == "" else value is not None and abs(float(text) - value) <= tolerance


@pytest.mark.parametrize("name", SYNTHETIC)
def test_synthetic_case_equals_its_table(shared_data: Path, name: str) -> None:
    folder = shared_data / "nmea" / "synthetic"
    with (folder / "expected" / f"{name}.csv").open() as file:
        expected = list(csv.DictReader(file))
    fixes = read_log(folder / f"{name}.nmea")
    assert [fix.utc for fix in fixes] == [row["utc"] for row in expected]
    for fix, row in zip(fixes, expected, strict=True):
        assert same(row["lat"], fix.latitude, WRITTEN_DEG), row
        assert same(row["lon"], fix.longitude, WRITTEN_DEG), row
        assert same(row["alt_msl"], fix.altitude_m, 1e-6), row
        assert same(row["quality"], fix.quality, 0), row


def test_no_synthetic_case_is_forgotten(shared_data: Path) -> None:
    assert sorted(SYNTHETIC) == sorted(path.stem for path in (shared_data / "nmea" / "synthetic").glob("*.nmea"))


def test_logs_equal_gpsd(shared_data: Path) -> None:
    equal = 0
    alone: dict[str, int] = {}
    other: dict[str, int] = {}
    for truth in sorted((shared_data / "nmea" / "truth").glob("*.csv")):
        name, _, kind = truth.name.removeprefix("gpsd__").removesuffix(".csv").partition(".log.")
        ours = {fix.utc: fix for fix in read_log(shared_data / "nmea" / "logs" / f"gpsd__{name}.log")}
        with truth.open() as file:
            rows = [row for row in csv.DictReader(file) if row["time"] and row["lat"]]
        for time in dict.fromkeys(row["time"] for row in rows):
            fix = ours.get(time)
            if fix is None or fix.latitude is None:
                alone[f"{name}.{kind}"] = alone.get(f"{name}.{kind}", 0) + 1
            elif any(_equal(row, fix) for row in rows if row["time"] == time):
                equal += 1
            else:
                other[f"{name}.{kind}"] = other.get(f"{name}.{kind}", 0) + 1
    assert (alone, other) == (GPSD_ALONE, GPSD_OTHER)
    assert equal == 1029


def _equal(row: dict[str, str], fix: Fix) -> bool:
    return same(row["lat"], fix.latitude, GPSD_DEG) and same(row["lon"], fix.longitude, GPSD_DEG)


def test_arrow_drive_loses_no_epoch(shared_data: Path) -> None:
    fixes = read_log(shared_data / "arrow" / "arrow100plus_2024-03-23_RECONSTRUCTED.nmea")
    with (shared_data / "arrow" / "arrow100plus_gps_data_commit_7df26ce.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(fixes) == len(rows) == ARROW_EPOCHS
    for fix, row in zip(fixes, rows, strict=True):
        assert fix.utc_ns == parse_utc(row["Time (UTC)"])
        assert same(row["Latitude"], fix.latitude, 1.7e-10), row  # 8 decimals of minutes
        assert same(row["Longitude"], fix.longitude, 1.7e-10), row


def test_every_way_to_cut_a_stream_gives_the_same_sentences(shared_data: Path) -> None:
    data = (shared_data / "nmea" / "synthetic" / "damaged.nmea").read_bytes()
    whole = Framer()
    expected = whole.feed(data)
    for size in (1, 2, 7, 83, 1000):
        framer = Framer()
        parts = [part for i in range(0, len(data), size) for part in framer.feed(data[i : i + size])]
        assert parts == expected
        assert [part.offset for part in parts] == [part.offset for part in expected]
        assert (framer.good, framer.bad, framer.received_bytes) == (whole.good, whole.bad, len(data))
    for part in expected:
        assert data[part.offset :].startswith(f"${part.talker}{part.kind}".encode())


def test_framer_counts_what_it_leaves_out() -> None:
    framer = Framer()
    stream = b"\xd3\x00\x01" + sentence("GPGGA,1").replace(b"1*", b"2*") + sentence("PUBX,00") + sentence("GPVTG,1")
    assert [found.kind for found in framer.feed(stream)] == ["VTG"]
    assert (framer.good, framer.bad, framer.skipped_bytes) == (2, 1, 3)
    framer.feed(b"$GPGGA,12")
    framer.drop_half()
    assert framer.feed(b"3" + sentence("GPVTG,2"))[0].fields == ("2",)
    assert framer.skipped_bytes == 13


@pytest.mark.parametrize("header", ["GNGGAH", "PGRMC", "GGA", "GP1GA", "gpgga", "PSAT"])
def test_only_five_letters_that_are_not_proprietary_are_a_header(header: str) -> None:
    assert Framer().feed(sentence(f"{header},1,2,3")) == []


def test_lower_case_checksum_is_right_too() -> None:
    assert len(Framer().feed(sentence("GPVTG,10,T").lower().replace(b"gpvtg,10,t", b"GPVTG,10,T"))) == 1


@pytest.mark.parametrize(
    "bad",
    [
        gga("153530.00", north="9110.1"),
        gga("153530.00", north="4760.0"),
        gga("153530.00", north=""),
        gga("153530.00", east="18110.1"),
        gga("153530.00", north="0000.0000", east="00000.0000"),
        gga("153530.00", quality=0),
        gga("153530.00", used="00"),
    ],
)
def test_impossible_position_is_none(bad: str) -> None:
    (fix,) = log(bad)
    assert (fix.latitude, fix.longitude, fix.altitude_m) == (None, None, None)


@pytest.mark.parametrize(
    "bad",
    [
        gga("153530.00", north="47_0.1"),
        gga("153530.00", north="-4710.1"),
        gga("153530.00", north="710.11000000"),
        gga("153530.00").replace(",N,", ",X,"),
        gga("153530.00").replace(",68.000,", ",68..00,"),
        rmc("153530.00", date="1126"),
    ],
)
def test_sentence_of_another_form_is_damaged(bad: str) -> None:
    framer = Framer()
    assert (framer.feed(sentence(bad)), framer.bad) == ([], 1)


def test_short_sentences_and_empty_fields_are_read() -> None:
    (fix,) = log("GPGGA,153530.00,4710.11000000,N,00116.04400000,W,1", "GPRMC,153530.00,A,,,,,,,2208-1")
    assert (fix.quality, fix.hdop, fix.date_source) == (1, None, "none")
    assert fix.latitude == pytest.approx(47 + 10.11 / 60)


@pytest.mark.parametrize("time", ["243530.00", "156030.00", "153561.00", "1535", "nonsense"])
def test_impossible_time_opens_no_epoch(time: str) -> None:
    assert log(gga(time)) == []


def test_trust_is_gga_then_rmc_then_gns_then_gll() -> None:
    gns = "GNGNS,153530.00,4710.11000003,N,00116.04400000,W,RN,20,0.6,70.0,47.0,2.0,0007"
    gll = "GPGLL,4710.11000004,N,00116.04400000,W,153530.00,A,D"
    everything = [gll, gns, rmc("153530.00", north="4710.11000002"), gga("153530.00", north="4710.11000001")]
    minutes = []
    while everything:
        (fix,) = log(*everything)
        assert fix.latitude is not None
        minutes.append(round((fix.latitude - 47) * 60, 8))
        everything.pop()
    assert minutes == [10.11000001, 10.11000002, 10.11000003, 10.11000004]
    (fix,) = log(gll, gns)
    assert (fix.altitude_m, fix.satellites, fix.diff_age_s, fix.station_id) == (70.0, 20, 2.0, "0007")
    assert quality_of(fix) == 4


def test_contradiction_within_an_epoch_is_flagged_and_decided_by_the_last_position() -> None:
    fixes = log(
        gga("153530.00"), rmc("153530.00"), gga("153530.10", north="4710.61000000"), rmc("153530.10"), rmc("153530.20")
    )
    assert [fix.flags for fix in fixes] == [(), ("conflict",), ()]
    assert fixes[1].latitude == fixes[0].latitude


def test_contradiction_of_a_receiver_that_never_agrees_with_itself_is_its_own() -> None:
    norths = ["4710.11000000", "4710.11000100", "4710.21000000"]  # RMC is one epoch late
    late = [norths[0], *norths]
    bodies = [part(f"15353{n}.00", north=north) for n in range(3) for part, north in ((gga, norths[n]), (rmc, late[n]))]
    last = log(*bodies)[-1]
    assert last.latitude == pytest.approx(47 + 10.21 / 60, abs=1e-9)
    assert last.flags == ("conflict",)


def test_position_of_no_satellites_needs_rmc_to_vouch_for_it() -> None:
    assert log(gga("153530.00", used="00"))[0].flags == ("no-satellites",)
    (fix,) = log(gga("153530.00", used="00"), rmc("153530.00"))
    assert (fix.latitude, fix.flags) == (log(rmc("153530.00"))[0].latitude, ())


def test_fix_without_any_time_is_a_row_that_says_alive() -> None:
    fixes = log("GPGGA,,,,,,0,,,,M,,M,,", "GPVTG,,T,,M,,N,,K,N", "GPGGA,,,,,,0,,,,M,,M,,")
    assert [(fix.utc, fix.quality, fix.flags) for fix in fixes] == [(None, 0, ("no-time",))] * 2


def test_small_step_back_is_a_set_clock_and_a_repeat_is_dropped() -> None:
    fixes = log(rmc("153530.00"), rmc("153531.00"), rmc("144000.00"), rmc("144001.00"), rmc("144000.00"))
    assert [fix.flags for fix in fixes] == [(), (), ("clock-set",), ()]


def test_clock_set_back_while_driving_is_no_replay() -> None:
    def drive(first_s: int, last_s: int, begin: int) -> list[str]:
        return [rmc(f"1535{second:02}.00", north=f"4710.{begin + second:02}") for second in range(first_s, last_s)]

    fixes = log(*drive(10, 30, 0), *drive(12, 40, 18))  # it takes back 18 s, as those between GPS time and UTC
    assert [fix.flags for fix in fixes] == [()] * 20 + [("clock-set",)] + [()] * 27
    assert [fix.utc for fix in fixes[19:22]] == [f"2024-03-23T15:35:{second}.000Z" for second in (29, 12, 13)]
    replayed = log(*drive(10, 30, 0), *drive(12, 14, 18), *drive(14, 20, 0), *drive(30, 35, 0))
    assert [fix.flags for fix in replayed] == [()] * 25


def test_position_wins_over_an_empty_row_of_the_same_time() -> None:
    fixes = log(rmc("153530.00", status="V"), rmc("153531.00"), rmc("153530.00"))
    assert [(fix.latitude is None, fix.flags) for fix in fixes] == [(True, ()), (False, ()), (False, ("clock-set",))]


def test_one_zda_a_day_does_not_put_the_clock_back() -> None:
    fixes = log(
        "GPZDA,120000.00,22,11,2026,00,00", gga("120000.00"), gga("235959.00"), gga("060000.00"), gga("120000.00")
    )
    assert [fix.utc for fix in fixes] == [
        "2026-11-22T12:00:00.000Z",
        "2026-11-22T23:59:59.000Z",
        "2026-11-23T06:00:00.000Z",
        "2026-11-23T12:00:00.000Z",
    ]
    assert [fix.date_source for fix in fixes] == ["zda", "carried", "carried", "carried"]


def test_midnight_without_a_date_is_no_step_back() -> None:
    fixes = log(gga("235959.00"), gga("000000.00"))
    assert [(fix.utc, fix.utc_ns, fix.flags) for fix in fixes] == [
        ("23:59:59.000Z", None, ()),
        ("00:00:00.000Z", None, ()),
    ]


def test_leap_second_carries_its_own_day() -> None:
    clocks = ["235959.50", "235960.00", "235960.50", "000000.00", "000000.50"]
    fixes = log("GPZDA,235959.50,31,12,2016,00,00", *(gga(clock) for clock in clocks))
    assert [fix.utc for fix in fixes] == [
        "2016-12-31T23:59:59.500Z",
        "2016-12-31T23:59:60.000Z",
        "2016-12-31T23:59:60.500Z",
        "2017-01-01T00:00:00.000Z",
        "2017-01-01T00:00:00.500Z",
    ]
    assert not any("clock-set" in fix.flags for fix in fixes)


def test_old_date_is_flagged() -> None:
    assert log(rmc("153530.00", date="060480"))[0].flags == ("old-date",)
    assert log(rmc("153530.00", date="320126"))[0].date_source == "none"


def test_fifty_hertz_stays_fifty_epochs() -> None:
    bodies = [body for i in range(50) for body in (gga(f"153530.{2 * i:02}"), rmc(f"153530.{2 * i:02}"))]
    assert len(log(*bodies)) == 50


def test_untimed_sentences_belong_to_the_burst_they_came_in() -> None:
    epochs = Epochs()
    found = Framer().feed(
        sentence("GPVTG,90.0,T,,M,10.0,N,,K,A") + sentence(gga("153530.00")) + sentence(gga("153531.00"))
    )
    assert epochs.feed(found[0], 100, 1000) == []
    assert epochs.is_open
    assert epochs.feed(found[1], 101, 1001) == []
    (fix,) = epochs.feed(found[2], 200, 2000)
    assert (fix.speed_mps, fix.course_deg, fix.arrival_monotonic_ns, fix.arrival_utc_ns) == (5.1444, 90.0, 101, 1001)
    epochs.mark("replug")
    (fix,) = epochs.flush()
    assert (fix.speed_mps, fix.arrival_monotonic_ns, fix.flags) == (None, 200, ("replug",))
    assert not epochs.is_open


def test_epoch_is_complete_with_the_kinds_of_the_one_before() -> None:
    epochs = Epochs()
    found = Framer().feed(
        b"".join(map(sentence, [gga("153530.00"), rmc("153530.00"), gga("153531.00"), rmc("153531.00")]))
    )
    complete = []
    for part in found:
        epochs.feed(part)
        complete.append(epochs.is_complete)
    assert complete == [False, False, False, True]


def test_sigma_is_what_gst_says_else_a_figure_for_quality_and_hdop() -> None:
    (fix,) = log(gga("153530.00"), "GPGST,153530.00,0.41,0.012,0.009,83.1,0.030,0.040,0.018")
    assert horizontal_sigma_m(fix) == pytest.approx(0.05)
    assert horizontal_sigma_m(log(gga("153530.00"))[0]) == pytest.approx(0.02)
    assert horizontal_sigma_m(log(gga("153530.00", quality=1))[0]) == pytest.approx(2.5)
    assert horizontal_sigma_m(Fix()) is None


def test_sky_is_what_all_systems_and_signals_say_now() -> None:
    sky = Sky()
    second = 1_000_000_000
    said = [
        (0, "GPGSV,2,1,05,02,10,100,40,05,20,200,,07,30,300,44,09,40,010,30,1"),
        (0, "GPGSV,2,2,05,11,50,050,,1"),
        (0, "GPGSV,1,1,01,02,10,100,46,6"),  # another signal of a satellite that is known
        (0, "GLGSV,1,1,02,65,10,100,50,66,20,200,4A"),
        (9 * second, "GAGSV,1,1,01,03,,,38"),
    ]
    for moment, body in said:
        (found,) = Framer().feed(sentence(body))
        sky.feed(found, moment)
    assert sky.view(9 * second) == (8, 44.0)  # of 46, 44, 30, 50 and 38
    assert sky.view(12 * second) == (1, 38.0)
    assert sky.view(30 * second) == (None, None)


@pytest.mark.parametrize(
    ("body", "degrees"), [("GNHDT,91.5,T", 91.5), ("GNTHS,91.5,A", 91.5), ("GNTHS,91.5,V", None), ("GNHDT,,T", None)]
)
def test_heading_of_two_antennas(body: str, degrees: float | None) -> None:
    (found,) = Framer().feed(sentence(body))
    assert heading_of(found) == degrees


def test_csv_line_has_a_cell_for_each_column_and_nothing_for_nothing() -> None:
    (fix,) = log(gga("153530.00"), rmc("153530.00"))
    cells = dict(zip(FIX_COLUMNS, csv_line(fix).rstrip("\n").split(","), strict=True))
    assert cells["latitude"] == "47.1685000000"
    assert (cells["sigma_lat_m"], cells["arrival_utc_ns"], cells["flags"]) == ("", "", "")
    assert (cells["ellipsoid_height_m"], cells["speed_mps"], cells["station_id"]) == ("115.5", "7.4594", "0123")
    assert csv_line(Fix()).count(",") == len(FIX_COLUMNS) - 1


def test_20_000_damaged_sentences_give_no_fix_that_was_not_there() -> None:
    luck = random.Random(20_261_122)
    damaged = foreign = 0
    for _ in range(100):
        start = luck.randrange(1000)
        times = [f"15{i // 600:02}{i // 10 % 60:02}.{i % 10}0" for i in range(start, start + 200)]
        norths = [f"4710.{11_000_000 + 421 * i:08}" for i in range(200)]
        wholes = [sentence(gga(time, north)) for time, north in zip(times, norths, strict=True)]
        true = {(fix.utc, fix.latitude, fix.longitude) for fix in read_log(b"".join(wholes))}
        stream = [damage(whole, luck) for whole in wholes]
        # The checksum cannot see about 1 in 256 random damages; those are counted, all others must be harmless.
        blind = {found[:3] for part in stream for found in Framer().feed(part)}
        blind -= {found[:3] for found in Framer().feed(b"".join(wholes))}
        fixes = read_log(b"".join(stream))
        wrong = {(fix.utc, fix.latitude, fix.longitude) for fix in fixes if fix.latitude is not None} - true
        damaged += len(stream)
        foreign += len(wrong)
        assert len(wrong) <= len(blind)
        assert all(abs(latitude or 0) <= 90 and abs(longitude or 0) <= 180 for _, latitude, longitude in wrong)
    assert damaged == 20_000
    assert foreign <= damaged / 256


def test_no_damaged_fix_stays_in_the_track_where_gga_and_rmc_agree() -> None:
    result = measure(5_000, 0.1, damage)
    assert (result.wrong_in_track, result.wrong_rows <= 5) == (0, True)
    swapped = measure(200, 0.01, swap)  # no checksum sees these
    assert swapped.furthest_m < 1.0


def test_after_thirty_equal_places_a_difference_is_damage() -> None:
    def epochs(count: int, slip: str) -> list[Fix]:
        norths = [f"4710.1{number:07}" for number in range(count)]
        clocks = [f"1535{number // 10:02}.{number % 10}0" for number in range(count)]
        bodies = [part(clock, north=north) for clock, north in zip(clocks, norths, strict=True) for part in (gga, rmc)]
        bodies[-1] = rmc(clocks[-1], north=slip)
        return log(*bodies)

    assert epochs(20, "4710.20000000")[-1].latitude is not None
    last = epochs(32, "4710.20000000")[-1]
    assert (last.latitude, last.flags) == (None, ("conflict",))


def test_any_bytes_are_survived() -> None:
    luck = random.Random(5)
    for _ in range(300):
        body = ",".join(luck.choice(["", "1", "-1", "nan", "1e9", "A", "153530.00", "4710.1", "N"]) for _ in range(20))
        kinds = ["GGA", "RMC", "GNS", "GLL", "GST", "ZDA", "VTG", "GSA"]
        found = Framer().feed(luck.randbytes(200) + sentence(f"GP{luck.choice(kinds)},{body[: luck.randrange(80)]}"))
        for fix in assemble(found):
            csv_line(fix)
