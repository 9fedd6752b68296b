"""Hours of a simulated drive, written at once: what was put into its clocks comes out of its pictures and times."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from configs import Settings
from measure import delay, drift, light
from measure.light import Event, Jump, common_events
from measure.report import Bar
from rig.clock import NS_PER_S
from rig.errors import NoCalibrationError
from rig.footage.pixels import luma
from rig.footage.video import find_videos, videos_of
from simulator import car, measure
from simulator.car import CarPlan
from simulator.film import Film
from simulator.hours import BEGAN_APART_S, write_recording
from simulator.lamp import BLINKS, Lamp, blinks
from simulator.stage import DemoError
from simulator.world import Street, World
from tests.films import BEGIN_NS, steady, write_film
from tests.machine import free_port

ROOT = Path(__file__).parent.parent
SKEW_MS = BEGAN_APART_S * 1000
PERIOD_NS = NS_PER_S // 25


def holds(bar: Bar | None, truth: float) -> bool:
    return bar is not None and abs(bar.value - truth) <= bar.error


def check(folder: Path, seed: int, hours: float, rates_ppm: tuple[float, float], growth: float) -> None:
    """A drive with these clocks: slow by so many ppm, as the report says it, and a delay that grows."""
    plan = CarPlan(
        anti_flicker_hz=50,
        crystals_ppm=tuple(-ppm for ppm in rates_ppm),
        crystal_drift_ppm_per_hour=0.0,
        latency_growth_ms_per_h=growth,
        seed=seed,
    )
    write_recording(folder, plan, hours, BEGIN_NS)
    for (found, _), ppm in zip(delay.measure_recording(folder, Settings()), rates_ppm, strict=True):
        assert holds(found.drift_ppm, ppm), (seed, found)
        assert holds(found.growth_ms_per_h, growth), (seed, found)
        assert found.pictures == pytest.approx(hours * 3600 * 25, abs=10)
        assert found.lost == 0
    (pair,), _ = drift.measure_recording(folder, Settings())
    assert holds(pair.drift_ppm, rates_ppm[0] - rates_ppm[1]), (seed, pair)
    assert holds(pair.start_skew_ms, SKEW_MS), (seed, pair)


@pytest.mark.timeout(300)
def test_a_short_drive_shows_what_was_put_in(tmp_path: Path) -> None:
    check(tmp_path, 0, 0.2, (1.0, -30.0), 5.0)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_growth_of_5_ms_an_hour_and_drift_of_1_ppm_are_found_in_20_of_20_drives(tmp_path: Path) -> None:
    for seed in range(20):
        check(tmp_path / str(seed), seed, 2.0, (1.0, 0.0), 5.0)


def check_lamp(folder: Path, seed: int, hours: float, crystals_ppm: tuple[float, float], bar_ppm: float) -> None:
    """Two cameras that saw a lamp switched at three places."""
    plan = CarPlan(anti_flicker_hz=50, crystals_ppm=crystals_ppm, crystal_drift_ppm_per_hour=0.0, seed=seed)
    write_recording(folder, plan, hours, BEGIN_NS, is_lamp=True)
    (pair,), curves = drift.measure_lamp(folder)
    assert holds(pair.drift_ppm, crystals_ppm[1] - crystals_ppm[0]), (seed, pair)
    assert pair.drift_ppm.error < bar_ppm, (seed, pair)
    assert holds(pair.start_skew_ms, SKEW_MS), (seed, pair)
    assert len(curves.series[0].x) == 3, seed


@pytest.mark.timeout(300)
def test_a_lamp_tells_the_drift_within_its_bar_and_the_command_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_lamp(tmp_path, 1, 0.5, (60.0, -40.0), 50.0)
    assert drift.main([str(tmp_path), "--light", "--output", str(tmp_path / "report"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    (pair,) = result["pairs"]
    assert abs(pair["drift_ppm"]["value"] + 100.0) <= pair["drift_ppm"]["error"]
    (verdict,) = result["verdicts"]
    assert verdict.startswith("the clock of right gains -")
    assert "left, right</td>" in Path(result["report"]).read_text(encoding="utf-8")
    heading, *rows = (tmp_path / "report" / "drift.csv").read_text(encoding="utf-8").splitlines()
    assert heading == "curve,since_s,ahead_ms"
    assert len(rows) == 3, "start, middle and end"
    assert rows[0] == '"left, right",0.0,0.0'
    for item in videos_of(tmp_path):
        jumps = light.find_jumps(item)
        assert [jump.is_on for jump in jumps] == [True, False] * 3 * BLINKS
        assert all(jump.high_ns - jump.low_ns < 1.2 * PERIOD_NS for jump in jumps)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_lamp_tells_the_drift_within_its_bar_in_20_of_20_drives(tmp_path: Path) -> None:
    for seed in range(20):
        left_ppm, right_ppm = np.random.default_rng(seed).uniform(-50, 50, 2).tolist()
        check_lamp(tmp_path / str(seed), seed, 2.0, (left_ppm, right_ppm), 15.0)


def test_recordings_that_tell_nothing_end_with_a_line_that_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seconds of one camera, then of two, in which neither the code nor a lamp is seen."""
    for main, label, code, words in (
        (delay.main, "left", 3, "holds no stream of two minutes or more: record longer, in mode video"),
        (drift.main, "left", 3, "has one camera only: record with two or more"),
        (drift.main, "right", 4, "--start-utc"),
        (lambda argv: drift.main([*argv, "--light"]), "right", 4, "saw the lamp at 0 places"),
    ):
        (tmp_path / "videos" / label).mkdir(parents=True, exist_ok=True)
        write_film(tmp_path / "videos" / label / "GX010001.MP4", steady(30))
        assert main([str(tmp_path), "--output", str(tmp_path / "report")]) == code
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_a_lamp_that_both_saw_once_tells_no_drift(tmp_path: Path) -> None:
    write_film(tmp_path / "film.ts", steady(30))
    (item,) = find_videos([tmp_path / "film.ts"])
    with pytest.raises(NoCalibrationError, match="saw the lamp at 1 places"):
        drift.compare_events(item, item, [Event(0, 0.0, 1.0, 8)])


