"""The display latency of a phone from an LED that blinks a known pattern beside its code, both filmed by one camera.

The LED says when the pictures were taken, the code says when its animation frame began: the difference is the display
latency, from the frame's time stamp to the light in the row of the code's centre.
`python -m rig.timing.led blink` drives the LED, `python -m rig.timing.led estimate VIDEO` measures and stores.
"""

import argparse
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import configs
from configs import Settings
from rig import cli
from rig.clock import NS_PER_MS, NS_PER_S, UtcClock
from rig.errors import DeviceNotFoundError, NoCalibrationError, UnreadableError
from rig.files import read_entries, write_atomically, write_entries
from rig.timing.gpio import Switch, opened
from rig.workers import Link

if TYPE_CHECKING:
    from rig.timing.codelog import CodeLog

LOG_NAME = "led.json"
STORE_NAME = "display-latency.json"
USUAL_LATENCY_MS = Settings().display_latency_ms, Settings().display_latency_error_ms
SHORTEST_NS, LONGEST_NS = 40 * NS_PER_MS, 120 * NS_PER_MS  # between two edges: longer than a frame
DEFAULT_SECONDS = 10.0  # at 29.97 frames/s a 60 Hz screen shows a mixed code only now and then
SPIN_NS = 2 * NS_PER_MS  # a sleep may be so late; the rest is waited for awake
NAP_S = 0.05  # at most, so that a stop is heard
START_DELAY_NS = 100 * NS_PER_MS
SERVER_ASKED = 20  # times: the fastest answer bounds the clock best
SERVER_TIMEOUT_S = 3.0


@dataclass(frozen=True, slots=True)
class LedLog:
    """When the LED was switched: (UTC in ns by the Pi's clock, on), in order, off before and after."""

    seed: int
    edges: tuple[tuple[int, bool], ...]
    clock_error_ns: int  # half-width of these instants against the clock that the page asks for


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """The display latency of one phone and browser, for the row of the code's centre, with its half-width (99 %)."""

    user_agent: str
    latency_ms: float
    error_ms: float
    when: str  # of the film, ISO 8601 UTC
    codes: int
    method: str  # how the codes told their time: led+vernier or led+interval


def pattern(seed: int, seconds: float) -> tuple[int, ...]:
    """When to switch, in ns from the first edge (on); an even number of edges, so that the LED ends dark."""
    dice = random.Random(seed)
    instants = [0]
    while instants[-1] < seconds * NS_PER_S or len(instants) % 2:
        instants.append(instants[-1] + dice.randint(SHORTEST_NS, LONGEST_NS))
    return tuple(instants)


