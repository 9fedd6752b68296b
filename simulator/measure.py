"""A measurement of the simulated car: the product's own command, with somebody who shows what it asks for."""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from simulator import camera_faults
from simulator.car import CarPlan
from simulator.demo import choose_port
from simulator.hours import write_recording
from simulator.stage import PROJECT, Api, DemoError, blink_lamp, real_server, show_phone, simulated_car

USUAL_PORT = 5000
USUAL_SIZE, FINEST_SIZE = 720, 1080
ASKED_CODE, ASKED_LAMP = "show the page /qrcode", "switch a lamp"  # what the command says when it wants one
SHOWN_S = 8.0
LONG_RUNS = ("delay", "drift")  # hours that are told from times alone
WITHOUT_SERVER = ("fov", "buffer")  # they have the cameras for themselves
USUAL_HOURS, SHORTEST_HOURS, LONGEST_HOURS = 2.0, 0.05, 24.0  # as those runs have them
LOG = "measure-server.log"
EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulator measure",
        description="Run a measurement (./edencar measure ...) on a simulated car.",
    )
    usual = CarPlan()
    parser.add_argument("--cameras", type=int, default=2)
    parser.add_argument("--size", type=int, choices=(1080, 720), help="rows of a picture (720; for fov 1080)")
    parser.add_argument("--chart-m", type=float, default=0.4, help="for fov: metres to the chart (%(default)g)")
    parser.add_argument(
        "--speed",
        action="store_true",
        help="for delay and drift: do not live through the hours, write at once what their clocks would have left; "
        "no buffer, loss or memory is in it",
    )
    parser.add_argument("--anti-flicker", type=int, choices=(50, 60), default=60, help="50: 25 pictures a second")
    parser.add_argument("--latency-growth-ms-per-h", type=float, default=0.0, help="of the cameras' streams")
    parser.add_argument(
        "--crystals-ppm",
        type=_rates,
        default=usual.crystals_ppm,
        metavar="X,...",
        help="how much too fast the clock of each camera runs; --crystals-ppm=-1,0 where the first is negative",
    )
    parser.add_argument(
        "--crystal-drift-ppm-per-hour",
        type=float,
        default=usual.crystal_drift_ppm_per_hour,
        metavar="X",
        help="how much faster that becomes (%(default)g)",
    )
    parser.add_argument("--seed", type=int, default=usual.seed, help="of all that is random (%(default)d)")
    parser.add_argument(
        "--camera-fault",
        type=_fault,
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="of all cameras, without --speed: udp_loss=0.001, say (see python -m simulator camera --help)",
    )
    parser.add_argument("--keep", type=Path, default=Path("output"), help="folder of the recording (%(default)s)")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="VERB ...", help="as after ./edencar measure")
    return parser