def jumps_at(times_s: list[float], ahead_s: float, phase: float) -> list[Jump]:
    """What a camera of 25 pictures a second sees of a lamp: between which two of its pictures it was switched."""
    found = []
    for number, time_s in enumerate(times_s):
        place = np.floor((time_s + ahead_s) * 25 - phase)
        low = round((place + phase) * PERIOD_NS)
        found.append(Jump(low, low + PERIOD_NS, number % 2 == 0, round(time_s * NS_PER_S)))
    return found


def test_many_jumps_hold_the_truth_closer_than_one() -> None:
    dice = np.random.default_rng(4)
    errors = []
    for _ in range(200):
        times = np.cumsum(dice.uniform(1.1, 1.6, 16)).tolist()
        ahead_s = dice.uniform(-5, 5)
        seen = jumps_at(times, 0.0, dice.random()), jumps_at(times, ahead_s, dice.random())
        (event,) = common_events(*seen)
        assert event.jumps == 16
        assert abs(event.ahead_ns - ahead_s * NS_PER_S) <= event.error_ns + 1
        assert event.error_ns < 1.1 * PERIOD_NS
        errors.append(event.error_ns)
        assert common_events(seen[0][:3], seen[1][:3]) == [], "so few may be the scenery's"
    assert np.median(errors) < 0.55 * PERIOD_NS


def test_jumps_that_contradict_each_other_are_no_event() -> None:
    one = jumps_at([1.0, 2.5, 4.0, 5.5], 0.0, 0.0)
    other = [
        Jump(jump.low_ns + shift, jump.high_ns + shift, jump.is_on, jump.came_ns)
        for jump, shift in zip(one, (0, 0, 0, 10**9), strict=True)
    ]
    assert common_events(one, other) == []
    assert common_events(one, []) == []


