"""A GoPro's commands over HTTP: what it is, how it is set, its card, its webcam stream.

Written from GoPro's own document (Open GoPro 2.0) and, where that is silent or wrong, from what users saw cameras do.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import requests
from urllib3.exceptions import MaxRetryError

from rig.clock import system_clock
from rig.errors import DeviceError, DeviceNotFoundError, EdencarError, NoSpaceError, UsageError
from rig.files import free_bytes, sync_folder

UNKNOWN_MODEL = "GoPro"
HTTP_PORT = 8080
CONNECT_S, READ_S = 2.0, 5.0
TRIES = 5
RETRY_PAUSE_S = 0.2
BUSY_PAUSE_S, BUSY_S = 0.5, 5.0  # between tries, and how long a camera may say 503
POLL_S = 0.5  # status 60 of real cameras: no faster than this
ENCODING_S = 5.0
CLOSING_S = 15.0  # until a card's file is closed
RESTART_PAUSE_S = 0.2  # between stop and start of the webcam

CHUNK_BYTES = 64 << 10  # what a stalled connection costs
OVERLAP_BYTES = 16 << 10  # compared when a download resumes: a power cut may have spoilt the end of the part
SYNC_BYTES = 64 << 20

VIDEO_GROUP, PHOTO_GROUP = 1000, 1001
LENSES = {"wide": 0, "narrow": 2, "superview": 3, "linear": 4}
RESOLUTIONS = {"480": 4, "720": 7, "1080": 12}
CARD_PROBLEMS = {
    -1: "the card is not recognised",
    1: "the card is full",
    2: "there is no card",
    3: "the card must be formatted in the camera",
    4: "the card is busy",
    8: "the card was changed",
}
WEBCAM_ERRORS = {
    1: "preset",
    2: "window size",
    3: "stream",
    4: "shutter",
    5: "time-out inside the camera",
    6: "parameter",
    7: "unavailable",
    8: "exit",
}
SETTING_ERRORS = {
    1: "this setting is not available now",
    2: "there is no such setting",
    3: "this option is not available now",
    4: "there is no such option",
}
NOT_NOW = "not possible now, or not on this model"
SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)
VIDEO_NAME = re.compile(r"(G[A-Z])(\d\d)(\d{4})\.MP4", re.ASCII)
GROUP_NAME = re.compile(r"(G\d{3})\d{4}(\.\w+)", re.ASCII)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraState:
    """What a camera says about itself; None where it says nothing. `settings` are its options by setting id."""

    name: str | None
    busy: bool
    encoding: bool
    battery_percent: int | None
    card_seconds_left: int | None
    card_problem: str | None
    hot: bool
    preset_group: int | None
    settings: Mapping[int, int] = field(default_factory=dict)


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


Query = Mapping[str, str | int]
Progress = Callable[[int, int], None]


class GoPro:
    """Commands to the camera at `address` (HOST[:PORT]); all raise DeviceNotFoundError or DeviceError."""

    def __init__(self, address: str, timeouts_s: tuple[float, float] = (CONNECT_S, READ_S)) -> None:
        self.address = address
        self.host, self.port = split_address(address)
        self._timeouts_s = timeouts_s
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy stands between a car and its camera
        # One connection for each request, as GoPro's own SDK does; and no compression, for sizes must add up.
        self._session.headers.update({"Connection": "close", "Accept-Encoding": "identity"})
        self._webcam_used = False

    def close(self) -> None:
        """Let go of the connections."""
        self._session.close()

    # What it is and how it is

    def version(self) -> str:
        """Version of the interface."""
        return str(self._ask("/gopro/version").get("version", ""))

    def identify(self) -> tuple[str | None, str]:
        """Serial number, which HERO9 to 11 do not tell, and model."""
        try:
            answer = self._ask("/gopro/camera/info")
        except RefusedError:
            answer = {}
        serial, model = answer.get("serial_number"), answer.get("model_name") or self.state().name
        return str(serial) if serial else None, str(model or UNKNOWN_MODEL)

    def state(self) -> CameraState:
        """State and settings."""
        answer = self._ask("/gopro/camera/state")
        status, settings = answer.get("status"), answer.get("settings")
        if not isinstance(status, dict):
            raise DeviceError(f"{self.address} tells no state", cure="is it a GoPro?")
        return _read_state(status, settings if isinstance(settings, dict) else {})

    def keep_alive(self) -> None:
        """Keep it from sleeping; every 3 s is GoPro's advice."""
        self._ask("/gopro/camera/keep_alive", tries=1)

    def wait_until(self, wanted: Callable[[CameraState], bool], timeout_s: float) -> bool:
        """Poll the state until it is as `wanted`; False when time is up. A camera may vanish meanwhile for a moment."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            late = time.monotonic() >= deadline_s
            try:
                if wanted(self.state()):
                    return True
            except (DeviceError, DeviceNotFoundError):
                if late:  # HERO9 drops its USB network at a shutter
                    raise
            if late:
                return False
            time.sleep(POLL_S)

    # How it is set

    def take_control(self, wanted: Sequence[str] = ()) -> None:
        """Make it listen to us, apply the settings `wanted` (ID=OPTION) that it has, and set its clock."""
        self.version()
        self._hint("/gopro/camera/control/wired_usb", {"p": 1})
        self._hint("/gopro/camera/analytics/set_client_info")
        present = self.state().settings
        pairs = [pair for pair in map(parse_setting, wanted) if present.get(pair[0]) != pair[1]]
        steps: list[Callable[[], None]] = [partial(self.set, *pair) for pair in pairs]
        for step in [*steps, self.set_clock]:
            try:
                step()
            except RefusedError as refusal:
                log.info("%s", refusal)

    def set(self, setting: int, option: int) -> None:
        """Set one setting; when it is refused the message lists what is possible now."""
        self._ask("/gopro/camera/setting", {"setting": setting, "option": option})
        self.wait_until(lambda state: not state.busy, BUSY_S)

    def set_clock(self, utc: datetime | None = None) -> None:
        """Set its clock to UTC, without zone or summer time, to the nearest second: it knows no finer."""
        utc = (utc or datetime.fromtimestamp(system_clock().utc_ns() / 1e9, UTC)) + timedelta(seconds=0.5)
        moment: dict[str, str | int] = {"date": f"{utc:%Y_%m_%d}", "time": f"{utc:%H_%M_%S}"}
        try:
            self._ask("/gopro/camera/set_date_time", moment | {"tzone": 0, "dst": 0})
        except RefusedError:  # HERO9 and 10 know no zone
            self._ask("/gopro/camera/set_date_time", moment)

    # The card

    def start_recording(self) -> None:
        """Start a video on the card. Raises DeviceError when it is recording already, or does not begin to."""
        self._shoot(VIDEO_GROUP)
        if not self.wait_until(lambda state: state.encoding, ENCODING_S):
            raise DeviceError(f"{self.address} does not begin to record", cure="look at its card and its screen")

    def stop_recording(self) -> None:
        """Stop the video, and wait until its file is closed."""
        try:
            self._ask("/gopro/camera/shutter/stop")
        except RefusedError as refusal:
            if not self._legacy_shutter(0):
                raise refusal
        self._wait_closed()

    def take_photo(self) -> None:
        """Take a photo, and wait until its file is closed."""
        group = self.state().preset_group
        self._shoot(PHOTO_GROUP)
        time.sleep(POLL_S)
        self._wait_closed()
        if group not in (None, PHOTO_GROUP):
            self._hint("/gopro/camera/presets/set_group", {"id": group})

    def media(self) -> list[Media]:
        """The files on the card, each member of a group by itself."""
        try:
            answer = self._ask("/gopro/media/list")
        except RefusedError as refusal:
            broken = "switch it off and on, look at its card"  # 404, until it is started anew (issues 592, 639)
            cure = "it is recording: stop first" if self.state().encoding else broken
            raise DeviceError(f"{self.address} does not list its files", cure=cure) from refusal
        try:
            items = [
                (str(folder.get("d")), item) for folder in answer.get("media", []) for item in folder.get("fs", [])
            ]
            found = [media for folder, item in items for media in _read_media(folder, item)]
        except (AttributeError, TypeError) as error:
            raise DeviceError(f"{self.address} sends a list of media that nobody understands") from error
        return [media for media in found if SAFE_NAME.fullmatch(media.folder) and SAFE_NAME.fullmatch(media.name)]

    def download(self, media: Media, folder: Path, progress: Progress = lambda done, total: None) -> Path:
        """Fetch a file into `folder`, resuming what an earlier call left in `NAME.part`.

        `progress` is told bytes done and in all; what it raises ends the download, and the part stays.
        """
        target = folder / media.name
        if media.size_bytes is not None and target.is_file() and target.stat().st_size == media.size_bytes:
            return target
        part = target.with_name(target.name + ".part")
        have, trusted, failures = _size(part), False, 0
        while True:
            begin = have if trusted else max(0, have - OVERLAP_BYTES)
            try:
                self._download_rest(media, part, begin, progress)
                break
            except RefusedError:
                raise
            except (DeviceError, DeviceNotFoundError, requests.RequestException) as error:
                before, have = have, _size(part)
                trusted = trusted or have > before or begin == 0
                failures = 0 if have > before else failures + 1
                if failures >= TRIES:
                    raise DeviceError(f"{self.address} does not send {media.path}", cure=str(error)) from error
                time.sleep(RETRY_PAUSE_S)
        part.replace(target)
        sync_folder(folder)
        return target

    def turbo(self, on: bool) -> None:
        """Send files twice as fast, while the camera shows that on its screen."""
        self._hint("/gopro/media/turbo_transfer", {"p": int(on)})

    # The stream

    def webcam_status(self) -> int | None:
        """0 off, 1 idle, 2 and 3 streaming, 4 unavailable; None when it does not say."""
        with suppress(RefusedError):
            return _number(self._ask("/gopro/webcam/status").get("status"))
        return None

    def start_webcam(self, port: int, resolution: str, lens: str, ready: Callable[[], None]) -> None:
        """Have it send its stream to UDP `port` of this machine; `ready` is called just before it begins."""
        self._hint("/gopro/camera/control/wired_usb", {"p": 0})
        status = self.webcam_status()
        query = {"res": _choose(RESOLUTIONS, resolution), "fov": _choose(LENSES, lens), "port": port}
        if status in (2, 3):
            self.stop_webcam()
        elif status == 1 and not self._webcam_used:
            # After plugging in it may say idle although it is not (GoPro's FAQ).
            with suppress(DeviceError):
                self._order_webcam(query)
            self.stop_webcam()
        for left in reversed(range(TRIES)):
            ready()
            try:
                self._order_webcam(query)
                break
            except DeviceError:
                if not left:
                    raise
                self._hint("/gopro/camera/control/wired_usb", {"p": 0})
                self.stop_webcam()
        self._webcam_used = True

    def stop_webcam(self) -> None:
        """End the stream."""
        self._hint("/gopro/webcam/stop")
        time.sleep(RESTART_PAUSE_S)

    def leave_webcam(self) -> None:
        """Make it a camera again: as a webcam it neither records nor takes photos."""
        if self.webcam_status() not in (None, 0):
            self._hint("/gopro/webcam/exit")
            time.sleep(RESTART_PAUSE_S)

    def _order_webcam(self, query: Query) -> None:
        answer = self._ask("/gopro/webcam/start", query, 1)
        error = _number(answer.get("error"))
        if error:
            what = WEBCAM_ERRORS.get(error, "unknown")
            raise RefusedError(
                f"{self.address} does not start its webcam (error {error}, {what})", cure="plug it in again"
            )

    def _shoot(self, group: int) -> None:
        state = self.state()
        if state.encoding:
            raise DeviceError(f"{self.address} is recording already", cure="stop it on the camera first")
        if state.preset_group not in (None, group):
            self._hint("/gopro/camera/presets/set_group", {"id": group})
        self.wait_until(lambda state: not state.busy, BUSY_S)
        for left in (1, 0):
            try:
                self._ask("/gopro/camera/shutter/start", tries=1)
                return
            except RefusedError as refusal:
                if self._legacy_shutter(1):
                    return
                if state.card_problem is None:
                    raise
                raise DeviceError(f"{self.address} cannot record", cure=state.card_problem) from refusal
            except (DeviceError, DeviceNotFoundError):
                # The answer got lost, perhaps not the command: a second one would stop what has begun.
                if self.wait_until(lambda state: state.encoding, 3 * POLL_S):
                    return
                if not left:
                    raise

    def _legacy_shutter(self, pressed: int) -> bool:
        """The way of older cameras; HERO9 knows no other one on USB."""
        with suppress(RefusedError):
            self._ask("/gp/gpControl/command/shutter", {"p": pressed})
            return True
        return False

    def _wait_closed(self) -> None:
        if not self.wait_until(lambda state: not state.encoding and not state.busy, CLOSING_S):
            raise DeviceError(f"{self.address} does not finish its file", cure="look at the camera's screen")

    def _download_rest(self, media: Media, part: Path, begin: int, progress: Progress) -> None:
        """Fetch the file from `begin` on; what `part` has from there on must be the same."""
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        with self._request(f"/videos/DCIM/{media.path}", {}, 1, headers=headers, stream=True) as response:
            if response.status_code == 416:
                part.unlink(missing_ok=True)
                raise DeviceError(f"{media.path} on {self.address} is shorter than what was fetched")
            _check(self.address, media.path, response)
            if response.status_code != 206:
                begin = 0
            length = _number(response.headers.get("Content-Length"))
            total = begin + length if length is not None else media.size_bytes or 0
            if media.size_bytes is not None and total < media.size_bytes:
                raise DeviceError(f"{self.address} offers {total} of {media.size_bytes} bytes of {media.path}")
            _require_room(part.parent, total - _size(part))
            with part.open("r+b" if begin else "w+b") as file:
                _receive(response, file, begin, total, progress)

    # HTTP

    def _hint(self, path: str, query: Query | None = None) -> None:
        """Say something that the camera may refuse: some models do not know it, some answer 500 to a repetition."""
        try:
            self._ask(path, query)
        except RefusedError as refusal:
            log.info("%s", refusal)

    def _ask(self, path: str, query: Query | None = None, tries: int = TRIES) -> dict[str, Any]:
        """The answer to a command; waits while the camera says that it is busy."""
        deadline_s = time.monotonic() + BUSY_S
        while True:
            response = self._request(path, query or {}, tries)
            if response.status_code != requests.codes.unavailable or time.monotonic() >= deadline_s:
                _check(self.address, path, response)
                return _read_json(self.address, path, response)
            time.sleep(BUSY_PAUSE_S)

    def _request(self, path: str, query: Query, tries: int, **more: Any) -> requests.Response:
        url = f"http://{self.host}:{self.port}{path}"
        for left in reversed(range(tries)):
            # A connection kept from the last request may be closing just now: its loss would look like the camera's.
            self._session.close()
            try:
                return self._session.get(url, params=query, timeout=self._timeouts_s, allow_redirects=False, **more)
            except requests.ConnectionError as error:
                # HERO12 can put a line of its log before the status line (gopro/OpenGoPro issue 437).
                if not left or isinstance(error, requests.ConnectTimeout):
                    raise _explain(self.address, error) from error
                time.sleep(RETRY_PAUSE_S)
            except requests.RequestException as error:
                raise _explain(self.address, error) from error
        raise AssertionError("at least one try")


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST[:PORT]; raises UsageError."""
    host, colon, port = address.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", host) or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise UsageError(f"{address!r} is no camera's address", cure="give HOST or HOST:PORT")
    return host, int(port) if colon else HTTP_PORT


