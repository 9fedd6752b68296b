"""A recording made for a measurement, through the HTTP API of the server that owns the devices."""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import psutil
import requests

from configs import Settings
from measure.charts import Series
from measure.report import Chart, Said, Table, Verdict
from measure.words import phrase
from rig.camera.finding import FoundCamera, discover
from rig.errors import ConflictError, DeviceError, DeviceNotFoundError, UnreadableError, UsageError

USUAL_SERVER = "http://127.0.0.1:5000"
USUAL_OUTPUT = Path("measurements")
MOST_MEMORY_MB_PER_HOUR = 1.0
JUDGED_S = 3600.0  # a slope of memory over less is warming up
ANSWER_S = 30.0
POLL_S = 1.0
SAMPLE_S = 10.0
SHORTEST_HOURS, LONGEST_HOURS = 0.05, 24.0
SHOW_AT = (0.0, 0.5, 1.0)  # shares of the time at which the cameras are shown something
SAMPLE_COLUMNS = ("elapsed_s", "process", "pid", "memory_mb", "cpu_s", "descriptors")
SAMPLES = "processes.csv"
WARM_UP = 0.1  # of the samples, the first ones

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Show:
    """What the cameras are to be shown, in words for the crew, and for how long."""

    words: str
    seconds: float


# The simulated crew waits for these words (simulator/measure.py).
CODE = Show("show the page /qrcode to each camera now, for 8 s", 8.0)  # some 200 pictures
LAMP = Show("switch a lamp that all cameras see on and off now, 8 times, each more than a second", 26.0)


def tell(text: str) -> None:
    """To the person who waits: progress is no result."""
    print(text, file=sys.stderr, flush=True)


class Server:
    """The API of a running server, as a measurement needs it. Every call raises DeviceError when it is refused."""

    def __init__(self, url: str, pin: str = "") -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy between the car's own devices
        if pin:
            self._session.headers["Authorization"] = f"Bearer {pin}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One request; its JSON."""
        try:
            response = self._session.request(method, self.url + path, json=body, timeout=ANSWER_S)
            content = response.json()
        except (requests.RequestException, ValueError) as error:
            raise DeviceError(
                f"the server {self.url} does not answer ({type(error).__name__})",
                cure="start it with ./edencar serve, or name it with --server",
            ) from error
        if not response.ok:
            raise DeviceError(
                f"{method} {path}: {content.get('detail') or content.get('title')}", cure=content.get("cure") or ""
            )
        return content

    def processes(self) -> list[psutil.Process]:
        """The server and its workers, when they run on this machine; else none."""
        port = urlsplit(self.url).port or 80
        try:
            listening = (c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN)
            pid = next((c.pid for c in listening if c.laddr[1:] == (port,)), None)
            if pid is None:  # elsewhere, or another user's
                return []
            server = psutil.Process(pid)
            return [server, *server.children(recursive=True)]
        except psutil.Error:  # it has just ended
            return []


