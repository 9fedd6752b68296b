"""Streams for those who look at them for a while: what codes they show, and how late a phone's display is."""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs import Settings
from rig.camera.camerabook import CameraBook
from rig.camera.fleet import Camera, at_once, safe_name
from rig.clock import UtcClock
from rig.errors import DeviceError, EdencarError
from rig.live.drawlog import DrawLogs
from rig.live.lookout import Lookout, figures
from rig.recordings import VIDEO
from rig.timing.led import LatencyResult, blink_worker, measure_worker
from rig.workers import StartCapture, Worker

FILMS_S = 8.0  # how long a measurement of the display waits for the first pictures
FILM_TAIL_S = 1.5  # after the LED's last edge: a stream is a quarter of a second late
WORK_S = 120.0  # blinking takes at most 30 s, measuring 6 s for each camera here, more on a Pi
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams that are being written, each camera with why it does not stream; `home` takes what is noted of them."""

    cameras: Sequence[tuple[Camera, EdencarError | None]]
    folders: Mapping[str, Path]
    home: Path
    check: Callable[[], None]  # raises ConflictError when they are needed otherwise

    def wait(self, patience_s: float, until: Callable[[], bool] = lambda: False) -> None:
        """Wait so long, or until something is so. Raises what `check` raises."""
        deadline_s = time.monotonic() + patience_s
        while not until() and time.monotonic() < deadline_s:
            self.check()
            time.sleep(POLL_S)


@contextmanager
def passing_streams(cameras: Sequence[Camera], home: Path, check: Callable[[], None]) -> Iterator[Streams]:
    """Streams that are started for a while and not kept. Raises what all cameras raised."""
    folders = {camera.serial: home / safe_name(camera.serial) for camera in cameras}
    try:
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        begin = [(camera.kept, StartCapture(folders[camera.serial], VIDEO)) for camera in cameras]
        outcomes = at_once(lambda pair: pair[0].begin(pair[1]), begin)
        failures = [one if isinstance(one, EdencarError) else None for one in outcomes]
        if failures[0] is not None and all(failures):
            raise failures[0]
        yield Streams(list(zip(cameras, failures, strict=True)), folders, home, check)
    finally:
        at_once(lambda camera: camera.kept.end(), cameras)
        shutil.rmtree(home, ignore_errors=True)


def watch_codes(streams: Streams, seconds: float, lookout: Lookout, book: CameraBook) -> list[dict[str, Any]]:
    """What codes the streams show; with each camera comes why it does not stream."""
    streaming = [camera.serial for camera, failure in streams.cameras if failure is None]
    seen = lookout.watch(streaming, seconds, streams.wait)
    return [
        {"serial": camera.serial, "label": book.label(camera.serial), **figures(seen.get(camera.serial), failure)}
        for camera, failure in streams.cameras
    ]


def measure_latency(
    streams: Streams, seconds: float, user_agent: str, settings: Settings, clock: UtcClock, draw_logs: DrawLogs
) -> LatencyResult:
    """Blink the LED while the streams film it beside a phone with the code; its display latency."""
    films = [streams.folders[camera.serial] for camera, failure in streams.cameras if failure is None]
    streams.wait(FILMS_S, lambda: all(any(film.glob("*.idx")) for film in films))
    _complete(Worker("LED", blink_worker, streams.home, seconds, settings, clock), streams)
    streams.wait(FILM_TAIL_S)
    draw_logs.copy(streams.home)
    result: LatencyResult = _complete(
        Worker("latency", measure_worker, films, streams.home, user_agent, settings), streams
    )
    return result


def _complete(worker: Worker, streams: Streams) -> Any:
    """Have a worker do its work; its last report. Raises what ended it."""
    worker.start()
    try:
        streams.wait(WORK_S, lambda: not worker.alive)
        worker.join(0.0)
    finally:
        worker.stop()
    if worker.error is not None or worker.status is None:
        raise worker.error or DeviceError(f"the {worker.name} worker ended", cure="try again")
    return worker.status
