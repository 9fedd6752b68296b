"""Small pictures of photos and videos for the pages, made in a process of its own: the server carries no OpenCV."""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rig.errors import EdencarError, UnknownError, UnreadableError
from rig.workers import Link, Worker

PHOTO_SUFFIXES = (".jpg", ".jpeg")
QUALITY = 78
KEPT_BYTES = 32 << 20
ANSWER_S = 15.0
IDLE_S = 60.0  # then the process ends and gives its memory back


@dataclass(frozen=True, slots=True)
class Shrink:
    """To the process: a picture of this file, so wide; answered with a JPEG."""

    path: Path
    width: int


class Thumbnails:
    """Keeps the newest in memory. Safe to use from several threads."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, int, int], bytes] = OrderedDict()

    def get(self, path: Path, width: int) -> bytes:
        """A JPEG. Raises UnreadableError for what is no picture or video, UnknownError, OSError, DeviceError."""
        with _gone_is_unknown(path):
            key = (path, path.lstat().st_mtime_ns, width)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            if self._worker is not None and self._worker.status_age_s > ANSWER_S:  # those who asked have given up
                self._worker.stop(0.0)
            if self._worker is None or not self._worker.alive:
                self._worker = Worker("thumbnails", thumbnail_worker)
                self._worker.start()
            worker = self._worker
        jpeg: bytes = worker.ask(Shrink(path, width), ANSWER_S)
        with self._lock:
            self._kept[key] = jpeg
            while sum(map(len, self._kept.values())) > KEPT_BYTES:
                self._kept.popitem(last=False)
        return jpeg

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.stop()


def thumbnail_worker(link: Link) -> None:
    """Answer `Shrink` until nobody has asked for a while."""
    import cv2
    import numpy as np

    from rig.photo.look import shrunk_jpeg

    cv2.setNumThreads(1)
    asked_s = time.monotonic()

    def shrink(request: Shrink) -> bytes:
        nonlocal asked_s
        asked_s = time.monotonic()
        if request.path.suffix.lower() in PHOTO_SUFFIXES:
            # JPEG can be decoded at half, a quarter or an eighth of its size for a fraction of the time.
            with _gone_is_unknown(request.path):
                data = np.fromfile(request.path, np.uint8)
            small = request.width <= 480
            flags = cv2.IMREAD_REDUCED_COLOR_4 if small else cv2.IMREAD_COLOR
            picture = cv2.imdecode(data, flags) if data.size else None
        else:
            picture = _first_picture(request.path)
        if picture is None:
            raise UnreadableError(f"{request.path.name} holds no picture", cure="ask for a photo or a video")
        return shrunk_jpeg(picture.astype(np.uint8, copy=False), request.width, QUALITY)

    def status() -> float:
        idle_s = time.monotonic() - asked_s
        link.stopping = link.stopping or idle_s > IDLE_S
        return idle_s

    link.serve({Shrink: shrink}, status, 1.0)


@contextmanager
def _gone_is_unknown(path: Path) -> Iterator[None]:
    """A recording may move to the trash, or its photos be made anew, while its pictures are asked for."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnknownError(f"{path.name} is not there any more", cure="ask again what files there are") from error


def _first_picture(path: Path):  # type: ignore[no-untyped-def]  # an array of a package that is imported below only
    import av

    with suppress(OSError, ValueError, EdencarError), av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.skip_frame = "NONKEY"
        for frame in container.decode(stream):
            return frame.to_ndarray(format="bgr24")
    return None
