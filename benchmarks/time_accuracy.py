"""How exact the time is: each promise of the time's design, beside what the first code read and the nominal rate give.

Readings, arrivals and epochs are simulated by the hundred; clips are drawn, encoded with H.264 and put through
parseVideo. The display's latency is given to both sides: what is compared is what is made of the readings. Errors are
in ms of UTC at mid-exposure of the middle row.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from configs import Settings
from measure.charts import Series, chart_file
from rig.clock import fit_clock
from rig.footage import pixels, video
from rig.photo.making import Wish, parse_videos
from rig.photo.spacing import Every
from rig.timing import arrival, codefilm, qrtime, timeline
from rig.timing.qrtime import CodeReader
from simulator.film import Film
from simulator.phone import QUIET_MODULES, Phone, draw_modules
from simulator.world import Street, World
from tests.readings import BEGIN_NS, LATENCY_NS, TERMS, film

NTSC = 30000 / 1001
CLOCK_HZ = 90_000
HOURS_S = 7200.0
KNOWN = replace(TERMS, display_latency_error_ns=0, clock_error_ns=0)
CODE_MIDDLE_MS = 6.5  # after the top row the simulated screen lights the code's centre
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: the figure must not be above its limit, or not below it when `at_least`."""

    case: str
    figure: float
    limit: float
    unit: str = "ms"
    today: float | None = None
    at_least: bool = False

    @property
    def passes(self) -> bool:
        return self.figure >= self.limit if self.at_least else self.figure <= self.limit

    def __str__(self) -> str:
        today = "" if self.today is None else f"{self.today:9.2f}"
        sign = ">=" if self.at_least else "<="
        verdict = "pass" if self.passes else "FAIL"
        return f"{self.case:66} {self.figure:9.3f} {sign} {self.limit:7.2f} {self.unit:6} {today:>9}  {verdict}"