def parse_setting(pair: str) -> tuple[int, int]:
    """Setting and option of ID=OPTION; raises UsageError."""
    match = re.fullmatch(r"(\d+)=(\d+)", pair.strip(), re.ASCII)
    if match is None:
        raise UsageError(f"{pair!r} is no setting", cure="give ID=OPTION, two numbers")
    return int(match[1]), int(match[2])


def added(before: Sequence[str], after: Sequence[Media]) -> tuple[Media, ...]:
    """The files that are in `after` but not in `before` (paths), with all chapters of their videos."""
    known = frozenset(before)
    videos = {_video_key(media) for media in after if media.path not in known} - {None}
    return tuple(media for media in after if media.path not in known or _video_key(media) in videos)


def _choose(options: Mapping[str, int], name: str) -> int:
    if name not in options:
        raise UsageError(f"a GoPro's webcam has no {name!r}", cure=f"choose one of {', '.join(options)}")
    return options[name]


# Reading answers


def _explain(address: str, error: requests.RequestException) -> EdencarError:
    reason = error.args[0] if error.args else None
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, MaxRetryError):
        return missing(address)
    return DeviceError(f"{address} broke off ({type(error).__name__})", cure="look at the camera and its cable")


def missing(address: str) -> DeviceNotFoundError:
    """The error that says that nothing answers there."""
    return DeviceNotFoundError(f"no camera answers at {address}", cure="switch it on, look at its cable and USB mode")


