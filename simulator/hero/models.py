"""What each GoPro model has: settings with their options, statuses and paths, from GoPro's OpenAPI document."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

TABLE = Path(__file__).with_name("models.json")

RESOLUTION, FRAMES_PER_SECOND, FRAME_RATE = 2, 3, 234  # the last is HERO13's own id for the frame rate
VIDEO_LAPSE_RATE, PHOTO_LAPSE_RATE = 5, 30
AUTO_POWER_DOWN, ANTI_FLICKER, HYPERSMOOTH, CONTROL_MODE = 59, 134, 135, 175
GPS, LCD_BRIGHTNESS, VIDEO_LENS = 83, 88, 121

# What the camera is set to at first, where the first option of the table would be an odd choice.
FACTORY_OPTIONS: Mapping[int, int] = MappingProxyType(
    {
        VIDEO_LAPSE_RATE: 0,
        PHOTO_LAPSE_RATE: 110,
        RESOLUTION: 9,
        FRAMES_PER_SECOND: 8,
        FRAME_RATE: 8,
        AUTO_POWER_DOWN: 4,
        GPS: 1,
        LCD_BRIGHTNESS: 50,
        108: 1,
        125: 3,
        HYPERSMOOTH: 4,
        167: 4,
        187: 0,
        232: 1,
    }
)

# A HERO11 over USB, as one user's camera answered (github.com/gopro/OpenGoPro/issues/370).
STATUS_TEMPLATE: Mapping[int, int | str] = MappingProxyType(
    {
        **dict.fromkeys((1, 11, 17, 55, 76, 77, 81, 82, 83), 1),
        2: 4,
        29: "",
        56: 4,
        60: 500,
        70: 87,
        89: 12,
        94: 65536,
        95: 131072,
        96: 1000,
        98: 100663296,
        99: 4762,
        107: 4294967295,
        122: "",
    }
)
UNDOCUMENTED_STATUSES = (3, 4, 14, 36, 37, 61, 62, 63, 64, 90, 91, 109)  # real cameras send them; meaning unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """How a model differs in what the document does not tabulate; the defaults are those of most."""

    firmware: str
    file_letter: str = "X"  # of HEVC; H of AVC
    chapter_bytes: int = 12_000_000_000  # OpenGoPro issue 887
    gps: tuple[str, ...] = ()  # what GPMF has of it
    writes_utc: bool = True  # where UTC belongs in a file; older models write local time (OpenGoPro issue 585)
    drops_frames: bool = (
        True  # timecode: HERO10 counts on, HERO12 leaves numbers out (github.com/gopro/labs/issues/1284)
    )
    webcam_has_480: bool = False
    webcam_takes_port: bool = True
    webcam_protocols: tuple[str, ...] = ("TS",)
    webcam_has_audio: bool = False
    preview_height: int = 720
    preview_codec: str = "libx264"
    preview_takes_port: bool = False
    refusal_lists: str = "supported_options"


_UP_TO_10 = Traits(
    firmware="01.72.00",
    file_letter="H",
    chapter_bytes=4_000_000_000,
    gps=("GPS5",),
    writes_utc=False,
    drops_frames=False,
    webcam_has_480=True,
    webcam_takes_port=False,
    preview_height=480,
)
_FROM_12 = Traits(firmware="02.32.00", webcam_protocols=("TS", "RTSP"), preview_takes_port=True)
TRAITS: Mapping[str, Traits] = MappingProxyType(
    {
        "HERO9 Black": _UP_TO_10,
        "HERO10 Black": replace(_UP_TO_10, firmware="01.62.00", webcam_has_audio=True, preview_height=720),
        "HERO11 Black": Traits(firmware="02.32.00", gps=("GPS9", "GPS5")),
        "HERO11 Black Mini": Traits(firmware="02.30.00"),
        "HERO12 Black": _FROM_12,
        # A HERO13 names the list of options otherwise than the document (OpenGoPro issue 661).
        "HERO13 Black": replace(
            _FROM_12,
            firmware="02.02.00",
            gps=("GPS9",),
            preview_codec="libx265",
            refusal_lists="available_options",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset of the camera's menu and what the document's lists call it."""

    number: int
    group: int
    flat_mode: int
    title: int
    icon: int


