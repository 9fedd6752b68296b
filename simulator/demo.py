"""All of it in half a minute: a simulated car, the real server, a recording, its photos, and how exact they are."""

import argparse
import json
import math
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import requests

from simulator.film import Film
from simulator.hero.encoder import TransportStream
from simulator.hero.sensor import Rate, Size
from simulator.phone import Phone
from simulator.stage import ANSWER_S, LOCALHOST, Api, DemoError, brief, real_server, show_phone, simulated_car
from simulator.verdict import Figures, Verdict, VerdictError, judge, table
from simulator.world import Street, World

USUAL_PORT, MOST_PORT = 5000, 65535
CONFLICT = 7  # the server's exit code when its port, or its folder, is somebody else's
PHONE_S = 4.0  # how long the code is shown, at the start and at the end
SHORTEST_S = 2 * PHONE_S + 2
FETCHING_S, JOB_S = 300.0, 900.0
JOB_RUNS = ("queued", "running")
LOG_LINES = 15
EXIT_INTERRUPTED = 130

MEASURING_S = 1.0
MEASURING_BIT_RATE = 4_000_000
FRAMES_PER_S = 29.97
MOST_LOAD = 0.65  # of all cores: the server and the system need the rest

SANE_TIME_P95_MS = 20.0
SANE_POSITION_P95_M = 0.30