def main() -> int:
    """Print the table; fails when a row is not as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=500, help="simulated for each row")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="only write the plots of docs/time.md there")
    options = parser.parse_args()
    if options.plots:
        _plots(options.plots)
        return 0
    count = options.films
    python = sys.version.split()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {python}")
    print(f"command: python -m benchmarks.time_accuracy --films {count}")
    print(f"{'':66} {'figure':>9}    {'limit':>7} {'':6} {'today':>9}")
    passes = True
    parts: list[Callable[[], list[Row]]] = [
        lambda: _one_film(count),
        lambda: _two_films(count // 5),
        _with_arrivals,
        _clips,
        _wrong,
        _wifi,
        _epochs,
        _cost,
    ]
    for part in parts:
        for row in part():
            print(row, flush=True)
            passes &= row.passes
    return int(not passes)


# --- readings ---------------------------------------------------------------------------------------------------------


def _one_film(count: int) -> list[Row]:
    rows = []
    for name, fps, limit_ms in (("25 fps x 60 Hz", 25.0, 1.5), ("29.97 fps x 60 Hz", NTSC, 7.5)):
        rng = np.random.default_rng(2026)
        outcomes = np.array([_error(rng, fps) for _ in range(count)])
        errors, bars, today = np.abs(outcomes[:, 0]), outcomes[:, 1], np.abs(outcomes[:, 2])
        rows += [
            Row(f"one film of 2 s, {name}, p95", _p95(errors), limit_ms, today=_p95(today)),
            Row(f"the interval covers the truth, {name}", 100 * float(np.mean(errors <= bars)), 99, "%", None, True),
            Row(f"median bar, {name}", float(np.median(bars)), 3 * float(np.median(errors)) + 1),
        ]
    return rows


def _error(rng: np.random.Generator, fps: float, seconds: float = 2.0) -> tuple[float, float, float]:
    rate_ppm = rng.uniform(-50, 50)
    readings = film(rng, fps=fps, seconds=seconds, rate_ppm=rate_ppm)
    clock = timeline.calibrate(readings, KNOWN)
    at = np.array([4_000_000_000], dtype=np.int64)
    truth = BEGIN_NS + 4e9 * (1 + rate_ppm * 1e-6)
    first = readings[0]
    today = first.code.utc_ns + LATENCY_NS + 4e9 - first.pts_ns
    return (int(clock.utc_ns(at)[0]) - truth) / 1e6, int(clock.error_ns(at)[0]) / 1e6, (today - truth) / 1e6


def _two_films(count: int) -> list[Row]:
    rows = []
    for name, fps, limit_ms in (("25 fps", 25.0, 3.0), ("29.97 fps", NTSC, 8.0)):
        rng = np.random.default_rng(2027)
        drives = [_drive(rng, fps) for _ in range(count)]
        ours = [float(np.abs(error).max()) for _, error, _, _ in drives]
        today = [float(np.abs(error).max()) for _, _, _, error in drives]
        rows.append(Row(f"two films, two hours, {name}, p95", _p95(ours), limit_ms, today=_p95(today)))
    return rows


def _drive(rng: np.random.Generator, fps: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Over a two hours' drive with a code at both ends: hours, the error, its bar, and today's error."""
    rate_ppm, drift = rng.uniform(-50, 50), _WarmUp(rng)
    readings = film(rng, fps=fps, rate_ppm=rate_ppm)
    end = film(rng, fps=fps, rate_ppm=rate_ppm, first_pts_s=HOURS_S)
    shift = round(float(drift.at(HOURS_S * 1e9)))
    readings += [replace(o, code=replace(o.code, utc_ns=o.code.utc_ns + shift)) for o in end]
    clock = timeline.calibrate(readings, KNOWN)
    at = np.linspace(3e9, HOURS_S * 1e9, 50).astype(np.int64)
    truth = at * (1 + rate_ppm * 1e-6) + drift.at(at)
    error = (clock.utc_ns(at) - BEGIN_NS - truth) / 1e6
    first = readings[0]
    today = (first.code.utc_ns + LATENCY_NS - BEGIN_NS - first.pts_ns + at - truth) / 1e6
    return at / 3.6e12, np.asarray(error), clock.error_ns(at) / 1e6, np.asarray(today)


class _WarmUp:
    """What a crystal gains in ns while it warms up: up to 4 ppm, in ten minutes."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._ppm = rng.uniform(-4, 4)

    def at(self, elapsed_ns: npt.ArrayLike) -> Floats:
        """After so much time."""
        tau = 600e9
        return np.asarray(self._ppm * 1e-6 * tau * (1 - np.exp(-np.asarray(elapsed_ns) / tau)))


def _with_arrivals() -> list[Row]:
    """One film at the start, and the stream's arrivals over WiFi-like jitter; the Pi's clock by 10 Hz NMEA."""
    rng = np.random.default_rng(2028)
    ours, today = [], []
    for _ in range(10):
        rate_ppm, warm_up = rng.uniform(-50, 50), _WarmUp(rng)
        pts = (np.arange(round(HOURS_S * 25)) / 25 * 1e9).astype(np.int64)
        truth = BEGIN_NS + pts * (1 + rate_ppm * 1e-6) + warm_up.at(pts)
        jitter = rng.exponential(5e6, len(pts)) + 30e6 * (rng.random(len(pts)) < 0.05)
        came = _monotonic(truth + 230e6 + jitter)
        epochs = BEGIN_NS + np.arange(round(HOURS_S * 10)) * 100_000_000
        heard = _monotonic(epochs + 4e6 + rng.exponential(3e6, len(epochs)))
        utc = fit_clock(heard, epochs.astype(np.int64))
        assert utc is not None
        edge = arrival.envelope(pts, utc.utc_ns(came) - pts)
        assert edge is not None
        readings = film(rng, fps=25.0, rate_ppm=rate_ppm)
        clock = arrival.along(timeline.calibrate(readings, KNOWN), edge, 20.0, (int(pts[0]), int(pts[-1])))
        ours.append(np.abs(clock.utc_ns(pts[75::750]) - truth[75::750]) / 1e6)
        first = readings[0]
        today.append(np.abs(first.code.utc_ns + LATENCY_NS - first.pts_ns + pts[75::750] - truth[75::750]) / 1e6)
    return [Row("one film + the stream's arrival times, two hours, p95", _p95(ours), 3.0, today=_p95(today))]


def _monotonic(utc_ns: Floats) -> npt.NDArray[np.int64]:
    """A Pi's clock: 12 ppm off, with the warmth of the day."""
    since = utc_ns - BEGIN_NS
    return np.asarray(since * (1 + 12e-6) + 3e-6 * 600e9 * np.sin(since / 2e12), dtype=np.int64)


