"""A camera's card: its files, GoPro's names for them, and what the camera tells about them."""

import hashlib
import random
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2

from simulator.hero.sensor import Rate, Size

FIRST_DIRECTORY, FILES_A_DIRECTORY, LAST_NUMBER = 100, 999, 9999
CARD_BYTES = 128_000_000_000
VIDEO_BIT_RATE = 71_000_000  # what a real camera fills its card with; gives the time left
PHOTO_BYTES = 16_900_000
SIZE_FIELD = 2**32  # media/info gives sizes modulo this (OpenGoPro issue 740)
THUMBNAIL = Size(160, 120)
SCREENNAIL = Size.of_height(480)
NO_LOW_RESOLUTION_FILE = "-1"
VIDEO, CHAPTERED_VIDEO, LAPSE_VIDEO, PHOTO, LAPSE_PHOTO = 0, 2, 3, 4, 6  # `ct` of media/info

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Names:
    """Where a file is: directory and name."""

    directory: str
    file: str

    @property
    def path(self) -> str:
        """As the media commands name it: `100GOPRO/GX010001.MP4`."""
        return f"{self.directory}/{self.file}"

    @property
    def low_resolution(self) -> "Names":
        """The small copy of a video, which the media list hides: `GL010001.LRV`."""
        return replace(self, file=f"GL{self.file[2:-4]}.LRV")

    @property
    def thumbnail(self) -> "Names":
        """The picture of a video, which the media list hides: `GX010001.THM`."""
        return replace(self, file=f"{self.file[:-4]}.THM")


@dataclass(frozen=True, slots=True)
class MediaFile:
    """One closed file. Its date is local time, written as if it were Unix time (OpenGoPro issue 585)."""

    names: Names
    content: int
    created_local_s: int
    size: Size
    file_bytes: int
    group: int | None = None
    rate: Rate | None = None
    frames: int = 0
    low_resolution_bytes: int = 0
    telemetry: range = range(0)
    hilights_ms: list[int] = field(default_factory=list)

    @property
    def is_video(self) -> bool:
        """Whether it is an MP4."""
        return self.rate is not None

    @property
    def chapter(self) -> int:
        """Counted from 1."""
        return int(self.names.file[2:4]) if self.is_video else 1

    @property
    def number(self) -> int:
        """The last four digits of its name."""
        return int(self.names.file[4:8])

    @property
    def moments_ms(self) -> range:
        """Where a hilight may be: within a video, at 0 in a photo."""
        return range(1 if self.rate is None else round(self.rate.at_s(self.frames) * 1000) + 1)

    @property
    def belongs_to(self) -> tuple[str, int]:
        """The same for all files of a recording, or of a series."""
        return (self.names.directory, self.number) if self.group is None else ("", self.group)

    @property
    def hidden(self) -> tuple[Names, ...]:
        """The files that come and go with it."""
        return (self.names.low_resolution, self.names.thumbnail) if self.is_video else ()


