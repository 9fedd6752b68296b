"""What a GoPro's answers mean: its state, the files on its card, why it refuses.

Written from GoPro's own document (Open GoPro 2.0) and, where that is silent or wrong, from what users saw cameras do.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from rig.errors import DeviceError

UNKNOWN_MODEL = "GoPro"
CARD_PROBLEMS = {
    -1: "the card is not recognised",
    1: "the card is full",
    2: "there is no card",
    3: "the card must be formatted in the camera",
    4: "the card is busy",
    8: "the card was changed",
}
SETTING_ERRORS = {
    1: "this setting is not available now",
    2: "there is no such setting",
    3: "this option is not available now",
    4: "there is no such option",
}
LIMITS = {  # by the beginning of the model's name
    "HERO9": (
        "it takes no shutter command over USB since firmware 1.60: record its stream, or press its button",
        "its stream always goes to UDP port 8554",
    ),
    "HERO10": ("its stream always goes to UDP port 8554",),
    "HERO11 Black Mini": ("it has no webcam stream: use mode camera",),
    "HERO12": ("it has no GPS",),
}
NOT_NOW = "not possible now, or not on this model"
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
VIDEO_NAME = re.compile(r"(G[A-Z])(\d\d)(\d{4})\.MP4", re.ASCII)
GROUP_NAME = re.compile(r"(G\d{3})\d{4}(\.\w+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """What a camera says about itself; None where it says nothing. `settings` are its options by setting id."""

    name: str | None
    busy: bool
    encoding: bool
    has_battery: bool
    battery_percent: int | None
    card_seconds_left: int | None
    card_problem: str | None
    card_errors: int
    hot: bool
    cold: bool
    preset_group: int | None
    settings: Mapping[int, int] = field(default_factory=dict)

    @property
    def temperature(self) -> str:
        """`hot` (it will switch off), `cold` or `ok`: no camera tells degrees."""
        return "hot" if self.hot else "cold" if self.cold else "ok"


@dataclass(frozen=True, slots=True)
class Media:
    """A file on the card; members of a photo group do not tell their size."""

    folder: str
    name: str
    size_bytes: int | None

    @property
    def path(self) -> str:
        """Folder and name, as the camera wants them."""
        return f"{self.folder}/{self.name}"


class RefusedError(DeviceError):
    """The camera answered, and said no: `code` is its HTTP status."""

    code = 0


def limits(model: str) -> tuple[str, ...]:
    """What a model cannot do, one sentence each."""
    return next((limits for name, limits in LIMITS.items() if re.match(rf"{name}\b", model)), ())


def check(address: str, path: str, response: requests.Response) -> None:
    """Raise RefusedError unless the camera agreed."""
    if 200 <= response.status_code < 300:
        return
    answer: dict[str, Any] = {}
    with suppress(DeviceError):
        answer = read_json(address, path, response)
    # A HERO13 says available_options where the document says supported_options (issue 661).
    options = answer.get("supported_options") or answer.get("available_options") or []
    possible = ", ".join(f"{item.get('id')} ({item.get('display_name')})" for item in options if isinstance(item, dict))
    why = SETTING_ERRORS.get(read_number(answer.get("error")) or 0) or str(answer.get("error", NOT_NOW))
    cure = f"possible now: {possible}" if possible else why
    refusal = RefusedError(f"{address} refuses {path} (HTTP {response.status_code})", cure=cure)
    refusal.code = response.status_code
    raise refusal


def read_json(address: str, path: str, response: requests.Response) -> dict[str, Any]:
    """The JSON object of an answer; raises DeviceError when there is something else."""
    if response.status_code == requests.codes.no_content or not response.content.strip():
        return {}
    try:
        answer = response.json()
    except ValueError as error:
        raise DeviceError(f"{address} answers {path} with something else than JSON", cure="is it a GoPro?") from error
    if not isinstance(answer, dict):
        raise DeviceError(f"{address} answers {path} with {type(answer).__name__}", cure="is it a GoPro?")
    return answer


def read_state(address: str, answer: Mapping[str, Any]) -> CameraState:
    """The answer to `/gopro/camera/state`; ids that nobody knows are passed over. Raises DeviceError."""
    status, settings = answer.get("status"), answer.get("settings")
    if not isinstance(status, dict):
        raise DeviceError(f"{address} tells no state", cure="is it a GoPro?")
    values = _numbers(status)
    card = CARD_PROBLEMS.get(values.get(33, 0)) or ("the card is too slow" if values.get(111) == 1 else None)
    has_battery = values.get(1) != 0
    return CameraState(
        name=str(status.get("30") or "") or None,
        busy=values.get(8) == 1,
        encoding=values.get(10) == 1,
        has_battery=has_battery,
        battery_percent=values.get(70) if has_battery else None,
        card_seconds_left=values.get(35) if values.get(33, 0) in (0, 1, 4) else None,
        card_problem=card,
        card_errors=values.get(112, 0),
        hot=values.get(6) == 1,
        cold=values.get(85) == 1,
        preset_group=values.get(96),
        settings=_numbers(settings if isinstance(settings, dict) else {}),
    )


def read_media(address: str, answer: Mapping[str, Any]) -> list[Media]:
    """The answer to `/gopro/media/list`, without names that would lead out of a folder. Raises DeviceError."""
    try:
        items = [(str(folder.get("d")), item) for folder in answer.get("media", []) for item in folder.get("fs", [])]
        found = [media for folder, item in items for media in _members(folder, item)]
    except (AttributeError, TypeError) as error:
        raise DeviceError(f"{address} sends a list of media that nobody understands") from error
    return [media for media in found if SAFE_NAME.fullmatch(media.folder) and SAFE_NAME.fullmatch(media.name)]


def added(before: Sequence[str], after: Sequence[Media]) -> tuple[Media, ...]:
    """The files that are in `after` but not in `before` (paths), with all chapters of their videos."""
    known = frozenset(before)
    videos = {_video_key(media) for media in after if media.path not in known} - {None}
    return tuple(media for media in after if media.path not in known or _video_key(media) in videos)


def newest(card: Sequence[Media]) -> tuple[Media, ...]:
    """The video with the highest number, all its chapters."""
    keys = {key for media in card if (key := _video_key(media))}
    last = max(keys, key=lambda key: (key[0], key[2]), default=None)
    return tuple(media for media in card if last and _video_key(media) == last)


def read_number(value: object) -> int | None:
    """Cameras send integers, the document has strings in places, and some send either."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


def _numbers(values: Mapping[str, Any]) -> dict[int, int]:
    pairs = [(read_number(key), read_number(value)) for key, value in values.items()]
    return {key: value for key, value in pairs if key is not None and value is not None}


def _members(folder: str, item: Mapping[str, Any]) -> list[Media]:
    """A file, or the members of a group of photos."""
    name = str(item.get("n", ""))
    pattern = GROUP_NAME.fullmatch(name)
    first, last = read_number(item.get("b")), read_number(item.get("l"))
    if pattern is None or first is None or last is None:
        return [Media(folder, name, read_number(item.get("s")))]
    gone = {read_number(number) for number in item.get("m") or []}
    numbers = [number for number in range(first, min(last, 9999) + 1) if number not in gone]
    return [Media(folder, f"{pattern[1]}{number:04d}{pattern[2]}", None) for number in numbers]


def _video_key(media: Media) -> tuple[str, str, str] | None:
    match = VIDEO_NAME.fullmatch(media.name)
    return (media.folder, match[1], match[3]) if match else None