def _wifi() -> list[Row]:
    """The rule of the page, 40 exchanges and the separate minima of both ways, over 2 to 30 ms of jitter."""
    rng = np.random.default_rng(2032)
    ways = 1 + rng.exponential(5, (1000, 2, 40)) + 30 * (rng.random((1000, 2, 40)) < 0.05)
    up, down = ways.min(axis=2).T
    errors, bounds = np.abs(up - down) / 2, (up + down) / 2
    today = np.abs(ways[:, 0, 0] - ways[:, 1, 0]) / 2  # one exchange, as if both ways took the same
    return [
        Row("page: offset to the Pi over a jittery WiFi, p95", _p95(errors), 0.5, today=_p95(today)),
        Row("page: its bound covers the truth", 100 * float(np.mean(errors <= bounds)), 99, "%", None, True),
    ]


def _epochs() -> list[Row]:
    """Two hours of 10 Hz NMEA with jitter, 16 ms of USB buffering and stalls; latency apart."""
    rng = np.random.default_rng(2029)
    errors, today = [], []
    for _ in range(5):
        epochs = (BEGIN_NS + np.arange(round(HOURS_S * 10)) * 100_000_000).astype(np.int64)
        late = rng.exponential(3e6, len(epochs)) + rng.uniform(0, 16e6, len(epochs))
        late += np.where(rng.random(len(epochs)) < 0.001, 300e6, 0)
        heard = _monotonic(epochs + late)
        clock = fit_clock(heard, epochs)
        assert clock is not None
        truth = epochs[300:-300:100]
        error = (clock.utc_ns(_monotonic(truth.astype(np.float64))) - truth) / 1e6
        errors.append(np.abs(error - np.median(error)))
        today.append((late - np.median(late))[300:-300:100] / 1e6)
    return [Row("monotonic to UTC, two hours of 10 Hz NMEA, p95", _p95(errors), 3.0, today=_p95(np.abs(today)))]


# --- clips ------------------------------------------------------------------------------------------------------------

CLIPS = [
    ((1280, 720), 4),
    ((1280, 720), 8),
    ((1280, 720), 30),
    ((1920, 1080), 4),
    ((1920, 1080), 12),
    ((1920, 1080), 30),
]