def _check(address: str, path: str, response: requests.Response) -> None:
    """Raise RefusedError unless the camera agreed."""
    if 200 <= response.status_code < 300:
        return
    answer: dict[str, Any] = {}
    with suppress(DeviceError):
        answer = _read_json(address, path, response)
    # A HERO13 says available_options where the document says supported_options (issue 661).
    options = answer.get("supported_options") or answer.get("available_options") or []
    possible = ", ".join(f"{item.get('id')} ({item.get('display_name')})" for item in options if isinstance(item, dict))
    why = SETTING_ERRORS.get(_number(answer.get("error")) or 0) or str(answer.get("error", NOT_NOW))
    cure = f"possible now: {possible}" if possible else why
    refusal = RefusedError(f"{address} refuses {path} (HTTP {response.status_code})", cure=cure)
    refusal.code = response.status_code
    raise refusal


def _read_json(address: str, path: str, response: requests.Response) -> dict[str, Any]:
    if response.status_code == requests.codes.no_content or not response.content.strip():
        return {}
    try:
        answer = response.json()
    except ValueError as error:
        raise DeviceError(f"{address} answers {path} with something else than JSON", cure="is it a GoPro?") from error
    if not isinstance(answer, dict):
        raise DeviceError(f"{address} answers {path} with {type(answer).__name__}", cure="is it a GoPro?")
    return answer


