"""Every tunable of edenCar: name, type, unit, default and why; `python configs.py` prints the table and what is set.

A value comes from the environment (`EDENCAR_<NAME>`), else from `edencar.toml` in the working directory, else from
here. Lists are separated by commas in the environment.
"""

import math
import os
import re
import signal
import sys
import tomllib
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

ENVIRONMENT_PREFIX = "EDENCAR_"
FILE_NAME = "edencar.toml"

LEAST = {  # of the numbers that zero would make nonsense; all others may be zero, none negative
    "photo_interval_s": 0.01,
    "sharpest_of": 1,
    "jpeg_quality": 1,
    "max_gap_s": 0.001,
    "segment_s": 1,
    "sync_interval_s": 0.05,
    "discover_interval_s": 0.1,
    "display_refresh_hz": 1,
    "camera_bit_rate_mbps": 0.1,
}
MOST = {"jpeg_quality": 100}
CHOICES = {
    "webcam_resolution": ("480", "720", "1080"),
    "webcam_lens": ("wide", "narrow", "superview", "linear"),
}


class SettingError(ValueError):
    """A setting is unknown or has a value of the wrong type."""


def _tunable(default: Any, unit: str, why: str) -> Any:
    return field(default=default, metadata={"unit": unit, "why": why})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All tunables; immutable, so that a worker process gets the same ones as the server."""

    # Where things are
    output: Path = _tunable(
        Path("output"), "folder", "all recordings lie below it; give it a disk of its own in the car"
    )
    host: str = _tunable("127.0.0.1", "address", "server.service sets 0.0.0.0: phones on the car's WiFi must reach it")
    port: int = _tunable(5000, "TCP port", "what crews already type")
    host_names: tuple[str, ...] = _tunable(
        ("localhost", "edencar", "edencar.local", "edencar.lan"), "names", "others are refused: DNS rebinding"
    )
    pin_file: str = _tunable("", "file, empty = open", "holds the PIN that changing, downloading and deleting ask for")
    map_tiles: str = _tunable(
        "",
        "address or file",
        "ground of the maps: http://.../{z}/{x}/{y}.png or a PMTiles file of pictures; empty: none",
    )
    cameras: tuple[str, ...] = _tunable((), "HOST[:PORT], ...", "empty: found on USB; named: only these are used")
    receiver_port: str = _tunable("auto", "device or auto", "auto: found by name, then by listening")
    receiver_baud: int = _tunable(0, "baud, 0 = auto", "USB-CDC ignores it; a real UART is tried at the usual rates")
    receiver_rate_hz: float = _tunable(10.0, "Hz, 0 = any", "set in the receiver; the crew is told when it sends less")

    # Time
    receiver_latency_ms: float = _tunable(
        0.0, "ms", "delay from epoch to first byte, where it was measured; subtracted"
    )
    receiver_latency_error_ms: float = _tunable(
        10.0, "ms", "half-width for the part of that delay nobody measured; NMEA alone cannot show it"
    )
    chrony_socket: str = _tunable("", "path, empty = off", "sets the Pi's own clock by the receiver (docs/chrony.md)")
    display_latency_ms: float = _tunable(35.0, "ms", "animation frame to light; phones lie between 10 and 60")
    display_latency_error_ms: float = _tunable(25.0, "ms", "half-width of that, for a phone never measured")
    led_pin: str = _tunable(
        "17",
        "GPIO (BCM) or file",
        "the LED that measures a phone's display latency; header pin 11, or what takes 1 and 0",
    )
    display_refresh_hz: float = _tunable(
        60.0, "Hz", "refresh rate of the screen that shows the code, without a draw log"
    )
    read_out_ms: float = _tunable(15.0, "ms", "top to bottom row of a picture; 14.8 on a HERO3+, 20.6 on a MAX")
    read_out_error_ms: float = _tunable(6.0, "ms", "half-width of that; matters for a code far from the middle row")
    max_camera_rate_ppm: float = _tunable(100.0, "ppm", "no camera crystal is worse; 84 ppm has been seen")
    unknown_camera_rate_ppm: float = _tunable(
        50.0, "ppm", "how far a never measured crystal may drift in the error bar"
    )
    arrival_link_error_ms: float = _tunable(
        20.0, "ms", "half-width added when a restarted stream is dated by its arrival: a camera's delay varies"
    )
    arrival_delay_ms: float = _tunable(
        230.0, "ms", "exposure to arrival of a stream without any code, for a camera never measured"
    )
    arrival_delay_error_ms: float = _tunable(
        150.0, "ms", "half-width of that; a camera once filmed with the code has its own"
    )
    stored_rate_error_ppm: float = _tunable(3.0, "ppm", "how well a camera's rate of an earlier day holds")
    monotonic_rate_error_ppm: float = _tunable(20.0, "ppm", "of this machine's own crystal, without a receiver")
    gpmf_error_ms: float = _tunable(250.0, "ms", "half-width of a card file's GPS time; GPSU wanders by 122 ms in 9 s")
    camera_clock_error_s: float = _tunable(
        2.0, "s", "half-width of the clock of a camera whose photos show no code: set by hand or by its maker's app"
    )
    code_window_s: float = _tunable(90.0, "s", "how much of the start and the end is searched for the code")

    # Photos
    photo_interval_s: float = _tunable(0.5, "s", "one photo each 0.5 s is one each 7 m at 50 km/h")
    sharpest_of: int = _tunable(3, "frames", "neighbours compared; more costs decoding and gains little")
    standing_mps: float = _tunable(0.3, "m/s, 0 = off", "slower than this the car stands: a stop gives one photo")
    jpeg_quality: int = _tunable(92, "1-100", "letters stay free of ringing; 100 doubles the size for nothing readable")
    max_gap_s: float = _tunable(1.0, "s", "a fix further away than this says nothing about the photo")
    lever_arm_m: tuple[float, ...] = _tunable((0.0, 0.0, 0.0), "m", "camera minus antenna: forward, right, up")
    camera_directions: tuple[str, ...] = _tunable(
        (
            *("left=-90", "right=90", "front=0", "back=180", "rear=180"),
            *("gauche=-90", "droite=90", "avant=0", "arrière=180", "arriere=180"),  # what French crews write
        ),
        "camera=degrees, ...",
        "where a camera looks, clockwise from ahead; one not named here looks ahead",
    )
    photo_formats: tuple[str, ...] = _tunable(
        ("geojson", "gpx", "gpkg", "kml", "panoramax", "report"), "names", "what is made beside photos.csv"
    )
    privacy_command: tuple[str, ...] = _tunable(
        (), "words, ...", "sees each photo before it is final (faces, plates); {} is its file; a failure keeps it out"
    )
    privacy_timeout_s: float = _tunable(60.0, "s", "a privacy command that takes longer has failed")

    # Recording
    segment_s: float = _tunable(60.0, "s", "length of a stream segment: what a damaged file can cost")
    receive_buffer_bytes: int = _tunable(8 << 20, "bytes", "about 9 s of a 6 Mbit/s stream while the disk hesitates")
    sync_interval_s: float = _tunable(1.0, "s", "what a power cut can cost; more often wears the card")
    discover_interval_s: float = _tunable(3.0, "s", "between two looks for cameras; each asks the USB network")
    stop_wait_s: float = _tunable(30.0, "s", "how long a stop waits for files to come from the cameras' cards")
    resume_within_s: float = _tunable(
        600.0,
        "s, 0 = never",
        "what a crash or power cut interrupted goes on by itself when it is not older",
    )
    trash_days: float = _tunable(7.0, "days", "how long what was deleted can be restored; less when the disk is full")
    reserve_bytes: int = _tunable(200 << 20, "bytes", "room kept free so that a recording can always be closed")
    webcam_resolution: str = _tunable("1080", "480, 720, 1080", "letters need pixels; 480 only on HERO9 and 10")
    webcam_lens: str = _tunable("linear", "wide, narrow, superview, linear", "straight lines stay straight")
    camera_settings: tuple[str, ...] = _tunable(
        ("175=1", "59=0", "135=0"),
        "id=option, ...",
        "Pro mode, never sleep, no stabilisation: it moves the frame's time",
    )
    camera_bit_rate_mbps: float = _tunable(6.0, "Mbit/s", "of one webcam stream; turns free bytes into time left")


def load(environ: Mapping[str, str] = os.environ, file: Path = Path(FILE_NAME)) -> Settings:
    """Settings from the environment, `edencar.toml` and the defaults, in this order.

    Raises SettingError for an unknown name or a value that cannot be.
    """
    kinds = get_type_hints(Settings)
    named = {name.removeprefix(ENVIRONMENT_PREFIX).lower() for name in environ if name.startswith(ENVIRONMENT_PREFIX)}
    for name in sorted(named - set(kinds)):
        raise SettingError(f"unknown setting {name!r} in the environment: `python configs.py` lists them")
    values = {name: _parse(name, kinds, value) for name, value in _file_values(file).items()}
    for name in kinds:
        text = environ.get(ENVIRONMENT_PREFIX + name.upper())
        if text is not None:
            values[name] = _parse(name, kinds, text)
    settings = Settings(**values)
    _check(settings)
    return settings


def of_photos(settings: Settings) -> Settings:
    """With the usual values of all that makes no difference to photos: where things are, and how they are recorded."""
    names = [item.name for item in fields(Settings)]
    matter = names[names.index("receiver_latency_ms") : names.index("segment_s")]  # sections Time and Photos
    return Settings(**{name: getattr(settings, name) for name in matter})


def _check(settings: Settings) -> None:
    """Refuse what no device and no clock can do, before a day is driven with it."""
    for name in (item.name for item in fields(settings)):
        value = getattr(settings, name)
        least, most = LEAST.get(name, 0.0), MOST.get(name, math.inf)
        if isinstance(value, int | float) and not (math.isfinite(value) and least <= value <= most):
            limits = f"{least:g} or more" if math.isinf(most) else f"from {least:g} to {most:g}"
            raise SettingError(f"setting {name} is {value}: it must be {limits}")
        if name in CHOICES and value not in CHOICES[name]:
            raise SettingError(f"setting {name} is {value!r}: it must be one of {', '.join(CHOICES[name])}")
    if len(settings.lever_arm_m) != 3 or not all(map(math.isfinite, settings.lever_arm_m)):
        raise SettingError("setting lever_arm_m needs three numbers of metres: forward, right, up")
    for entry in settings.camera_directions:
        if not re.fullmatch(r"[^=]+=-?\d+(\.\d+)?", entry):
            raise SettingError(f"setting camera_directions has {entry!r}: say for instance left=-90")


def _file_values(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{file} cannot be read ({error}): mend it or move it away") from error


def _parse(name: str, kinds: Mapping[str, Any], value: Any) -> Any:
    if name not in kinds:
        raise SettingError(f"unknown setting {name!r}: `python configs.py` lists them")
    kind = kinds[name]
    try:
        if isinstance(kind, types.GenericAlias):
            parts = value.split(",") if isinstance(value, str) else value
            return tuple(kind.__args__[0](part) for part in parts if part != "")
        return kind(value)
    except (TypeError, ValueError) as error:
        raise SettingError(f"setting {name} is {value!r}: it must be {kind.__name__}") from error


def table(settings: Settings) -> str:
    """The tunables as a Markdown table, with the values of these settings where they are not the default."""
    rows = ["| name | default | set | unit | why |", "| --- | --- | --- | --- | --- |"]
    for item in fields(Settings):
        value = getattr(settings, item.name)
        here = "" if value == item.default else _shown(value) or "(empty)"
        about = f"{item.metadata['unit']} | {item.metadata['why']}"
        rows.append(f"| `{item.name}` | {_shown(item.default)} | {here} | {about} |")
    return "\n".join(rows)


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main() -> int:
    """Print the table with what the environment and the file of the working directory set, without where that fails."""
    try:
        print(table(load()))
    except SettingError as error:
        print(table(Settings()))
        print(f"configs.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # who reads, as head does, has seen enough
    raise SystemExit(main())