def test_rows_exposed_after_the_switch_are_lighter() -> None:
    film = Film(World(BEGIN_NS, 0), Street(start_utc_ns=BEGIN_NS), "left", 640, 360)
    lamp = Lamp(((BEGIN_NS, True), (BEGIN_NS + NS_PER_S, False)))
    dark, during, lit = (
        luma(film.picture(BEGIN_NS + at_ns, 1, lamp=lamp)).astype(int) for at_ns in (-NS_PER_S, 0, NS_PER_S // 2)
    )
    assert (during[:80] == dark[:80]).all(), "read before it was switched"
    assert (during[-80:] == lit[-80:]).all()
    assert lit[150:200].mean() > dark[150:200].mean() + 20
    assert blinks(BEGIN_NS, 1) == blinks(BEGIN_NS, 1)


@pytest.mark.parametrize("verb", ["fov", "buffer", ""])
def test_what_is_not_told_from_times_cannot_be_hurried(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert measure.main(["--speed", "--keep", str(tmp_path), *filter(None, [verb])]) == 2
    assert "--speed goes with delay and drift only" in capsys.readouterr().err


@pytest.mark.parametrize("hours", ["0", "-1", "nan", "1000", "long"])
def test_hours_that_cannot_be_are_refused_before_they_are_written(
    hours: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        measure.main(["--speed", "--keep", str(tmp_path), "delay", "--hours", hours])
    assert refused.value.code == 2
    assert f"argument --hours: {hours} is not between 0.05 and 24" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert measure.main(["--keep", str(tmp_path / "file"), "delay"]) == 1
    assert capsys.readouterr().err == (
        f"measure: {tmp_path / 'file'} cannot be written (File exists): name another --keep\n"
    )


def test_an_unknown_measurement_is_told_without_starting_a_car(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert measure.main(["--keep", str(tmp_path), "delya"]) == 2
    assert "usage: edencar measure VERB" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_car_that_does_not_start_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["--cameras", "7", "--keep", str(tmp_path), "drift"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"measure: the simulated car ended by itself with exit code 2; the log is {tmp_path / measure.LOG}"
    )
    assert "invalid choice: 7" in (tmp_path / measure.LOG).read_text()


def test_a_simulated_measurement_ends_as_the_command_does_and_with_its_car() -> None:
    def run(code: str) -> int:
        command = [sys.executable, "-c", f"import sys, time; {code}"]
        return measure._measure(command, cast(Any, SimpleNamespace(url="")), f"http://127.0.0.1:{free_port()}")

    assert run("sys.exit(4)") == 4
    for asked in (measure.ASKED_CODE, measure.ASKED_LAMP):
        with pytest.raises(DemoError, match="the simulated car does not answer"):
            run(f"print({asked!r}, file=sys.stderr, flush=True); time.sleep(999)")


@pytest.mark.timeout(300)
def test_the_command_hurries(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "measure", "--speed", "--cameras", "1", "--anti-flicker", "50"]
    command += ["--crystals-ppm=-25", "--crystal-drift-ppm-per-hour", "0", "--seed", "3"]
    command += ["--latency-growth-ms-per-h", "40", "--keep", str(tmp_path), "delay", "--hours", "0.5"]
    done = subprocess.run(
        [*command, "--output", str(tmp_path / "report"), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (camera,) = json.loads(done.stdout)["cameras"]
    assert camera["hours"] == pytest.approx(0.5, abs=0.001)
    assert camera["growth_ms_per_h"]["value"] == pytest.approx(40, abs=camera["growth_ms_per_h"]["error"])
    assert camera["drift_ppm"]["value"] == pytest.approx(25, abs=camera["drift_ppm"]["error"])
    assert "0.5 h written in" in done.stderr


def test_what_is_put_into_the_cameras_reaches_the_car(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def begin(_cameras: int, _size: int, _scratch: Path, _log: object, more: list[str]) -> None:
        told.extend(more)
        raise DemoError("no car today")

    monkeypatch.setattr(measure, "simulated_car", begin)
    options = ["--crystals-ppm=-3", "--crystal-drift-ppm-per-hour", "0.5", "--seed", "9", "--anti-flicker", "50"]
    options += ["--latency-growth-ms-per-h", "5", "--camera-fault", "udp_loss=0.001", "--keep", str(tmp_path)]
    for verb in ("delay", "buffer", "fov"):
        told.clear()
        assert measure.main([*options, verb]) == 1
        plan = car._plan(car._parser().parse_args(told))
        assert plan == CarPlan(
            anti_flicker_hz=50,
            crystals_ppm=(-3.0, *CarPlan().crystals_ppm[1:]),
            crystal_drift_ppm_per_hour=0.5,
            latency_growth_ms_per_h=5.0,
            chart_m=0.4 if verb == "fov" else 0.0,
            seed=9,
            camera_faults=(("udp_loss", 0.001),),
        )


def test_what_cannot_be_put_in_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measure.main(["--speed", "--camera-fault", "udp_loss=0.1", "--keep", str(tmp_path), "delay"]) == 2
    assert capsys.readouterr().err == "measure: no --camera-fault shows with --speed\n"
    with pytest.raises(SystemExit):
        measure.main(["--crystals-ppm", "fast", "delay"])
    assert "fast is no list of numbers like 1,0" in capsys.readouterr().err