@dataclass(frozen=True, slots=True)
class Session:
    """How a measurement records: through which server, where that keeps recordings, for how long."""

    server: Server
    recordings: Path  # the server's output folder
    seconds: float
    show: Show = CODE

    def record(self, output: Path, say: Say = tell) -> Path:
        """Record; keep the samples of all processes in `output`; the folder of the recording on this machine.

        Raises ConflictError while another recording runs, DeviceError, UnreadableError.
        """
        output.mkdir(parents=True, exist_ok=True)
        if running := self._running():
            raise ConflictError(f"the server records {running} already", cure="stop that first")
        recording = self.server.call("POST", "/api/start", {"mode": "video", "name": output.name})["recording"]["id"]
        try:
            say(f"recording {recording} for {self.seconds / 60:.0f} minutes")
            self._watch(recording, output / SAMPLES, say)
        finally:
            if self._running() == recording:
                self.server.call("POST", "/api/stop")
        folder = self.recordings / str(recording)
        if not folder.is_dir():
            raise UnreadableError(
                f"{folder} is not there: the server keeps its recordings elsewhere",
                cure="name its output folder with --recordings, or a finished recording instead of --hours",
            )
        return folder

    def _running(self) -> str | None:
        recording = self.server.call("GET", "/api/status")["recording"]
        return recording and str(recording["id"])

    def _watch(self, recording: str, samples: Path, say: Say) -> None:
        began = time.monotonic()
        prompts = [share * max(0.0, self.seconds - self.show.seconds) for share in SHOW_AT]
        with samples.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(SAMPLE_COLUMNS)
            due = 0.0
            while (elapsed := time.monotonic() - began) < self.seconds:
                if prompts and elapsed >= prompts[0]:
                    prompts.pop(0)
                    say(self.show.words)
                if elapsed >= due:
                    due += SAMPLE_S
                    table.writerows((round(elapsed, 1), *row) for row in self._sample())
                    file.flush()
                    if self._running() != recording:  # whoever watches is part of the load
                        say(f"the recording was ended after {elapsed / 60:.1f} minutes, not by this measurement")
                        return
                time.sleep(POLL_S)

    def _sample(self) -> Iterator[tuple[str, int, float, float, int]]:
        for process in self.server.processes():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory = process.memory_info().rss / 1e6
                    yield _name(process), process.pid, round(memory, 2), times.user + times.system, process.num_fds()
            except psutil.Error:
                continue  # it has just ended


