"""A GoPro's commands over HTTP: how it is, how it is set, its shutter, its card, its webcam stream.

Written from GoPro's own document (Open GoPro 2.0) and, where that is silent or wrong, from what users saw cameras do.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import requests
from urllib3.exceptions import MaxRetryError

from rig.camera import camerasettings
from rig.camera.goproanswers import (
    NOT_NOW,
    UNKNOWN_MODEL,
    CameraState,
    Media,
    RefusedError,
    check,
    limits,
    read_json,
    read_media,
    read_number,
    read_state,
)
from rig.clock import system_clock
from rig.errors import DeviceError, DeviceNotFoundError, EdencarError, UsageError

HTTP_PORT = 8080
CONNECT_S, READ_S = 2.0, 5.0
TRIES = 5
RETRY_PAUSE_S = 0.2
BUSY_PAUSE_S, BUSY_S = 0.5, 5.0  # between tries, and how long a camera may say 503
POLL_S = 0.5  # status 60 of real cameras: no faster than this
ENCODING_S = 5.0
CLOSING_S = 15.0  # until a card's file is closed
AWAY_S = 10.0  # a HERO9, or a weak USB port, drops the network at a shutter
RESTART_PAUSE_S = 0.2  # between stop and start of the webcam

VIDEO_GROUP, PHOTO_GROUP = 1000, 1001
STREAMING = (2, 3)  # of the webcam's states
RESOLUTIONS = {"480": 4, "720": 7, "1080": 12}
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
BAD_PARAMETER = 6
TROUBLE = (DeviceError, DeviceNotFoundError)  # what every command may raise

log = logging.getLogger(__name__)


Query = Mapping[str, str | int]


class GoPro:
    """Commands to the camera at `address` (HOST[:PORT]); all raise DeviceNotFoundError or DeviceError.

    Every request has a time-out. It is repeated when it got lost, but for those that press the shutter.
    """

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
        return read_state(self.address, self._ask("/gopro/camera/state"))

    def keep_alive(self) -> None:
        """Keep it from sleeping; every 3 s is GoPro's advice."""
        self._ask("/gopro/camera/keep_alive", tries=1)

    def wait_until(self, wanted: Callable[[CameraState], bool], timeout_s: float) -> bool:
        """Poll the state until it is as `wanted`; False when time is up. A camera may vanish meanwhile for a while."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                if wanted(self.state()):
                    return True
                if time.monotonic() >= deadline_s:
                    return False
            except TROUBLE:
                if time.monotonic() >= deadline_s + AWAY_S:
                    raise
            time.sleep(POLL_S)

    # How it is set

    def take_control(self, wanted: Sequence[str] = ()) -> None:
        """Make it a camera that listens to us, set its clock and, as far as it agrees, what is `wanted`.

        `wanted` are settings as rig.camera.camerasettings has them.
        """
        self.leave_webcam()  # as one it neither records nor takes photos; stabilisation can only be changed then
        self.version()
        state = self.state()
        if state.has_battery:  # without one it switches itself off then (gopro/labs issue 1321)
            self._hint("/gopro/camera/control/wired_usb", {"p": 1})
        self._hint("/gopro/camera/analytics/set_client_info")
        self.apply(wanted, state)
        with suppress(RefusedError):
            self.set_clock()

    def apply(self, wanted: Sequence[str], state: CameraState) -> list[str]:
        """Set what a camera in `state` has and is not set yet; what it refused, one sentence each."""
        refused = []
        for text in camerasettings.expand(wanted):
            setting, option = camerasettings.parse(text, state.name or "")
            if state.settings.get(setting, option) == option:
                continue
            try:
                self.set(setting, option)
            except RefusedError as refusal:
                log.info("%s", refusal)
                refused.append(f"{text}: {refusal}")
        return refused

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

    # The shutter

    def start_recording(self) -> None:
        """Start a video on the card. Raises DeviceError when it is recording already, or does not begin to."""
        self._shoot(VIDEO_GROUP)
        if not self.wait_until(lambda state: state.encoding, ENCODING_S):
            raise RefusedError(f"{self.address} does not begin to record", cure="look at its card and its screen")

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

    def _shoot(self, group: int) -> None:
        state = self.state()
        if state.encoding:
            raise RefusedError(f"{self.address} is recording already", cure="stop it on the camera first")
        if state.preset_group not in (None, group):
            self._hint("/gopro/camera/presets/set_group", {"id": group})
        self.wait_until(lambda state: not state.busy, BUSY_S)
        for left in (1, 0):
            try:
                self._ask("/gopro/camera/shutter/start", tries=1)
                return
            except RefusedError as refusal:
                if not self._legacy_shutter(1):
                    cure = state.card_problem or next(iter(limits(state.name or "")), NOT_NOW)
                    raise RefusedError(f"{self.address} does not record", cure=cure) from refusal
                return
            except TROUBLE:
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

    # The card

    def media(self) -> list[Media]:
        """The files on the card, each member of a group by itself."""
        try:
            answer = self._ask("/gopro/media/list")
        except RefusedError as refusal:
            state = self.state()
            broken = state.card_problem or "switch it off and on, look at its card"  # 404 until then (issues 592, 639)
            cure = "it is recording: stop first" if state.encoding else broken
            raise RefusedError(f"{self.address} does not list its files", cure=cure) from refusal
        return read_media(self.address, answer)

    def send(self, media: Media, begin: int) -> requests.Response:
        """A file's bytes from `begin` on, as a stream to be read and closed; status 206 says that it begins there."""
        headers = {"Range": f"bytes={begin}-"} if begin else {}
        response = self._request(f"/videos/DCIM/{media.path}", {}, 1, headers=headers, stream=True)
        if response.status_code != requests.codes.range_not_satisfiable:
            check(self.address, media.path, response)
        return response

    def delete(self, media: Media) -> None:
        """Delete one file from the card; nothing else here ever does."""
        self._ask("/gopro/media/delete/file", {"path": media.path})

    def turbo(self, on: bool) -> None:
        """Send files twice as fast, while the camera shows that on its screen."""
        self._hint("/gopro/media/turbo_transfer", {"p": int(on)})

    # The stream

    def webcam_status(self) -> int | None:
        """0 off, 1 idle, 2 and 3 streaming, 4 unavailable; None when it does not say."""
        with suppress(RefusedError):
            return read_number(self._ask("/gopro/webcam/status").get("status"))
        return None

    def start_webcam(self, port: int, resolution: str, lens: str, ready: Callable[[], None]) -> None:
        """Have it send its stream to UDP `port` of this machine; `ready` is called just before it begins."""
        self._hint("/gopro/camera/control/wired_usb", {"p": 0})
        status = self.webcam_status()
        query = {"res": RESOLUTIONS[resolution], "fov": camerasettings.LENSES[lens], "port": port}
        if status in STREAMING:
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
        """Make it a camera again."""
        if self.webcam_status() not in (None, 0):
            self._hint("/gopro/webcam/exit")
            time.sleep(RESTART_PAUSE_S)

    def _order_webcam(self, query: Query) -> None:
        try:
            error = read_number(self._ask("/gopro/webcam/start", query, 1).get("error"))
        except RefusedError as refusal:
            cure = "plug it in again; a HERO13 needs newer firmware than 1.10, and no HERO11 Mini has a webcam"
            what = f"{self.address} does not start its webcam (HTTP {refusal.code})"
            raise RefusedError(what, cure=cure) from refusal
        if error:
            what = WEBCAM_ERRORS.get(error, "unknown")
            cure = "choose another webcam_resolution or webcam_lens" if error == BAD_PARAMETER else "plug it in again"
            raise RefusedError(f"{self.address} does not start its webcam (error {error}, {what})", cure=cure)

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
                check(self.address, path, response)
                return read_json(self.address, path, response)
            time.sleep(BUSY_PAUSE_S)

    def _request(self, path: str, query: Query, tries: int, **more: Any) -> requests.Response:
        url = f"http://{self.host}:{self.port}{path}"
        while True:
            # A connection kept from the last request may be closing just now: its loss would look like the camera's.
            self._session.close()
            try:
                return self._session.get(url, params=query, timeout=self._timeouts_s, allow_redirects=False, **more)
            except requests.RequestException as error:
                tries -= 1
                # HERO12 can put a line of its log before the status line (gopro/OpenGoPro issue 437).
                lost = isinstance(error, requests.ConnectionError) and not isinstance(error, requests.ConnectTimeout)
                if not (lost and tries):
                    raise _explain(self.address, error) from error
            time.sleep(RETRY_PAUSE_S)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST[:PORT]; raises UsageError."""
    host, colon, port = address.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", host) or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
        raise UsageError(f"{address!r} is no camera's address", cure="give HOST or HOST:PORT")
    return host, int(port) if colon else HTTP_PORT


def missing(address: str) -> DeviceNotFoundError:
    """The error that says that nothing answers there."""
    return DeviceNotFoundError(f"no camera answers at {address}", cure="switch it on, look at its cable and USB mode")


def _explain(address: str, error: requests.RequestException) -> EdencarError:
    reason = error.args[0] if error.args else None
    if isinstance(error, requests.ConnectTimeout) or isinstance(reason, MaxRetryError):
        return missing(address)
    return DeviceError(f"{address} broke off ({type(error).__name__})", cure="look at the camera and its cable")