def _read_state(status: Mapping[str, Any], settings: Mapping[str, Any]) -> CameraState:
    numbers = {key: number for key, value in status.items() if (number := _number(value)) is not None}
    card = CARD_PROBLEMS.get(numbers.get("33", 0))
    if card is None and numbers.get("111") == 1:
        card = "the card is too slow"
    options = {_number(key): _number(value) for key, value in settings.items()}
    return CameraState(
        name=str(status.get("30") or "") or None,
        busy=numbers.get("8", 0) == 1,
        encoding=numbers.get("10", 0) == 1,
        battery_percent=numbers.get("70") if numbers.get("1", 1) else None,
        card_seconds_left=numbers.get("35") if numbers.get("33", 0) in (0, 1, 4) else None,
        card_problem=card,
        hot=numbers.get("6", 0) == 1,
        preset_group=numbers.get("96"),
        settings={key: value for key, value in options.items() if key is not None and value is not None},
    )


def _read_media(folder: str, item: Mapping[str, Any]) -> list[Media]:
    name = str(item.get("n", ""))
    pattern = GROUP_NAME.fullmatch(name)
    first, last = _number(item.get("b")), _number(item.get("l"))
    if pattern is None or first is None or last is None:
        return [Media(folder, name, _number(item.get("s")))]
    missing = {_number(number) for number in item.get("m") or []}
    members = [number for number in range(first, min(last, 9999) + 1) if number not in missing]
    return [Media(folder, f"{pattern[1]}{number:04d}{pattern[2]}", None) for number in members]