def _clips() -> list[Row]:
    """Errors of whole clips, drawn and encoded, by parseVideo; by the interval alone on the same; and today's."""
    rng = np.random.default_rng(2030)
    whole, interval, bars, today = [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        for number, (size, megabits) in enumerate(CLIPS):
            path = Path(name) / f"clip-{number}.mp4"
            phone = Phone(
                refresh_hz=60 * (1 + rng.uniform(-1e-3, 1e-3)),
                phase_ns=BEGIN_NS + int(rng.uniform(0, 16e6)),
                latency_ms=LATENCY_NS / 1e6 - CODE_MIDDLE_MS,
                shown=((BEGIN_NS, None),),
            )
            seed = int(rng.integers(1, 1000))
            _write_clip(
                path, Film(World(BEGIN_NS, 0, 0.0), Street(seed, BEGIN_NS), "left", *size, seed), phone, megabits
            )
            values = _through_parse_video(path)
            whole.append((values["offset_ns"] - BEGIN_NS) / 1e6)
            bars.append(values["error_ms"]["start"])
            (item,) = video.find_videos([path])
            read = codefilm.read_windows(item, [(item.first_ns, item.last_ns)]).observations
            interval.append((timeline.calibrate(read, KNOWN).offset_ns - BEGIN_NS) / 1e6)
            today.append((read[0].code.utc_ns + LATENCY_NS - read[0].pts_ns - BEGIN_NS) / 1e6)
    errors = np.abs(whole)
    first = float(np.abs(today).max())
    covered = 100 * float(np.mean(errors <= np.array(bars)))
    return [
        Row(
            f"{len(CLIPS)} clips, H.264 4 to 30 Mbit/s, 25 fps, interval, max",
            float(np.abs(interval).max()),
            2.0,
            today=first,
        ),
        Row(f"{len(CLIPS)} clips through parseVideo, with the vernier, max", float(errors.max()), 0.5, today=first),
        Row("their bars cover the truth", covered, 99, "%", None, True),
        Row("their median bar", float(np.median(bars)), 3 * float(np.median(errors)) + 1),
    ]


def _through_parse_video(path: Path) -> Any:
    settings = Settings(output=path.parent, display_latency_ms=LATENCY_NS / 1e6, display_latency_error_ms=0.0)
    wish = Wish(every=Every(1.0), sharpest_of=1, min_sharpness=0.0, quality=90, dry_run=True)
    return parse_videos([path], path.parent / "out", settings, wish).calibration[path.stem]


def _write_clip(path: Path, scene: Film, phone: Phone, megabits: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "15", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = (
            scene.width,
            scene.height,
            "yuv420p",
            megabits * 10**6,
        )
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        for number in range(75):
            picture = scene.picture(BEGIN_NS + number * 40_000_000, number, phone)
            picture.pts, picture.time_base = number * CLOCK_HZ // 25, Fraction(1, CLOCK_HZ)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


# --- plots ------------------------------------------------------------------------------------------------------------

FILM_S = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
PLOTTED_FILMS = 100  # for each length


def _plots(folder: Path) -> None:
    """The plots of docs/time.md: a drive of two hours, and what longer films of the code give."""
    hours, error, bar, today = _drive(np.random.default_rng(2033), 25.0)
    ours = Series("a code at both ends", hours, error)
    drive = chart_file(
        "Two hours, one camera of 25 pictures a second: error of its time",
        "hours",
        "ms",
        (ours, Series("the first code read and the nominal rate", hours, today)),
    )
    bars = (Series("its bar, above", hours, bar), Series("and below", hours, -bar))
    close = chart_file("The same, near: the error and its bar", "hours", "ms", (ours, *bars))
    films = []
    for name, fps in (("25", 25.0), ("29.97", NTSC)):
        rng = np.random.default_rng(2034)
        outcomes = [[_error(rng, fps, seconds) for _ in range(PLOTTED_FILMS)] for seconds in FILM_S]
        errors = np.array([_p95([outcome[0] for outcome in each]) for each in outcomes])
        middle = np.array([np.median([outcome[1] for outcome in each]) for each in outcomes])
        films += [
            Series(f"{name}: error, p95", np.array(FILM_S), errors),
            Series(f"{name}: bar, median", np.array(FILM_S), middle),
        ]
    title = "One film of the code, screen of 60 Hz, by pictures a second"
    length = chart_file(title, "seconds filmed", "ms", films)
    for name, text in (("drive", drive), ("bar", close), ("film", length)):
        (folder / f"time-{name}.svg").write_text(text, encoding="utf-8")


# --- pictures ---------------------------------------------------------------------------------------------------------


def _wrong() -> list[Row]:
    """Times that were never shown, in 10^4 pictures of codes half glared, blurred, cut or mixed with the next one."""
    rng = np.random.default_rng(2031)
    wrong = 0
    for number in range(10_000):
        tick = int(rng.integers(17 * 10**12, 19 * 10**12))
        shown = [qrtime.encode((tick + step) * qrtime.TICK_NS, number + index) for index, step in enumerate((0, 167))]
        picture = _SPOILT[number % len(_SPOILT)](rng, *(_drawn(text) for text in shown))
        noisy = np.clip(picture + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
        reading = CodeReader().read(noisy)
        wrong += reading is not None and reading.code.utc_ns // qrtime.TICK_NS not in (tick, tick + 167)
    return [Row("wrong times in 10^4 pictures, glared, blurred, cut, mixed", float(wrong), 0, "")]


def _drawn(text: str, module_px: int = 5) -> Floats:
    modules = np.pad(draw_modules(text), QUIET_MODULES)
    return np.asarray(np.kron(20.0 + 200.0 * (1 - modules), np.ones((module_px, module_px))), dtype=np.float64)


def _glared(rng: np.random.Generator, code: Floats, _: Floats) -> Floats:
    rows, columns = np.indices(code.shape)
    y, x = rng.uniform(0.2, 0.8, 2) * len(code)
    spot = 400 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / rng.uniform(15, 40) ** 2)
    return np.asarray(np.minimum(code + spot, 255))


def _blurred(rng: np.random.Generator, code: Floats, _: Floats) -> Floats:
    return np.asarray(cv2.GaussianBlur(code, (0, 0), rng.uniform(1, 4)), dtype=np.float64)


def _cut(rng: np.random.Generator, code: Floats, _: Floats) -> Floats:
    cut = code.copy()
    cut[:, int(rng.uniform(0.3, 0.9) * len(code)) :] = 90
    return cut


def _mixed(rng: np.random.Generator, code: Floats, following: Floats) -> Floats:
    middle, soft = rng.uniform(0.1, 0.9), rng.uniform(0.01, 0.6)
    share = np.clip((np.linspace(0, 1, len(code)) - middle) / soft + 0.5, 0, 1)[:, None]
    return np.asarray((1 - share) * code + share * following)


_SPOILT: Sequence[Callable[[np.random.Generator, Floats, Floats], Floats]] = (_glared, _blurred, _cut, _mixed)


def _cost() -> list[Row]:
    """CPU of reading a picture in which the code is followed, and of searching one that has none."""
    scene = Film(World(BEGIN_NS, 0, 0.0), Street(3, BEGIN_NS), "left", 1920, 1080, 3)
    phone = Phone(phase_ns=BEGIN_NS, shown=((BEGIN_NS, None),))
    with_code = [pixels.luma(scene.picture(BEGIN_NS + n * 40_000_000, n, phone)).copy() for n in range(50)]
    without = [pixels.luma(scene.picture(BEGIN_NS + n * 40_000_000, n, None)).copy() for n in range(20)]
    reader = CodeReader()
    for picture in with_code[:5]:
        reader.read(picture)
    followed = _cpu_ms(lambda: [reader.read(picture) for picture in with_code], len(with_code))
    searched = _cpu_ms(lambda: [CodeReader().read(picture) for picture in without], len(without))
    return [
        Row("reading: a picture in which the code is followed, CPU", followed, 2.0),
        Row("reading: a 1080p picture that is searched, CPU", searched, 8.0),
    ]


def _cpu_ms(work: Callable[[], object], count: int) -> float:
    begin = time.process_time()
    work()
    return (time.process_time() - begin) / count * 1000


def _p95(values: npt.ArrayLike | Sequence[Floats]) -> float:
    return float(np.percentile(np.abs(np.asarray(values)), 95))


if __name__ == "__main__":
    raise SystemExit(main())