VIDEO_GROUP, PHOTO_GROUP, TIMELAPSE_GROUP = 1000, 1001, 1002
VIDEO_MODE, TIMELAPSE_VIDEO_MODE, PHOTO_MODE, TIMELAPSE_PHOTO_MODE = 12, 13, 17, 20
PRESETS = (
    Preset(0, VIDEO_GROUP, VIDEO_MODE, 1, 0),
    Preset(65536, PHOTO_GROUP, PHOTO_MODE, 3, 3),
    Preset(131072, TIMELAPSE_GROUP, TIMELAPSE_VIDEO_MODE, 131, 8),
    Preset(131073, TIMELAPSE_GROUP, TIMELAPSE_PHOTO_MODE, 132, 17),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of one model: its name, and its options by id (none: any number does)."""

    name: str
    options: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class Model:
    """One GoPro model as the document describes it."""

    name: str
    number: int
    firmware: str
    traits: Traits
    settings: Mapping[int, Setting]
    statuses: tuple[int, ...]
    lacks: frozenset[str]

    def lacks_path(self, path: str) -> bool:
        """Whether the document has the path, but not for this model."""
        return any(_pattern(missing).fullmatch(path) for missing in self.lacks)

    @property
    def has_shutter(self) -> bool:
        """Whether it records on command over USB: a HERO9 did so before firmware 1.60 (KonradIT/gopro-py-api 168)."""
        return "/gopro/camera/shutter/{mode}" not in self.lacks or self.traits.firmware < "01.60"

    def factory_settings(self) -> dict[int, int]:
        """The option of each setting when the camera comes out of its box."""
        return {number: _factory_option(number, setting) for number, setting in self.settings.items()}

    def status_template(self) -> dict[int, int | str]:
        """A value for each status id the model documents, and for those that none does."""
        template = {30: self.name, 68: int(bool(self.traits.gps)), **STATUS_TEMPLATE}
        return {number: template.get(number, 0) for number in (*self.statuses, *UNDOCUMENTED_STATUSES)}


@cache
def _pattern(path: str) -> re.Pattern[str]:
    return re.compile("[^/]+".join(re.escape(part) for part in re.split(r"\{\w+\}", path)))


def _factory_option(number: int, setting: Setting) -> int:
    usual = FACTORY_OPTIONS.get(number)
    if usual is not None and (usual in setting.options or not setting.options):
        return usual
    return next(iter(setting.options), 0)


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(TABLE.read_text(encoding="utf-8"))
    return table


def names() -> tuple[str, ...]:
    """The models that can be simulated."""
    return tuple(_table()["models"])


def known_options(setting: int) -> Mapping[int, str] | None:
    """The options of a setting on any model, None when no model has the setting."""
    entry = _table()["settings"].get(str(setting))
    return None if entry is None else {int(option): name for option, name in entry["options"].items()}


def load(name: str, firmware: str | None = None) -> Model:
    """The model of that name, with its usual firmware or another. Raises ValueError, in one line, for another name."""
    entry = _table()["models"].get(name)
    if entry is None:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(names())}")
    traits = replace(TRAITS[name], firmware=firmware or TRAITS[name].firmware)
    return Model(
        name=name,
        number=entry["number"],
        firmware=f"{entry['firmware_prefix']}.{traits.firmware}",
        traits=traits,
        settings={int(number): _setting(number, options) for number, options in entry["options"].items()},
        statuses=tuple(entry["statuses"]),
        lacks=frozenset(entry["lacks"]),
    )


def _setting(number: str, options: list[int]) -> Setting:
    entry = _table()["settings"][number]
    return Setting(entry["name"], {option: entry["options"][str(option)] for option in options})