def _video_key(media: Media) -> tuple[str, str, str] | None:
    match = VIDEO_NAME.fullmatch(media.name)
    return (media.folder, match[1], match[3]) if match else None


def _number(value: object) -> int | None:
    """Cameras send integers, the document has strings in places, and some send either."""
    try:
        return int(value) if isinstance(value, int | str) else None
    except ValueError:
        return None


# Files


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _require_room(folder: Path, needed: int) -> None:
    if free_bytes(folder) < needed:
        raise NoSpaceError(f"{folder} has no room for {needed >> 20} MiB", cure="free some space; it is fetched then")


def _receive(response: requests.Response, file: BinaryIO, begin: int, total: int, progress: Progress) -> None:
    """Write the body at `begin`; where the file has bytes already, they must be the same."""
    file.seek(begin)
    known = file.read()
    file.seek(begin)
    response.raw.enforce_content_length = False  # else the last bytes before a cut would be thrown away
    synced = done = begin
    for chunk in response.iter_content(CHUNK_BYTES):
        if not chunk.startswith(known[: len(chunk)]):
            file.truncate(0)
            raise DeviceError("what was fetched before is not of the same file")
        known = known[len(chunk) :]
        file.write(chunk)
        done += len(chunk)
        if done - synced >= SYNC_BYTES:
            file.flush()
            os.fdatasync(file.fileno())
            synced = done
        progress(done, total)
    if done < total:
        raise DeviceError(f"only {done} of {total} bytes came")
    file.truncate(done)
    file.flush()
    os.fsync(file.fileno())
