"""What the crew must know now: values without any device behind them, and the problems that follow from them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

IDLE, STARTING, RECORDING, DEGRADED, STOPPING = "idle", "starting", "recording", "degraded", "stopping"
CAPTURING = ("streaming", "recording")  # the states of a camera that does what it should
LITTLE_ROOM_S, VERY_LITTLE_ROOM_S = 1800, 600
LOW_BATTERY_PERCENT = 10
OLD_CORRECTIONS_S = 10.0  # normal is 1 to 2 s
ERROR, WARNING, INFO = "error", "warning", "info"
TOO_HOT = "the camera is too hot: give it shade and air"
NO_PICTURE, SILENT_RECEIVER = "no picture has come", "nothing comes from the receiver"
NO_DATE, OLD_DATE = "the receiver sends no date", "the receiver's date cannot be"
FEW_POSITIONS, NO_LOG = "too few positions come from the receiver", "positions cannot be written"
COMPLAINTS = {  # what devices say of themselves that is a problem of its own, by how it begins
    "camera_hot": TOO_HOT.partition(":")[0],
    "few_positions": FEW_POSITIONS,
    "no_date": NO_DATE,
    "no_log": NO_LOG,
    "no_pictures": NO_PICTURE,
    "old_date": OLD_DATE,
    "silent_receiver": SILENT_RECEIVER,
}
LOOK_AT_CAMERA = "Look at its screen; if this stays, switch it off and on"
LOOK_AT_RECEIVER = "Look at its cable and its settings"
TO_BE_NOTED = {  # what a recording's log holds of the problems met meanwhile
    "battery",
    "camera",
    "card",
    "little_room",
    "machine",
    "no_fix",
    "no_receiver",
    "old_corrections",
    "receiver",
    "receiver_lost",
    "time_unsure",
    *COMPLAINTS,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What the crew must know; `level` is error, warning or info,
    `subject` the device or recording it is about."""

    code: str
    level: str
    text: str
    cure: str = ""
    subject: str = ""

    @property
    def kind(self) -> str:
        """The same for the same problem a moment later, when its numbers have changed."""
        return re.sub(r"[\d.]+", "#", f"{self.code} {self.text}") + f" {self.subject}"


@dataclass(frozen=True, slots=True)
class RecordingNow:
    """The recording that runs; `photos` made so far, in mode photos."""

    id: str
    name: str
    mode: str
    started: str
    elapsed_s: float
    photos: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationNow:
    """What a camera's stream shows of the time code; `state` is searching, reading or done.

    `error_ms` is the half-width that the film of the code leaves open, the display's own delay apart. `text` says all
    of it in words, `hint` what to do when no code is read; `problem` is the name of that hint.
    """

    state: str
    codes: int
    error_ms: float | None
    text: str
    hint: str
    done: bool
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraNow:
    """One camera; None is what nobody knows.

    `state` is what its worker says (idle, streaming, recording, fetching or lost), connecting, or starting: told to
    record, has not yet. `records` says that it is part of the recording that runs, `trouble` why it does not do it,
    `problems` what the camera itself complains of. `delay_ms` is from the middle of the exposure until the picture's
    first bytes are here.
    """

    serial: str
    label: str | None = None
    model: str
    address: str
    state: str
    battery_percent: int | None = None
    card_seconds_left: int | None = None
    fps: float | None = None
    lost_datagrams: int = 0
    delay_ms: float | None = None
    fetched_bytes: int = 0
    fetch_total_bytes: int = 0
    calibration: CalibrationNow | None = None
    records: bool = False
    card_problem: str | None = None
    trouble: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverNow:
    """How the receiver is now; None is what it did not say.

    `quality` is in words, `state` is searching, listening or lost, `sigma_m` is horizontal, one sigma, `cn0_dbhz` the
    median of the satellites that are heard, `heading_deg` that of a receiver with two antennas. `rate_asked_hz` is what
    the crew expects, 0 for any.
    """

    port: str | None = None
    state: str = "searching"
    quality: str = "none"
    fix_age_s: float | None = None
    correction_age_s: float | None = None
    satellites: int | None = None
    satellites_in_view: int | None = None
    cn0_dbhz: float | None = None
    hdop: float | None = None
    sigma_m: float | None = None
    rate_hz: float | None = None
    rate_asked_hz: float = 0.0
    latitude: float | None = None
    longitude: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TimeNow:
    """What the time is worth; `source` is gnss or system."""

    utc: str
    source: str
    sigma_ms: float


@dataclass(frozen=True, slots=True)
class StorageNow:
    """Room on the disk, in bytes and in seconds of recording with the cameras that are there."""

    bytes_free: int
    seconds_left: int


@dataclass(frozen=True, slots=True)
class CarStatus:
    """Everything the crew must know now; `state` is idle, starting, recording, degraded or stopping.

    `calibrating` says that somebody asked for the streams to be watched for codes.
    """

    state: str
    calibrating: bool
    recording: RecordingNow | None
    cameras: tuple[CameraNow, ...]
    receiver: ReceiverNow
    time: TimeNow
    storage: StorageNow
    problems: tuple[Problem, ...]