def blink(
    switch: Switch, clock: UtcClock, seconds: float, seed: int, keep_on: Callable[[], bool], clock_error_ns: int = 0
) -> LedLog:
    """Switch an LED by the pattern of `seed`; the log holds when it really happened.

    `keep_on` is asked in the pauses; when it says no, the log ends there.
    """
    begin_ns = time.monotonic_ns() + START_DELAY_NS
    edges: list[tuple[int, int]] = []  # before and after each, by CLOCK_MONOTONIC
    try:
        for instant in pattern(seed, seconds):
            if not _wait(begin_ns + instant, keep_on):
                break
            edges.append(_turn(switch, len(edges) % 2 == 0))
    finally:
        if len(edges) % 2:
            edges.append(_turn(switch, False))
        switch(False)
    took = sorted(after - before for before, after in edges)
    # One edge during which the process was held up must not widen all: the fit bears single wrong edges.
    doubt_ns = took[len(took) * 95 // 100] // 2 if took else 0
    middles_ns = (clock.utc_ns((before + after) // 2) for before, after in edges)
    return LedLog(seed, tuple(zip(middles_ns, cycle((True, False)))), clock_error_ns + doubt_ns)


def blink_worker(link: Link, folder: Path, seconds: float, settings: Settings, clock: UtcClock) -> None:
    """Blink the LED of `settings.led_pin`, write `led.json` into a recording's folder and report it; a worker's target.

    `clock` is the one that `/api/time` tells, `Car.clock()`. Raises DeviceNotFoundError off the Pi.
    """

    def keep_on() -> bool:
        link.check()
        return not link.stopping

    with opened(settings.led_pin) as switch:
        edges = blink(switch, clock, seconds, random.randrange(1 << 32), keep_on)
    write_log(folder / LOG_NAME, edges)
    link.report(edges)


def write_log(path: Path, edges: LedLog) -> None:
    """Store a log as `{"seed", "edges": [[utc_ns, on], ...], "clock_error_ns"}`."""
    write_atomically(path, json.dumps(asdict(edges)).encode())


def read_log(path: Path) -> LedLog:
    """The log in a file. Raises UnreadableError when it is none, or its edges are not in order, on and off in turn."""
    try:
        values = json.loads(path.read_bytes())
        edges = tuple((int(utc_ns), bool(on)) for utc_ns, on in values["edges"])
        found = LedLog(int(values["seed"]), edges, int(values["clock_error_ns"]))
    except OSError as error:
        raise UnreadableError(
            f"{path} cannot be read ({error.strerror})", cure="name the log of the LED with --led"
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableError(f"{path} is not a log of the LED ({error!r})", cure="blink again") from error
    in_order = all(old[0] < new[0] and old[1] != new[1] for old, new in pairwise(edges))
    if not edges or not edges[0][1] or edges[-1][1] or not in_order:
        raise UnreadableError(f"the edges in {path} are not in order, on and off in turn", cure="blink again")
    return found


def measure_worker(link: Link, films: Sequence[Path], folder: Path, user_agent: str, settings: Settings) -> None:
    """Report the LatencyResult of the film that tells it best, all of one blinking; a worker's target.

    `films` are files or folders of streams, `folder` holds the LED's log and what pages say that they drew. Raises
    what `measure` raised of the first film when none tells it, UnreadableError without the LED's log.
    """
    from rig.timing.codelog import read_logs  # here: see measure

    edges, logs = read_log(folder / LOG_NAME), read_logs(folder)
    found, failures = [], []
    for film in films:
        try:
            found.append(measure(film, edges, user_agent, logs, settings))
        except (NoCalibrationError, UnreadableError) as error:
            failures.append(error)
    if not found:
        raise failures[0]
    best = min(found, key=lambda result: result.error_ms)
    store(settings.output, best)
    link.report(best)


def measure(film: Path, edges: LedLog, user_agent: str, logs: "Sequence[CodeLog]", settings: Settings) -> LatencyResult:
    """The display latency from a film of LED and code: a file, or the folder of a stream that may still be written.

    `logs` are what pages say that they drew (`codelog.read_logs`); with one, its offset's bound is in the bar,
    and it names the user agent where `user_agent` is empty. Raises UnreadableError for a film that cannot be read or
    when nothing names the phone, NoCalibrationError when code or LED are not in the film.
    """
    from rig.timing import ledfilm  # here: PyAV and OpenCV have no place in the server

    found = ledfilm.estimate(film, edges, settings, logs)
    agent = user_agent or found.user_agent
    if not agent:
        raise UnreadableError(
            "nothing says which phone and browser showed the code",
            cure="show the page /qrcode of this Pi, or name the user agent",
        )
    return replace(found, user_agent=agent)


def stored_latency(output: Path, user_agent: str) -> tuple[float, float] | None:
    """(latency in ms, its half-width in ms) that was measured for this phone and browser; None when it never was."""
    entry = read_entries(output / STORE_NAME).get(user_agent, {})
    with suppress(TypeError, ValueError, KeyError):
        return float(entry["latency_ms"]), float(entry["error_ms"])
    return None


def display_latency(settings: Settings, user_agents: Iterable[str]) -> tuple[float, float]:
    """(ms, half-width in ms) as asked for in the settings, else as measured of the one phone that showed the page."""
    asked = settings.display_latency_ms, settings.display_latency_error_ms
    agents = set(user_agents)
    if asked != USUAL_LATENCY_MS or len(agents) != 1:
        return asked
    return stored_latency(settings.output, agents.pop()) or asked


def store(output: Path, result: LatencyResult) -> None:
    """Keep a result for later films of this phone and browser."""
    values = asdict(result)
    entries = read_entries(output / STORE_NAME) | {str(values.pop("user_agent")): values}
    output.mkdir(parents=True, exist_ok=True)
    write_entries(output / STORE_NAME, entries)


def _turn(switch: Switch, on: bool) -> tuple[int, int]:
    """Before and after it was done."""
    before = time.monotonic_ns()
    switch(on)
    return before, time.monotonic_ns()


def _wait(until_ns: int, keep_on: Callable[[], bool]) -> bool:
    """Sleep, then spin until an instant of CLOCK_MONOTONIC; False when told to end."""
    while (left := until_ns - time.monotonic_ns()) > SPIN_NS:
        if not keep_on():
            return False
        time.sleep(min(NAP_S, (left - SPIN_NS) / NS_PER_S))
    while time.monotonic_ns() < until_ns:
        pass
    return True


def server_clock(url: str) -> UtcClock:
    """The clock of the running server; its sigma is the half-width of what the answers leave open.

    Raises DeviceNotFoundError when it does not answer: the page would then have asked another clock.
    """
    answers: list[tuple[int, int, int]] = []
    for _ in range(SERVER_ASKED):
        sent = time.monotonic_ns()
        try:
            with urllib.request.urlopen(f"{url}/api/time", timeout=SERVER_TIMEOUT_S) as answer:
                utc_ns = int(json.load(answer)["utc_ns"])
        except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
            raise DeviceNotFoundError(
                f"no edenCar server answers at {url}", cure="start ./edencar serve: the page takes its time from there"
            ) from error
        answers.append((time.monotonic_ns() - sent, sent, utc_ns))
    took, sent, utc_ns = min(answers)
    middle = sent + took // 2
    return UtcClock(utc_ns - middle, middle, took // 2, "server")


def _parser() -> argparse.ArgumentParser:
    common = cli.verb_options()
    parser = argparse.ArgumentParser(prog="rig.timing.led", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("blink", parents=[common], help="blink the LED and write led.json")
    verb.add_argument("--seconds", type=float, default=DEFAULT_SECONDS)
    verb.add_argument("--seed", type=int, default=None, help="of the pattern; any by default")
    verb.add_argument("--pin", help="BCM number, or a file that takes 1 and 0; the setting led_pin by default")
    verb.add_argument("--server", help="whose clock the page shows; the one of this machine by default")
    verb.add_argument("--output", type=Path, default=Path(), help="folder for led.json")
    verb = verbs.add_parser("estimate", parents=[common], help="measure the display latency from a film and store it")
    verb.add_argument("video", type=Path)
    verb.add_argument("--led", type=Path, default=None, help="log of the LED; led.json beside the video by default")
    verb.add_argument("--user-agent", default="", help="of the phone's browser; by default what its page uploaded")
    verb.add_argument("--recording", type=Path, default=None, help="its folder, with what the page says that it drew")
    verb.add_argument("--output", type=Path, help=f"folder of {STORE_NAME}; the setting output by default")
    return parser


def _run(options: argparse.Namespace) -> LedLog | LatencyResult:
    settings = configs.load()
    if options.verb == "blink":
        return _blink_now(options, settings)
    from rig.timing.codelog import read_logs  # here: see measure

    logs = read_logs(options.recording) if options.recording else []
    edges = read_log(options.led or options.video.parent / LOG_NAME)
    result = measure(options.video, edges, options.user_agent, logs, settings)
    store(options.output or settings.output, result)
    return result


def _blink_now(options: argparse.Namespace, settings: Settings) -> LedLog:
    seed = random.randrange(1 << 32) if options.seed is None else options.seed
    with opened(options.pin or settings.led_pin) as switch:
        clock = server_clock(options.server or f"http://127.0.0.1:{settings.port}")
        edges = blink(switch, clock, options.seconds, seed, lambda: True, clock.sigma_ns)
    options.output.mkdir(parents=True, exist_ok=True)
    write_log(options.output / LOG_NAME, edges)
    return edges


def _say(result: LedLog | LatencyResult) -> str:
    if isinstance(result, LedLog):
        return f"{len(result.edges)} edges, each within {result.clock_error_ns / NS_PER_MS:.2f} ms"
    return (
        f"display latency {result.latency_ms:.1f} ms ± {result.error_ms:.1f} ms "
        f"({result.method}, {result.codes} codes), stored for {result.user_agent}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    return cli.run(_parser(), _run, _say, argv)


if __name__ == "__main__":
    raise SystemExit(main())
