"""A camera's card: its files, GoPro's names for them, and what the camera tells about them."""

import hashlib
import random
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2

from simulator.hero.sensor import Rate, Size

FIRST_DIRECTORY, FILES_A_DIRECTORY = 100, 999
CARD_BYTES = 128_000_000_000
VIDEO_BIT_RATE = 71_000_000  # what a real camera fills its card with; gives the time left
PHOTO_BYTES = 16_900_000
SIZE_FIELD = 2**32  # media/info gives sizes modulo this (OpenGoPro issue 740)
THUMBNAIL = Size(160, 120)
SCREENNAIL = Size.of_height(480)
NO_LOW_RESOLUTION_FILE = "-1"
VIDEO, CHAPTERED_VIDEO, PHOTO = 0, 2, 4  # `ct` of media/info

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One closed file. Its date is local time, written as if it were Unix time (OpenGoPro issue 585)."""

    directory: str
    name: str
    content: int
    created_local_s: int
    size: Size
    file_bytes: int
    rate: Rate | None = None
    frames: int = 0
    hilights_ms: list[int] = field(default_factory=list)

    @property
    def path(self) -> str:
        """As the media commands name it: `100GOPRO/GX010001.MP4`."""
        return f"{self.directory}/{self.name}"

    @property
    def chapter(self) -> int:
        """Counted from 1."""
        return int(self.name[2:4]) if self.is_video else 1

    @property
    def is_video(self) -> bool:
        """Whether it is an MP4."""
        return self.content != PHOTO


class Card:
    """The card in a camera; files appear when they are closed. Any thread may call."""

    def __init__(self, dice: random.Random) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._files: dict[str, MediaFile] = {}
        self._identity = str(dice.randrange(10**18, 2**63))
        self._number = 0
        self._last_path: str | None = None
        self._counts = {38: 0, 39: 0}

    def begin(self) -> int:
        """The number of the next recording or photo."""
        self._number += 1
        return self._number

    def place(self, number: int, chapter: int | None) -> tuple[str, str]:
        """Directory and file name of a chapter (from 1) of a video, or of a photo (None); the directory is made."""
        directory = f"{FIRST_DIRECTORY + (number - 1) // FILES_A_DIRECTORY}GOPRO"
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="gopro-card-")
        self.on_disk(directory, "").mkdir(exist_ok=True)
        return directory, f"GOPR{number:04d}.JPG" if chapter is None else f"GX{chapter:02d}{number:04d}.MP4"

    def on_disk(self, directory: str, name: str) -> Path:
        """Where the card's file really is."""
        assert self._folder is not None, "no file was ever written"
        return Path(self._folder.name, directory, name)

    def close(self) -> None:
        """The card is gone, with all that is on it."""
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, file: MediaFile) -> None:
        """A file is closed."""
        with self._lock:
            self._files[file.path] = file
            self._last_path = file.path

    def find(self, path: str) -> MediaFile | None:
        """The file of that path, None when the list has none."""
        with self._lock:
            return self._files.get(path)

    def chapters(self, file: MediaFile) -> list[MediaFile]:
        """The file and all others of the same recording."""
        with self._lock:
            return [
                other
                for other in self._files.values()
                if other.directory == file.directory and other.name[4:] == file.name[4:]
            ]

    def files(self) -> list[MediaFile]:
        """All closed files in their order."""
        with self._lock:
            return list(self._files.values())

    def delete(self, files: Sequence[MediaFile]) -> None:
        """Delete for good."""
        for file in files:
            with self._lock:
                self._files.pop(file.path, None)
            self.on_disk(file.directory, file.name).unlink(missing_ok=True)

    @property
    def bytes_left(self) -> int:
        """Room on the card, closed files counted."""
        return max(0, CARD_BYTES - sum(file.file_bytes for file in self.files()))

    def statuses(self, is_stuck: bool) -> dict[int, int]:
        """The status ids that are about the card; its counts can be stuck."""
        if not is_stuck:
            videos = sum(file.is_video for file in self.files())
            self._counts = {38: len(self.files()) - videos, 39: videos}
        return self._counts | {
            34: self.bytes_left // PHOTO_BYTES,
            35: self.bytes_left * 8 // VIDEO_BIT_RATE,
            54: self.bytes_left // 1000,
            117: CARD_BYTES // 1024,
        }

    def listing(self) -> Json:
        """The answer to `media/list`: every value a string (OpenGoPro issue 887)."""
        directories: dict[str, list[Json]] = {}
        for file in self.files():
            directories.setdefault(file.directory, []).append(_list_item(file))
        return {"id": self._identity, "media": [{"d": name, "fs": items} for name, items in directories.items()]}

    def last_captured(self) -> Json | None:
        """The answer to `media/last_captured`, None when there is nothing."""
        file = self.find(self._last_path or "")
        return None if file is None else {"folder": file.directory, "file": file.name}

    def info(self, file: MediaFile) -> Json:
        """The answer to `media/info`: every value a string, hilights and `mos` excepted."""
        identity = hashlib.md5(f"{self._identity}/{file.path}".encode(), usedforsecurity=False).hexdigest()
        entry = _common_info(file) | {"gumi": identity}
        return entry | (_video_info(file) if file.rate is not None else {"wdr": "0", "hdr": "0", "raw": "0"})

    def picture(self, file: MediaFile, size: Size) -> bytes:
        """A small JPEG of the file's first picture."""
        with av.open(str(self.on_disk(file.directory, file.name))) as container:
            frame = next(container.decode(video=0))
        image = cv2.resize(frame.to_ndarray(format="bgr24"), (size.width, size.height), interpolation=cv2.INTER_AREA)
        return write_jpeg(image)


def write_jpeg(image: cv2.typing.MatLike) -> bytes:
    """A BGR image as JPEG."""
    done, data = cv2.imencode(".jpg", image)
    if not done:
        raise ValueError(f"no JPEG can be made of an image of shape {image.shape}")
    return data.tobytes()


def _list_item(file: MediaFile) -> Json:
    date = str(file.created_local_s)
    item: Json = {"n": file.name, "cre": date, "mod": date}
    if file.is_video:
        item |= {"glrv": "0", "ls": NO_LOW_RESOLUTION_FILE}
    return item | {"s": str(file.file_bytes)}


def _common_info(file: MediaFile) -> Json:
    return {
        "ct": str(file.content),
        "cre": str(file.created_local_s),
        "s": str(file.file_bytes % SIZE_FIELD),
        "us": "0",
        "mos": [],
        "eis": "0",
        "hc": str(len(file.hilights_ms)),
        "hi": file.hilights_ms,
        "mp": "0",
        "rot": "0",
        "tr": "0",
        "w": str(file.size.width),
        "h": str(file.size.height),
    }


def _video_info(file: MediaFile) -> Json:
    assert file.rate is not None
    return {
        "ao": "off",
        "avc_profile": "66",
        "profile": "40",
        "cl": "0",
        "dur": str(int(file.rate.at_s(file.frames))),
        "fps": str(file.rate.numerator),
        "fps_denom": str(file.rate.denominator),
        "ls": NO_LOW_RESOLUTION_FILE,
        "pta": "0",
        "progr": "1",
        "subsample": "0",
    }