REAL_DEVICES = (
    "the screen: its delay from drawing to light is unknown (10 to 60 ms); 38 here, the server assumes 35 +- 25",
    "the receiver: its delay from epoch to first byte is unknown and shifts all times; here 4 ms, the server assumes 0",
    "the cameras: stream delay, read-out and exposure vary with model, mode and light; here 230 ms, 15 ms and 8 ms",
    "the pictures: no lens distortion, no vibration, no blur by motion, no sun in the lens; codes are easy to read",
    "the radio: phone and server talk over a loop here; over WiFi the phone's clock is known to some milliseconds only",
    "cards and power: real SD cards stall, overheat and fill up, cables come out (the simulator's faults show these)",
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the demo does."""

    seconds: float
    output: Path
    port: int
    cameras: int
    height: int
    mode: str


def _record(plan: Plan, api: Api, control: str, say: Say) -> str:
    """Make a recording through the API, with the phone at both ends; its id."""
    recording = str(api.call("POST", "/api/start", {"mode": plan.mode, "name": "demo"})["recording"]["id"])
    began = time.monotonic()
    say(f"recording {recording}: POST /api/start, mode {plan.mode}")
    _film_phone(api, control, say)
    drive_s = plan.seconds - PHONE_S - (time.monotonic() - began)
    say(f"driving for {max(drive_s, 0):.0f} s")
    time.sleep(max(drive_s, 0))
    _film_phone(api, control, say)
    api.call("POST", "/api/stop")
    say(f"POST /api/stop after {time.monotonic() - began:.0f} s")
    return recording


def _film_phone(api: Api, control: str, say: Say) -> None:
    shown = show_phone(control, f"{api.url}/api/time")
    say(
        f"a phone shows the time code for {PHONE_S:.0f} s; its clock was {-shown['offset_ns'] / 1e9:+.3f} s wrong, "
        f"measured to +-{shown['bound_ns'] / 1e6:.1f} ms"
    )
    time.sleep(PHONE_S)
    show_phone(control, None)


def _process(api: Api, recording: str, say: Say) -> None:
    what = f"/api/recordings/{recording}"
    api.wait(what, lambda r: r["recording"]["state"] == "finished", FETCHING_S, "the end of the recording")
    began = time.monotonic()
    job = api.call("POST", f"{what}/process")["job"]
    path = f"/api/jobs/{job['id']}"
    job = api.wait(path, lambda j: j["job"]["state"] not in JOB_RUNS, JOB_S, "the end of processing")["job"]
    if job["state"] != "done":
        raise DemoError(f"processing {job['state']}: {job.get('error') or brief(job)}")
    say(f"processed in {time.monotonic() - began:.0f} s: POST {what}/process")


def _late_frames(control: str) -> dict[str, Any]:
    with suppress(requests.RequestException, ValueError):
        answer: dict[str, Any] = requests.get(f"{control}/counters", timeout=ANSWER_S).json()
        return answer
    return {}


def _doubts(figures: Figures) -> list[str]:
    """Why the figures are not what they should be; nothing when they are."""
    doubts = []
    if not figures.photos:
        return ["no photo could be compared with the truth"]
    if _or_inf(figures.time_p95_ms) >= SANE_TIME_P95_MS:
        doubts.append(f"95 % of the times are within {figures.time_p95_ms} ms, not {SANE_TIME_P95_MS:.0f}")
    if _or_inf(figures.interpolated_p95_m) >= SANE_POSITION_P95_M:
        doubts.append(
            f"95 % of the interpolated positions are within {figures.interpolated_p95_m} m, not {SANE_POSITION_P95_M}"
        )
    if not _or_inf(figures.interpolated_p95_m) < _or_inf(figures.nearest_p95_m):
        doubts.append("the interpolated positions are no better than the nearest fixes")
    return doubts


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


def choose_height(cameras: int, say: Say) -> int:
    """1080 or 720 rows, by how long drawing and encoding a picture takes here."""
    for height in (1080, 720):
        cost_s = _picture_cost_s(Size.of_height(height))
        load = cameras * FRAMES_PER_S * cost_s / (os.cpu_count() or 1)
        if load < MOST_LOAD or height == 720:
            break
    slow = "" if load < MOST_LOAD else "; this machine is slow, so pictures may come late or not at all"
    say(f"pictures of {height} rows: {cost_s * 1000:.0f} ms each, {load:.0%} of this machine in all{slow}")
    return height


def _picture_cost_s(size: Size) -> float:
    now_ns = time.time_ns()
    world, street = World(now_ns, time.monotonic_ns()), Street(start_utc_ns=now_ns - 10**10)
    film = Film(world, street, "left", size.width, size.height)
    stream = TransportStream(size, Rate(30_000, 1001), MEASURING_BIT_RATE)
    phone = Phone(shown=((now_ns, None),))
    began, count = time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < MEASURING_S:
        utc_ns = world.utc_ns()
        stream.datagrams(film.picture(utc_ns, count, phone), count * 3003)
        count += 1
    stream.close()
    return elapsed / count


def choose_port(wanted: int, say: Say) -> int:
    """The wanted TCP port, or a free one when it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOCALHOST, wanted))
        except OSError:
            probe.bind((LOCALHOST, 0))
            say(f"port {wanted} is taken: using {probe.getsockname()[1]}")
        return int(probe.getsockname()[1])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edencar demo",
        description="Record a simulated car through the real server and compare the photos with the truth.",
    )
    add = parser.add_argument
    add("--seconds", type=float, default=30.0, metavar="N", help="length of the recording (%(default)g)")
    add(
        "--exit", action="store_true", help="end when done instead of serving on; exit code 1 when figures are not sane"
    )
    add("--output", type=Path, default=Path("output"), help="folder of the recordings (%(default)s)")
    add("--port", type=int, default=USUAL_PORT, help="of the server (%(default)s, or a free one)")
    add("--cameras", type=int, choices=(1, 2), default=2)
    add("--size", type=int, choices=(1080, 720), help="rows of a picture (default: what this machine can draw in time)")
    add("--mode", choices=("video", "camera"), default="video", help="stream to the server, or record on the card")
    add("--json", action="store_true", help="the figures as one JSON object on stdout; all else on stderr")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 0 done, 1 something failed or the figures are not sane (with --exit), 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(argv)
    if not SHORTEST_S <= options.seconds < math.inf:
        parser.error(f"--seconds {options.seconds:g} cannot be: the phone alone needs {SHORTEST_S:g}")
    if not 0 <= options.port <= MOST_PORT:
        parser.error(f"--port {options.port} is no TCP port")
    stream = sys.stderr if options.json else sys.stdout

    def say(text: str) -> None:
        print(text, file=stream, flush=True)

    with _terminable():
        return _run(options, say)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the demo as Ctrl-C does, and so does SIGINT where a shell has switched it off for its background."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(options: argparse.Namespace, say: Say) -> int:
    output: Path = options.output.resolve()
    log_path = output / "demo-server.log"
    scratch = Path(tempfile.mkdtemp(prefix="edencar-demo-"))
    try:
        output.mkdir(parents=True, exist_ok=True)
        plan = Plan(
            seconds=options.seconds,
            output=output,
            port=options.port,
            cameras=options.cameras,
            height=options.size or choose_height(options.cameras, say),
            mode=options.mode,
        )
        with log_path.open("w", encoding="utf-8") as log:
            return _perform(plan, options, scratch, log, say)
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (DemoError, VerdictError) as error:
        print(f"demo: {error}", file=sys.stderr)
        _show_log(log_path)
        return 1
    except OSError as error:
        where = error.filename or output
        print(f"demo: {where} cannot be written ({error.strerror}): name another --output", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _show_log(path: Path) -> None:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if path.exists() else []
    if lines:
        print(f"the last lines of {path}:", *lines, sep="\n  ", file=sys.stderr)


def _perform(plan: Plan, options: argparse.Namespace, scratch: Path, log: TextIO, say: Say) -> int:
    say(f"starting the simulated car: {plan.cameras} cameras, a receiver, a street")
    with simulated_car(plan.cameras, plan.height, scratch, log) as car, _serving(plan, car, log, say) as api:
        say(f"the server on {api.url} sees all cameras, a fix, and UTC from the receiver")
        _name_cameras(api, car["cameras"])
        recording = _record(plan, api, car["control"], say)
        frames = _late_frames(car["control"])
        _process(api, recording, say)
        folder = plan.output / recording
        verdict = _keep_verdict(plan, folder, scratch / "truth", frames)
        _report(verdict, folder, frames, say)
        return _finish(verdict, api, folder, options, say)


def _name_cameras(api: Api, cameras: Sequence[dict[str, Any]]) -> None:
    """Call the cameras by the side they look at, as a crew would: photos then say in which direction they look."""
    seen = {camera["serial"] for camera in api.call("GET", "/api/status")["cameras"]}
    for camera in cameras:
        if camera["serial"] in seen:
            api.call("PATCH", f"/api/cameras/{camera['serial']}", {"label": camera["label"]})


@contextmanager
def _serving(plan: Plan, car: dict[str, Any], log: TextIO, say: Say) -> Iterator[Api]:
    """The server on the wanted port, or on a free one, also when another program took that one a moment earlier."""
    say(f"starting the server (its log: {log.name})")
    with ExitStack() as stack:
        port = choose_port(plan.port, say)
        try:
            api = stack.enter_context(real_server(car, plan.output, port, log))
        except DemoError as error:
            if not str(error).endswith(f"exit code {CONFLICT}"):
                raise
            api = stack.enter_context(real_server(car, plan.output, choose_port(0, say), log))
        yield api


def _keep_verdict(plan: Plan, folder: Path, truth: Path, frames: dict[str, Any]) -> Verdict:
    verdict = judge(folder, truth)
    shutil.copytree(truth, folder / "truth", dirs_exist_ok=True)
    content = {"recording": str(folder), "mode": plan.mode, "rows": plan.height, "frames": frames}
    (folder / "demo.json").write_text(json.dumps(content | verdict.as_dict(), indent=1) + "\n", encoding="utf-8")
    return verdict


def _report(verdict: Verdict, folder: Path, frames: dict[str, Any], say: Say) -> None:
    say("\nagainst the truth of the simulated car:")
    say(table(verdict))
    if verdict.unread:
        say(f"photos whose number could not be read, left out: {verdict.unread}")
    sent, late, left_out = (sum(counts[name] for counts in frames.values()) for name in ("sent", "late", "left_out"))
    if late or left_out:
        say(f"this machine was busy: of {sent + left_out} pictures {late} were sent late and {left_out} not drawn")
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    names = ", ".join(sorted(f"{path.name}/" if path.is_dir() else path.name for path in shown))
    say(f"\nthe result: {folder}\n  with {names}")
    say("with real devices:")
    for line in REAL_DEVICES:
        say(f"  {line}")


def _finish(verdict: Verdict, api: Api, folder: Path, options: argparse.Namespace, say: Say) -> int:
    doubts = _doubts(verdict.all)
    if options.json:
        print((folder / "demo.json").read_text(encoding="utf-8").replace("\n", ""), flush=True)
    for doubt in doubts:
        print(f"demo: {doubt}", file=sys.stderr)
    if options.exit:
        return 1 if doubts else 0
    say(f"\nserving on {api.url} until Ctrl-C")
    try:
        while True:
            api.call("GET", "/healthz")
            time.sleep(1.0)
    except KeyboardInterrupt:
        return 0