def _fault(text: str) -> str:
    """NAME[=VALUE], once it is known that there is one: the car would say it into its log only."""
    try:
        camera_faults.parse(text)
    except camera_faults.FaultError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code of the command; 1 when the car or the server does not start."""
    options = _parser().parse_args(argv)
    verb = options.command[0] if options.command else ""
    recordings: Path = options.keep.resolve()
    try:
        recordings.mkdir(parents=True, exist_ok=True)
        if options.speed:
            return _hurry(options, verb, recordings)
        if verb not in (*LONG_RUNS, *WITHOUT_SERVER):
            return subprocess.call(_command(options.command), cwd=PROJECT)  # it says which there are
        with (
            tempfile.TemporaryDirectory(prefix="edencar-measure-") as scratch,
            (recordings / LOG).open("w", encoding="utf-8") as log,
        ):
            run = _lend_cameras if verb in WITHOUT_SERVER else _drive
            return run(options, recordings, Path(scratch), log)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except DemoError as error:
        print(f"measure: {error}; the log is {recordings / LOG}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"measure: {recordings} cannot be written ({error.strerror}): name another --keep", file=sys.stderr)
        return 1


def _lend_cameras(options: argparse.Namespace, _recordings: Path, scratch: Path, log: TextIO) -> int:
    """The command has the cameras for itself, without any server; for fov they see the chart."""
    distance = str(options.chart_m)
    sees_chart = options.command[0] == "fov"
    usual = FINEST_SIZE if sees_chart else USUAL_SIZE  # for all resolutions that are asked for
    more = [*_wrongs(options), *(("--chart-m", distance) if sees_chart else ())]
    with simulated_car(options.cameras if sees_chart else 1, options.size or usual, scratch, log, more) as car:
        arguments = [word for camera in car["cameras"] for word in ("--address", camera["address"])]
        arguments += ["--distance-m", distance] if sees_chart else []
        return subprocess.call(_command([*options.command, *arguments]), cwd=PROJECT)


def _drive(options: argparse.Namespace, recordings: Path, scratch: Path, log: TextIO) -> int:
    port = choose_port(USUAL_PORT, lambda text: print(text, file=sys.stderr))
    with (
        simulated_car(options.cameras, options.size or USUAL_SIZE, scratch, log, _wrongs(options)) as car,
        real_server(car, recordings, port, log) as api,
    ):
        command = _command([*options.command, "--server", api.url, "--recordings", str(recordings)])
        return _measure(command, api, car["control"])


def _wrongs(options: argparse.Namespace) -> list[str]:
    """What is wrong with the cameras, as the car is told."""
    words = [f"--latency-growth-ms-per-h={options.latency_growth_ms_per_h}", f"--anti-flicker={options.anti_flicker}"]
    words += [f"--crystals-ppm={','.join(map(str, options.crystals_ppm))}", f"--seed={options.seed}"]
    words += [f"--crystal-drift-ppm-per-hour={options.crystal_drift_ppm_per_hour}"]
    return [*words, *(f"--camera-fault={fault}" for fault in options.camera_fault)]


def _hurry(options: argparse.Namespace, verb: str, recordings: Path) -> int:
    """Without car and server: the recording of some hours, then the command on it."""
    if options.camera_fault:
        print("measure: no --camera-fault shows with --speed", file=sys.stderr)
        return EXIT_USAGE
    if verb not in LONG_RUNS:
        print(f"measure: --speed goes with {' and '.join(LONG_RUNS)} only", file=sys.stderr)
        return EXIT_USAGE
    asked = argparse.ArgumentParser(prog=f"edencar measure {verb}", add_help=False, allow_abbrev=False)
    asked.add_argument("--hours", type=_hours, default=USUAL_HOURS)
    asked.add_argument("--light", action="store_true")
    wanted, _ = asked.parse_known_args(options.command[1:])
    plan = CarPlan(
        cameras=options.cameras,
        anti_flicker_hz=options.anti_flicker,
        latency_growth_ms_per_h=options.latency_growth_ms_per_h,
        crystals_ppm=options.crystals_ppm,
        crystal_drift_ppm_per_hour=options.crystal_drift_ppm_per_hour,
        seed=options.seed,
    )
    began_s = time.monotonic()
    folder = recordings / time.strftime("simulated-%Y%m%dT%H%M%SZ", time.gmtime())
    write_recording(folder, plan, wanted.hours, time.time_ns(), wanted.light)
    took_s = time.monotonic() - began_s
    print(f"{wanted.hours:g} h written in {took_s:.0f} s: {folder}", file=sys.stderr)
    return subprocess.call(_command([*options.command, str(folder)]), cwd=PROJECT)


def _rates(text: str) -> tuple[float, ...]:
    """Of the first cameras; the others keep theirs."""
    try:
        rates = tuple(map(float, text.split(",")))
        return rates + CarPlan().crystals_ppm[len(rates) :]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text} is no list of numbers like 1,0") from error


def _hours(text: str) -> float:
    with suppress(ValueError):
        if SHORTEST_HOURS <= (hours := float(text)) <= LONGEST_HOURS:
            return hours
    raise argparse.ArgumentTypeError(f"{text} is not between {SHORTEST_HOURS:g} and {LONGEST_HOURS:g}")


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "measure", *arguments]


def _measure(command: Sequence[str], api: Api, control: str) -> int:
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            for line in process.stderr:
                print(line, end="", file=sys.stderr, flush=True)
                if line.startswith(ASKED_CODE):
                    _show(api, control)
                elif line.startswith(ASKED_LAMP):
                    blink_lamp(control)
        finally:
            process.terminate()
    return process.returncode


def _show(api: Api, control: str) -> None:
    """Hold the phone before the cameras for some seconds; the measurement does not wait for it."""
    show_phone(control, f"{api.url}/api/time")
    timer = threading.Timer(SHOWN_S, _put_away, [control])
    timer.daemon = True
    timer.start()


def _put_away(control: str) -> None:
    with suppress(DemoError):
        show_phone(control, None)
