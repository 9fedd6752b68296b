"""What each GoPro model has: settings with their options, statuses and paths, from GoPro's OpenAPI document."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

TABLE = Path(__file__).with_name("models.json")
FIRMWARE_SUFFIX = ".02.30.00"

RESOLUTION, FRAMES_PER_SECOND, FRAME_RATE = 2, 3, 234  # the last is HERO13's own id for the frame rate
WEBCAM_LENS, AUTO_POWER_DOWN, ANTI_FLICKER, HYPERSMOOTH, CONTROL_MODE = 43, 59, 134, 135, 175
GPS, LCD_BRIGHTNESS = 83, 88

# What the camera is set to at first, where the first option of the table would be an odd choice.
FACTORY_OPTIONS: Mapping[int, int] = MappingProxyType(
    {
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
        **dict.fromkeys((1, 11, 17, 55, 68, 76, 77, 81, 82, 83), 1),
        2: 4,
        29: "",
        30: "",
        56: 4,
        60: 500,
        70: 87,
        89: 12,
        94: 65536,
        95: 131072,
        96: 1000,
        98: 100663296,
        107: 4294967295,
        122: "",
    }
)
UNDOCUMENTED_STATUSES = (3, 4, 14, 36, 37, 61, 62, 63, 64, 90, 91, 109)  # real cameras send them; meaning unknown


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
    settings: Mapping[int, Setting]
    statuses: tuple[int, ...]
    lacks: frozenset[str]

    @property
    def generation(self) -> int:
        """9 for a HERO9, and so on."""
        return int("".join(filter(str.isdigit, self.name)))

    def lacks_path(self, path: str) -> bool:
        """Whether the document has the path, but not for this model."""
        return any(_pattern(missing).fullmatch(path) for missing in self.lacks)

    def factory_settings(self) -> dict[int, int]:
        """The option of each setting when the camera comes out of its box."""
        return {number: _factory_option(number, setting) for number, setting in self.settings.items()}

    def status_template(self) -> dict[int, int | str]:
        """A value for each status id the model documents, and for those that none does."""
        return {number: STATUS_TEMPLATE.get(number, 0) for number in (*self.statuses, *UNDOCUMENTED_STATUSES)}


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


def load(name: str) -> Model:
    """The model of that name. Raises ValueError, in one line, for another."""
    entry = _table()["models"].get(name)
    if entry is None:
        raise ValueError(f"unknown model {name!r}; there are {', '.join(names())}")
    return Model(
        name=name,
        number=entry["number"],
        firmware=entry["firmware_prefix"] + FIRMWARE_SUFFIX,
        settings={int(number): _setting(number, options) for number, options in entry["options"].items()},
        statuses=tuple(entry["statuses"]),
        lacks=frozenset(entry["lacks"]),
    )


def _setting(number: str, options: list[int]) -> Setting:
    entry = _table()["settings"][number]
    return Setting(entry["name"], {option: entry["options"][str(option)] for option in options})