def _name(process: psutil.Process) -> str:
    """Of a worker its own name, which it bears as its last argument (rig/workers.py); else the program."""
    words = process.cmdline()
    return words[-1] if "-c" in words else Path(words[1] if len(words) > 1 else process.name()).name


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used over a session."""

    process: str
    pid: int
    memory_mb: float  # at the end
    memory_mb_per_hour: float
    cpu_share: float  # of one core
    descriptors_first: int
    descriptors_last: int


def read_usage(samples: Path) -> tuple[Usage, ...]:
    """What the processes used, the first tenth apart: until then they still load what they need."""
    found = []
    for process, pid, rows in _by_process(samples):
        mine = rows.iloc[int(len(rows) * WARM_UP) :]
        if len(mine) < 3:
            continue  # it lived for a moment only
        first, last = mine.iloc[0], mine.iloc[-1]
        found.append(
            Usage(
                process,
                pid,
                float(last["memory_mb"]),
                float(np.polyfit(mine["elapsed_s"] / 3600, mine["memory_mb"], 1)[0]),
                float((last["cpu_s"] - first["cpu_s"]) / (last["elapsed_s"] - first["elapsed_s"])),
                int(first["descriptors"]),
                int(last["descriptors"]),
            )
        )
    return tuple(found)


def usage_verdicts(usage: Sequence[Usage], seconds: float) -> list[Verdict]:
    """What is said of the processes, of a session long enough to tell."""
    if seconds < JUDGED_S or not usage:
        return []
    worst = max(usage, key=lambda item: item.memory_mb_per_hour)
    steady = all(item.descriptors_last <= item.descriptors_first for item in usage)
    grows = worst.memory_mb_per_hour > MOST_MEMORY_MB_PER_HOUR
    return [
        Verdict(
            phrase(
                "memory of the hungriest process ({process}): {slope:+.2f} MB/h",
                process=worst.process,
                slope=worst.memory_mb_per_hour,
            ),
            not grows,
        ),
        Verdict("open files stay the same" if steady else "open files become more", steady),
    ]


def usage_content(samples: Path) -> list[Table | Chart]:
    """Table and charts of what the processes used; nothing without samples."""
    usage = read_usage(samples)
    if not usage:
        return []
    memory, processor = [], []
    for process, pid, rows in _by_process(samples):
        at, megabytes, cpu_s = (rows[name].to_numpy() for name in ("elapsed_s", "memory_mb", "cpu_s"))
        memory.append(Series(f"{process} {pid}", at / 60, megabytes))
        processor.append(Series(f"{process} {pid}", at[1:] / 60, 100 * np.diff(cpu_s) / np.diff(at)))
    return [
        Table.of(usage, USAGE_COLUMNS),
        Chart("Memory", "minutes", "MB", memory),
        Chart("Processor", "minutes", "% of a core", processor),
    ]


USAGE_COLUMNS: Mapping[str, Callable[[Usage], Said]] = {
    "process": lambda item: f"{item.process} ({item.pid})",
    "memory MB": lambda item: f"{item.memory_mb:.1f}",
    "MB/h": lambda item: f"{item.memory_mb_per_hour:+.2f}",
    "of a core": lambda item: f"{item.cpu_share:.1%}",
    "open files": lambda item: f"{item.descriptors_first} → {item.descriptors_last}",
}


def _by_process(samples: Path) -> list[tuple[str, int, pd.DataFrame]]:
    """Name, number and rows of each process; a torn last row is left out."""
    if not samples.exists():
        return []
    groups = (rows for _, rows in pd.read_csv(samples).dropna().groupby("pid", sort=False))
    return [(str(rows["process"].iloc[0]), int(rows["pid"].iloc[0]), rows) for rows in groups]


# --- the command line of a measurement --------------------------------------------------------------------------------


def output_folder(options: argparse.Namespace, name: str) -> Path:
    """The folder of the report: the one that was named, else one named after the measurement and the time."""
    return options.output or USUAL_OUTPUT / time.strftime(f"{name}-%Y%m%dT%H%M%SZ", time.gmtime())


def chosen(text: str, known: Sequence[str], what: str) -> list[str]:
    """The words of a list separated by commas, all of them known. Raises UsageError."""
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"no such {what}: {', '.join(unknown) or 'none named'}", cure=f"say {','.join(known)}")
    return names


def find_cameras(addresses: Sequence[str] | None, settings: Settings) -> list[FoundCamera]:
    """The cameras at these addresses, or all that are found. Raises DeviceNotFoundError when there is none."""
    cameras = discover(addresses or settings.cameras)
    if not cameras:
        raise DeviceNotFoundError("no camera answers", cure="plug one in, stop the server, or name it with --address")
    return cameras


def add_session_options(parser: argparse.ArgumentParser) -> None:
    """What delay and drift share: a finished recording, or how to make one."""
    add = parser.add_argument
    add(
        "recording",
        nargs="?",
        type=Path,
        default=None,
        help="folder of a finished recording; without: make one through the server",
    )
    add("--hours", type=float, default=2.0, help="length of the recording that is made (%(default)g)")
    add("--server", default=USUAL_SERVER, help="the server that owns the devices (%(default)s)")
    add("--recordings", type=Path, help="its output folder (default: the setting output)")
    add("--pin", default="", help="its PIN, where one is set")
    add("--output", type=Path, help=f"folder of the report (default: {USUAL_OUTPUT}/NAME-TIME)")


def recorded(options: argparse.Namespace, settings: Settings, name: str, show: Show = CODE) -> tuple[Path, Path]:
    """The folder of the recording that was named or made, and the one of the report, which is made.

    Raises UsageError for a time that measures nothing, UnreadableError for a folder that is no recording.
    """
    output = output_folder(options, name)
    recording: Path | None = options.recording
    if recording is not None:
        if not (recording / "videos").is_dir():
            raise UnreadableError(f"{recording} is no recording's folder", cure="name one of the output folder")
        output.mkdir(parents=True, exist_ok=True)
        return recording, output
    if not SHORTEST_HOURS <= options.hours <= LONGEST_HOURS:
        raise UsageError(f"--hours {options.hours:g} is not between 0.05 and 24", cure="say for instance --hours 2")
    server = Server(options.server, options.pin)
    session = Session(server, Path(options.recordings or settings.output), options.hours * 3600, show)
    return session.record(output), output
