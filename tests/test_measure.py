"""Long measurements find what was put into a stream, within the bars that they state."""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from measure import delay, drift
from measure.charts import Series, chart, ticks
from measure.delay import measure_stream
from measure.drift import Run, compare
from measure.report import NAME, Chart, Table, Verdict, write_report
from measure.session import SAMPLE_COLUMNS, read_usage, usage_content, usage_verdicts
from measure.words import FRENCH, phrase
from rig.clock import NS_PER_MS, NS_PER_S, ClockCurve, fit_clock
from rig.errors import NoCalibrationError, UnreadableError
from rig.timing import timeline
from rig.timing.cameraclock import CameraClock
from tests.readings import BEGIN_NS, TERMS, film

ROOT = Path(__file__).parent.parent
HOURS = 2.0
RUNS = 20
BOOT_NS = 5_000 * NS_PER_S  # CLOCK_MONOTONIC when the stream begins


class Drive:
    """A stream of two hours: pictures, their arrival, the receiver's epochs, three films of the code."""

    def __init__(
        self, seed: int, rate_ppm: float, growth_ms_per_h: float, hours: float = HOURS, fps: float = 25.0
    ) -> None:
        self._rng = rng = np.random.default_rng(seed)
        self._rate_ppm, self._fps = rate_ppm, fps
        self.pts = np.arange(0, hours * 3600 * NS_PER_S, round(NS_PER_S / fps), dtype=np.int64)
        made = BEGIN_NS + self.pts + np.rint(self.pts * rate_ppm * 1e-6).astype(np.int64)
        late_ms = 230 + growth_ms_per_h * (self.pts / NS_PER_S / 3600) + rng.exponential(3.0, len(self.pts))
        self.came = self._monotonic(made + np.rint(late_ms * NS_PER_MS).astype(np.int64))
        self._hours = hours

    def _monotonic(self, utc_ns: "np.typing.NDArray[np.int64]") -> "np.typing.NDArray[np.int64]":
        """The host's crystal is 8 ppm off."""
        since = utc_ns - BEGIN_NS
        return np.asarray(BOOT_NS + since + np.rint(since * 8e-6).astype(np.int64))

    def receiver(self) -> ClockCurve:
        """5 epochs a second; the first byte comes 4 ms after, and jitters."""
        epochs = BEGIN_NS + np.arange(0, int(self._hours * 3600 * 5), dtype=np.int64) * (NS_PER_S // 5)
        late = np.rint((4 + self._rng.exponential(0.6, len(epochs))) * NS_PER_MS).astype(np.int64)
        clock = fit_clock(self._monotonic(epochs + late), epochs)
        assert clock
        return clock

    def clock(self, places: tuple[float, ...] = (0.001, 0.5, 0.999)) -> CameraClock:
        """By films of 4 s at these shares of the drive."""
        begins = [place * (self._hours * 3600 - 5) for place in places]
        films = [
            film(self._rng, first_pts_s=begin, seconds=4.0, fps=self._fps, rate_ppm=self._rate_ppm, wrong=0.0)
            for begin in begins
        ]
        readings = [reading for readings in films for reading in readings]
        return timeline.calibrate(readings, TERMS, None)


# Without the vernier a film of 29.97 fps and a screen of 60 Hz keep step: each code bounds the other's instant loosely.
@pytest.mark.parametrize(("fps", "drift_bar", "growth_bar"), [(25.0, 0.7, 2.5), (30000 / 1001, 3.0, 11.0)])
def test_growth_and_drift_are_found_within_their_bars_in_20_of_20_drives(
    fps: float, drift_bar: float, growth_bar: float
) -> None:
    for seed in range(RUNS):
        rng = np.random.default_rng(1000 + seed)
        rate_ppm, growth = (1.0, 5.0) if seed < RUNS // 2 else (rng.uniform(-40, 40), rng.uniform(-6, 6))
        drive = Drive(seed, rate_ppm, growth, fps=fps)
        found, series = measure_stream("left", drive.pts, drive.came, drive.receiver(), drive.clock())
        assert found.growth_ms_per_h
        assert found.drift_ppm
        assert abs(found.drift_ppm.value - rate_ppm) <= found.drift_ppm.error < drift_bar, seed
        assert abs(found.growth_ms_per_h.value - growth) <= found.growth_ms_per_h.error < growth_bar, seed
        assert abs(found.slope_ms_per_h.value - growth - 3.6 * rate_ppm) <= found.slope_ms_per_h.error < 0.1, seed
        assert series.edge_ms[0] == 0
        assert series.edge_ms[-1] == pytest.approx((growth + 3.6 * rate_ppm) * HOURS, abs=1.0)
        assert fps > 25 or seed >= RUNS // 2 or found.is_growing, "5 ms/h are seen"


def test_losses_are_told_over_time() -> None:
    drive = Drive(6, 0.0, 0.0, hours=0.2)
    lost_ns = np.array([100, 100, 400], dtype=np.int64) * NS_PER_S
    found, series = measure_stream("left", drive.pts, drive.came, None, None, lost_ns)
    assert found.lost == 3
    assert [series.lost[int(np.searchsorted(series.at_s, second))] for second in (50, 200, 500)] == [0, 2, 3]


def test_without_codes_at_both_ends_drift_and_growth_are_not_told_apart() -> None:
    drive = Drive(3, 10.0, 4.0, hours=0.2)
    for clock in (None, drive.clock(places=(0.01,))):
        found, _ = measure_stream("left", drive.pts, drive.came, drive.receiver(), clock)
        assert found.growth_ms_per_h is None
        assert "nobody can say" in str(found.verdict)
        assert abs(found.slope_ms_per_h.value - 40.0) <= found.slope_ms_per_h.error


def test_a_stream_of_a_minute_is_refused() -> None:
    drive = Drive(4, 0.0, 0.0, hours=1 / 60)
    with pytest.raises(UnreadableError, match="two minutes"):
        measure_stream("left", drive.pts, drive.came, None, None)


def test_two_cameras_drift_as_they_were_made_to_in_20_of_20_drives() -> None:
    for seed in range(RUNS):
        rates = np.random.default_rng(2000 + seed).uniform(-30, 30, 2)
        runs = []
        for number, rate_ppm in enumerate(rates):
            drive = Drive(10 * seed + number, float(rate_ppm), 0.0)
            runs.append(Run(f"camera {number}", drive.clock(), int(drive.pts[0])))
        found = compare(*runs)
        true_ppm = float(rates[0] - rates[1])
        assert abs(found.drift_ppm.value - true_ppm) <= found.drift_ppm.error, seed
        span_s = (runs[0].clock.anchors[-1].utc_ns - runs[0].clock.anchors[0].utc_ns) / NS_PER_S
        assert abs(found.apart_ms[2].value - true_ppm * span_s / 1000) <= found.apart_ms[2].error, seed
        assert found.apart_ms[0].value == 0
        assert abs(found.start_skew_ms.value) <= found.start_skew_ms.error, "both began at the same instant"


def test_cameras_that_filmed_the_code_once_are_refused() -> None:
    drive = Drive(5, 0.0, 0.0, hours=0.1)
    run = Run("left", drive.clock(places=(0.1,)), int(drive.pts[0]))
    with pytest.raises(NoCalibrationError, match="one place only"):
        compare(run, run)


def test_cameras_that_never_filmed_the_code_at_the_same_time_are_refused() -> None:
    drive = Drive(6, 0.0, 0.0, hours=0.2)
    runs = [Run(str(places), drive.clock(places), int(drive.pts[0])) for places in ((0.1, 0.4), (0.6, 0.9))]
    for pair in (runs, runs[::-1]):
        with pytest.raises(NoCalibrationError, match="before"):
            compare(*pair)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["nowhere"], 3, "no recording's folder"),
        (["--hours", "0"], 2, "not between"),
        (["--hours", "1", "--server", "http://127.0.0.1:9"], 7, "does not answer"),
    ],
)
def test_bad_input_is_told_in_one_line(
    argv: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for main in (delay.main, drift.main):
        assert main([*argv, "--output", str(tmp_path / "report"), "--json"]) == code
        printed = capsys.readouterr()
        assert words in json.loads(printed.out)["error"]
        assert len(printed.err.splitlines()) == 1
        assert not (tmp_path / "report" / NAME).exists()


@pytest.mark.parametrize("main", [delay.main, drift.main])
def test_a_report_that_cannot_be_written_is_told_before_anything_is_measured(
    main: Callable[[list[str]], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["--output", str(tmp_path / "file")]) == 3
    assert f"{tmp_path / 'file'} cannot be used (File exists)" in capsys.readouterr().err


def test_usage_tells_a_leak_from_a_warm_up(tmp_path: Path) -> None:
    samples = tmp_path / "processes.csv"
    rows = [",".join(SAMPLE_COLUMNS)]
    for second in range(0, 7200, 10):
        warm = 20 * min(1.0, second / 300)
        rows.append(f"{second},steady,1,{80 + warm},{second * 0.02},12")
        rows.append(f"{second},leaking,2,{80 + 3 * second / 3600},{second * 0.5},{12 + second // 1000}")
    samples.write_text("\n".join([*rows, "7200,torn"]))
    steady, leaking = read_usage(samples)
    assert steady.memory_mb_per_hour == pytest.approx(0, abs=0.01)
    assert steady.cpu_share == pytest.approx(0.02)
    assert leaking.memory_mb_per_hour == pytest.approx(3, abs=0.01)
    table, _, processor = usage_content(samples)
    assert isinstance(table, Table)
    assert isinstance(processor, Chart)
    assert [row[3] for row in table.rows] == ["2.0%", "50.0%"]
    assert processor.series[1].y == pytest.approx(np.full(719, 50.0))
    memory, files = usage_verdicts([steady, leaking], 7200)
    assert not memory.good
    assert "leaking" in str(memory.text)
    assert not files.good
    assert all(item.good for item in usage_verdicts([steady], 7200))
    assert not usage_verdicts([leaking], 600), "ten minutes tell no slope"


def test_all_that_reports_say_is_said_in_french_too() -> None:
    """Phrases with figures, headings of tables, titles and labels of charts; and nothing is translated for nobody."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "measure").glob("*.py"))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    constants = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    calls = [
        (node.func.id, node.args) for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    said = [args[0] for name, args in calls if name == "phrase"]
    said += [label for name, args in calls if name == "Chart" for label in args[:3]]
    said += [args[1] for name, args in calls if name == "write_report"]
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "text":
            said.append(node.value)
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.value, ast.Dict)
            and "COLUMNS" in ast.unparse(node.target)
        ):
            said += [key for key in node.value.keys if key]
    english = {node.value for node in said if isinstance(node, ast.Constant)}
    assert len(english) > 60
    assert english <= set(FRENCH)
    assert set(FRENCH) <= constants
    for text, french in FRENCH.items():
        assert sorted(re.findall(r"\{\w+", text)) == sorted(re.findall(r"\{\w+", french)), text


def test_a_report_speaks_both_languages(tmp_path: Path) -> None:
    about = phrase("recording {recording}; bars hold 99 %", recording="<b>")
    verdict = Verdict(
        phrase("{camera}: {lost} gaps in the stream (of a datagram or more)", camera="left", lost=2),
        good=False,
    )
    table = Table(("camera", "open files"), (("left", "1.5"),))
    curve = Chart("Memory", "minutes", "MB", [Series("left", np.arange(9.0), np.linspace(0, 2.0, 9))])
    told = write_report(tmp_path, "How the cameras' clocks drift", about, [verdict], [table, curve])
    english, french = re.findall(r"<main lang=.*?</main>", Path(told["report"]).read_text(encoding="utf-8"))
    assert told["verdicts"] == ["left: 2 gaps in the stream (of a datagram or more)"]
    for main, words in (
        (english, ("drift</h1>", "2 gaps in the stream", "open files", "1.5<", "Memory", ">0.5<")),
        (french, ("caméras</h1>", "2 lacunes dans le flux", "fichiers ouverts", "1,5<", "Mémoire", ">0,5<")),
    ):
        assert [word for word in words if word not in main] == []
        assert "&lt;b&gt;" in main
    assert re.findall(r' d="[^"]*"', english) == re.findall(r' d="[^"]*"', french), "the same curves"


def test_ticks_are_round_and_within_the_range() -> None:
    assert ticks(0.0, 1.0, 5) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-3.7, 12.2, 5) == [0.0, 5.0, 10.0]


def test_a_chart_keeps_the_peak_of_a_long_series_and_leaves_out_what_is_no_number() -> None:
    y = np.zeros(100_000)
    y[54_321] = 7.0
    y[5] = np.nan
    drawn = chart("delay", "s", "ms", [Series("<left>", np.arange(100_000.0), y)])
    assert "&lt;left&gt;" in drawn
    assert "nan" not in drawn
    assert len(drawn) < 60_000
    assert 'points=""' not in drawn
    assert ">6<" in drawn, "the axis reaches the peak"
    assert chart("nothing", "s", "ms", [Series("", np.array([]), np.array([]))]) == ""
