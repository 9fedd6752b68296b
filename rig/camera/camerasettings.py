"""A GoPro's settings by name instead of number, as they differ between models, and the choice that is recommended.

Numbers are those of GoPro's OpenAPI document. What a model does not have it refuses, and says what is possible.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rig.errors import UsageError

RECOMMENDED = "recommended"
# For reading characters: straight lines, many pixels, little compression. For the time code: every picture as it was
# exposed (no stabilisation), 30 of them a second, from a camera that does not sleep. Anti-flicker 50 Hz would make it
# 25, in the webcam stream too: better only at night under lamps on 50 Hz mains.
CHOICE = (
    "control=pro",  # first: HERO11 to 13 refuse resolution and frame rate without
    "auto-power-down=never",
    "hindsight=off",  # it blocks the others
    "hypersmooth=off",
    "anti-flicker=60",
    "resolution=4k",
    "fps=30",
    "lens=linear",
    "webcam-lens=linear",
    "bit-rate=high",
    "gps=on",
)


class Setting(NamedTuple):
    """The number of a setting, and those of its options."""

    number: int
    options: Mapping[str, int]


LENSES = {"wide": 0, "narrow": 2, "superview": 3, "linear": 4}
_SIZES = {"4k": 1, "2.7k": 4, "1080": 9, "720": 12, "4k-4:3": 18, "5.3k": 100}
_SIZES_9_TO_11 = {"2.7k-4:3": 6, "1440": 7, "5k": 24, "5k-4:3": 25, "5.3k-8:7": 26, "5.3k-4:3": 27, "4k-8:7": 28}
_SIZES_12 = {"5.3k-8:7": 107, "4k-8:7": 108, "4k-9:16": 109, "1080-9:16": 110, "2.7k-4:3": 111}
_SIZES_13 = {"4k-4:3": 112, "5.3k-4:3": 113, "5.3k-21:9": 35, "4k-21:9": 36, "4k-1:1": 37, "900": 38}
_RATES = {"24": 10, "25": 9, "30": 8, "50": 6, "60": 5, "100": 2, "120": 1, "200": 13, "240": 0}

SETTINGS = {
    "control": Setting(175, {"easy": 0, "pro": 1}),
    "resolution": Setting(2, _SIZES | _SIZES_9_TO_11),
    "fps": Setting(3, _RATES),
    "lens": Setting(121, LENSES | {"max-superview": 7, "linear-leveling": 8, "hyperview": 9, "linear-lock": 10}),
    "webcam-lens": Setting(43, LENSES),
    "anti-flicker": Setting(134, {"60": 2, "50": 3}),
    "hypersmooth": Setting(135, {"off": 0, "low": 1, "high": 2, "boost": 3, "auto-boost": 4, "standard": 100}),
    "auto-power-down": Setting(59, {"never": 0, "1min": 1, "5min": 4, "15min": 6, "30min": 7}),
    "hindsight": Setting(167, {"15s": 2, "30s": 3, "off": 4}),
    "bit-rate": Setting(182, {"standard": 0, "high": 1}),
    "bit-depth": Setting(183, {"8": 0, "10": 2}),
    "profile": Setting(184, {"standard": 0, "hdr": 1, "log": 2, "hlg": 101}),
    "performance": Setting(173, {"maximum": 0, "battery": 1, "tripod": 2}),
    "gps": Setting(83, {"off": 0, "on": 1}),
}
DIFFERENCES = {  # by the beginning of the model's name
    "HERO12": {"resolution": Setting(2, _SIZES | _SIZES_12)},
    "HERO13": {
        "resolution": Setting(2, _SIZES | _SIZES_12 | _SIZES_13),
        "fps": Setting(234, _RATES | {"300": 17, "360": 16, "400": 15}),
        "lens": Setting(121, LENSES | {"linear-leveling": 8, "hyperview": 9, "linear-lock": 10, "ultra-wide": 13}),
        "anti-flicker": Setting(134, {"60": 0, "50": 1}),  # called NTSC and PAL
    },
}


def of_model(model: str) -> dict[str, Setting]:
    """The settings that have a name, as they are on a model."""
    return SETTINGS | next((more for name, more in DIFFERENCES.items() if model.startswith(name)), {})


def expand(texts: Sequence[str]) -> list[str]:
    """The texts with the word `recommended` replaced by what it stands for."""
    return [item for text in texts for item in (CHOICE if text == RECOMMENDED else (text,))]


def parse(text: str, model: str) -> tuple[int, int]:
    """The numbers of NAME=OPTION or ID=OPTION. Raises UsageError with what there is instead."""
    name, _, option = text.strip().lower().partition("=")
    if re.fullmatch(r"\d+=\d+", text.strip(), re.ASCII):
        return int(name), int(option)
    setting = of_model(model).get(name)
    if setting is None:
        cure = f"give NAME=OPTION ({', '.join(SETTINGS)}), ID=OPTION (two numbers) or {RECOMMENDED}"
        raise UsageError(f"{text!r} is no setting", cure=cure)
    if option not in setting.options:
        options = ", ".join(setting.options)
        raise UsageError(f"{name} has no option {option!r} on a {model}", cure=f"choose one of {options}")
    return setting.number, setting.options[option]


def named(present: Mapping[int, int], model: str) -> dict[str, str]:
    """A camera's options by the settings' names; what has none keeps its number."""
    names = {setting.number: (name, setting.options) for name, setting in of_model(model).items()}
    shown = {}
    for number, option in sorted(present.items()):
        name, options = names.get(number, (str(number), {}))
        shown[name] = next((text for text, value in options.items() if value == option), str(option))
    return shown