def camera_problems(cameras: Sequence[CameraNow], recording: bool) -> Iterator[Problem]:
    """What is wrong with the cameras."""
    if not cameras:  # while a recording runs, someone has allowed that
        level = WARNING if recording else ERROR
        yield Problem("no_camera", level, "No camera answers", "Switch the cameras on and check their USB cables")
    for camera in cameras:
        name = f"Camera {camera.label or camera.serial}"
        why = f" ({camera.trouble})" if camera.trouble else ""
        if camera.state == "lost":
            text = f"Camera {camera.serial} does not answer{why}"
            cure = "Check its cable; if it does not come back, take its battery out for a moment"
            yield Problem("camera_lost", WARNING if recording > camera.records else ERROR, text, cure, camera.serial)
            continue  # all else follows from that
        if camera.records and camera.state not in CAPTURING:
            text = f"Camera {camera.serial} does not record{why}"
            yield Problem("camera_not_recording", ERROR, text, "It is told again by itself", camera.serial)
        if camera.card_problem:
            yield Problem("card", WARNING, f"{name}: {camera.card_problem}", "Change or format its card", camera.serial)
        if camera.battery_percent is not None and camera.battery_percent <= LOW_BATTERY_PERCENT:
            text = f"{name}: the battery is at {camera.battery_percent} %"
            yield Problem("battery", WARNING, text, "Give it power by USB, or another battery", camera.serial)
        for sentence in camera.problems:
            yield complaint("camera", sentence, LOOK_AT_CAMERA, f"{name}: ", camera.serial)


def receiver_problems(receiver: ReceiverNow, recording: bool) -> Iterator[Problem]:
    """What is wrong with the receiver."""
    level = ERROR if recording else WARNING
    if receiver.state != "listening":
        why = "".join(f" ({sentence})" for sentence in receiver.problems[:1])
        if receiver.state == "lost":
            text, cure = f"The receiver does not answer any more{why}", "Check its cable"
            yield Problem("receiver_lost", level, text, cure)
        else:
            yield Problem("no_receiver", level, f"No receiver is found{why}", "Plug it in by USB and switch it on")
        return
    if receiver.latitude is None:
        yield Problem("no_fix", WARNING, "The receiver has no position", "Wait under open sky")
    elif receiver.correction_age_s is not None and receiver.correction_age_s > OLD_CORRECTIONS_S:
        text = f"The corrections are {receiver.correction_age_s:.0f} s old"
        yield Problem("old_corrections", WARNING, text, "Check where the corrections come from")
    for sentence in receiver.problems:
        yield complaint("receiver", sentence, LOOK_AT_RECEIVER)


def complaint(code: str, sentence: str, usual_cure: str, about: str = "", subject: str = "") -> Problem:
    """What a device says of itself, as errors are printed: what is wrong, then after a colon what to do."""
    text, _, cure = sentence.partition(": ")
    own = next((known for known, begin in COMPLAINTS.items() if text.startswith(begin)), code)
    return Problem(own, WARNING, about + text, cure[:1].upper() + cure[1:] or usual_cure, subject)


def interruption(recording_id: str) -> Problem:
    """A recording that ended with the server, which nobody had asked for."""
    text = f"Recording {recording_id} was interrupted: the server ended"
    return Problem("interrupted", ERROR, text, "Start anew; what came until then is kept", recording_id)


def continuation(recording_id: str, successor_id: str) -> Problem:
    """A recording that ended with the server and goes on as another one."""
    text = f"Recording {recording_id} was interrupted and goes on as {successor_id}"
    cure = "Nothing is to be done; what lies between the two is missing"
    return Problem("continued", WARNING, text, cure, successor_id)


def disk_failed(recording_id: str) -> Problem:
    """A recording that was stopped because its disk takes nothing any more."""
    text = f"Recording {recording_id} was stopped: the disk cannot be written"
    return Problem("disk_failed", ERROR, text, "Look at the disk and its cable, then start anew", recording_id)


def disk_full(recording_id: str) -> Problem:
    """A recording that was stopped because the room that is left is needed to close it."""
    text = f"Recording {recording_id} was stopped: the disk is full"
    return Problem("disk_full", ERROR, text, "Delete recordings or change the disk, then start anew", recording_id)


def other_problems(time: TimeNow, storage: StorageNow, fetching: Sequence[str]) -> Iterator[Problem]:
    """What is wrong with the time and the disk; `fetching` are recordings whose files are still on the cards."""
    if time.source == "system":
        text = "The time is the Pi's own, not the receiver's"
        yield Problem("time_unsure", WARNING, text, "Wait until the receiver has had a position for a few seconds")
    if storage.seconds_left < LITTLE_ROOM_S:
        level = ERROR if storage.seconds_left < VERY_LITTLE_ROOM_S else WARNING
        text = f"Room for {storage.seconds_left // 60} minutes is left"
        yield Problem("little_room", level, text, "Delete recordings or change the disk")
    for recording_id in fetching:
        text = f"Files of recording {recording_id} are coming from the cards"
        yield Problem("fetching", INFO, text, "Leave the cameras on and plugged in", recording_id)