class Card:
    """The card in a camera; files appear when they are closed. Any thread may call."""

    def __init__(self, dice: random.Random) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()
        self._files: dict[str, MediaFile] = {}
        self._identity = str(dice.randrange(10**18, 2**63))
        self._taken = self._group = 0
        self._directory = ""
        self._last: MediaFile | None = None
        self._counts = {38: 0, 39: 0}

    def next_number(self) -> int:
        """The number of the next recording or photo: 1 follows 9999. A directory holds 999 of them."""
        self._directory = f"{FIRST_DIRECTORY + self._taken // FILES_A_DIRECTORY}GOPRO"
        self._taken += 1
        return (self._taken - 1) % LAST_NUMBER + 1

    def next_group(self) -> int:
        """The number of the next series of photos."""
        self._group += 1
        return self._group

    def next_photo(self, group: int | None = None) -> Names:
        """`GOPR0001.JPG`, or `G0010001.JPG` in a group."""
        start = "GOPR" if group is None else f"G{group:03d}"
        number = self.next_number()
        return Names(self._directory, f"{start}{number:04d}.JPG")

    def video(self, letter: str, chapter: int, number: int) -> Names:
        """`GX010001.MP4`: H or X for the codec, chapter from 1, number."""
        return Names(self._directory, f"G{letter}{chapter:02d}{number:04d}.MP4")

    def on_disk(self, names: Names) -> Path:
        """Where the card's file really is; its directory is made."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="gopro-card-")
        path = Path(self._folder.name, names.directory, names.file)
        path.parent.mkdir(exist_ok=True)
        return path

    def close(self) -> None:
        """The card is gone, with all that is on it."""
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, file: MediaFile) -> None:
        """A file is closed."""
        with self._lock:
            self._files[file.names.path] = file
            if self._last is None or file.group is None or file.group != self._last.group:
                self._last = file

    def find(self, path: str) -> MediaFile | None:
        """The file of that path, None when there is none, or when it is a hidden one."""
        with self._lock:
            return self._files.get(path)

    def locate(self, path: str) -> Path | None:
        """Where a file that can be downloaded really is, hidden ones included; None when there is none."""
        found = (names for file in self.files() for names in (file.names, *file.hidden) if names.path == path)
        return next(map(self.on_disk, found), None)

    def companions(self, file: MediaFile) -> list[MediaFile]:
        """The file and all others of the same recording or series."""
        return [other for other in self.files() if other.belongs_to == file.belongs_to]

    def files(self) -> list[MediaFile]:
        """All closed files in their order."""
        with self._lock:
            return list(self._files.values())

    def delete(self, files: Sequence[MediaFile]) -> None:
        """Delete for good."""
        for file in files:
            with self._lock:
                self._files.pop(file.names.path, None)
            for names in (file.names, *file.hidden):
                self.on_disk(names).unlink(missing_ok=True)

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
        """The answer to `media/list`: every value a string (OpenGoPro issue 887), a group one item."""
        directories: dict[str, list[Json]] = {}
        groups = set()
        for file in self.files():
            key = (file.names.directory, file.group)
            if file.group is None or key not in groups:
                directories.setdefault(file.names.directory, []).append(self._list_item(file))
            groups.add(key)
        return {"id": self._identity, "media": [{"d": name, "fs": items} for name, items in directories.items()]}

    def _list_item(self, file: MediaFile) -> Json:
        date = str(file.created_local_s)
        item: Json = {"n": file.names.file, "cre": date, "mod": date}
        if file.is_video:
            item |= {"glrv": str(file.low_resolution_bytes), "ls": NO_LOW_RESOLUTION_FILE}
        return item | ({"s": str(file.file_bytes)} if file.group is None else self._group_item(file))

    def _group_item(self, first: MediaFile) -> Json:
        numbers = [file.number for file in self.companions(first) if file.names.directory == first.names.directory]
        missing = sorted(set(range(numbers[0], numbers[-1] + 1)) - set(numbers))
        span = {"g": str(first.group), "s": str(len(numbers)), "b": str(numbers[0]), "l": str(numbers[-1])}
        return span | {"m": list(map(str, missing)), "t": "t"}

    def last_captured(self) -> Json | None:
        """The answer to `media/last_captured`: of a group the first; None when there is nothing."""
        if self._last is None or self.find(self._last.names.path) is None:
            return None
        return {"folder": self._last.names.directory, "file": self._last.names.file}

    def info(self, file: MediaFile) -> Json:
        """The answer to `media/info`: every value a string."""
        identity = hashlib.md5(f"{self._identity}/{file.names.path}".encode(), usedforsecurity=False).hexdigest()
        entry = _common_info(file) | {"gumi": identity}
        return entry | (_video_info(file) if file.rate is not None else {"wdr": "0", "hdr": "0", "raw": "0"})

    def thumbnail(self, file: MediaFile) -> bytes:
        """A small JPEG of a photo, or of a video's first picture."""
        if file.is_video:
            return self.on_disk(file.names.thumbnail).read_bytes()
        return self._scaled(file, THUMBNAIL)

    def screennail(self, file: MediaFile) -> bytes | None:
        """A JPEG of the size of a screen; only photos have one."""
        return None if file.is_video else self._scaled(file, SCREENNAIL)

    def _scaled(self, photo: MediaFile, size: Size) -> bytes:
        image = cv2.imread(str(self.on_disk(photo.names)))
        assert image is not None, "the card's photos are JPEG files"
        return write_jpeg(cv2.resize(image, (size.width, size.height), interpolation=cv2.INTER_AREA))

    def gpmf(self, file: MediaFile) -> bytes:
        """The GPMF in a file: the telemetry of a video, the settings of a photo."""
        with self.on_disk(file.names).open("rb") as data:
            data.seek(file.telemetry.start)
            return data.read(len(file.telemetry))


def write_jpeg(image: cv2.typing.MatLike) -> bytes:
    """A BGR image as JPEG."""
    done, data = cv2.imencode(".jpg", image)
    if not done:
        raise ValueError(f"no JPEG can be made of an image of shape {image.shape}")
    return data.tobytes()


def _common_info(file: MediaFile) -> Json:
    return {
        "ct": str(file.content),
        "cre": str(file.created_local_s),
        "s": str(file.file_bytes % SIZE_FIELD),
        "us": "0",
        "mos": [],
        "eis": "0",
        "hc": str(len(file.hilights_ms)),
        "hi": list(map(str, file.hilights_ms)),
        "mp": str(int(file.is_video)),
        "rot": "0",
        "tr": "0",
        "w": str(file.size.width),
        "h": str(file.size.height),
    }


def _video_info(file: MediaFile) -> Json:
    assert file.rate is not None
    return {
        "ao": "auto",
        "avc_profile": "66",
        "profile": "40",
        "cl": "0",
        "dur": str(int(file.rate.at_s(file.frames))),
        "fps": str(file.rate.numerator),
        "fps_denom": str(file.rate.denominator),
        "ls": str(file.low_resolution_bytes),
        "mahs": "0",
        "pta": "0",
        "progr": "1",
        "subsample": "0",
    }
