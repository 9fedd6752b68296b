"""Which clock a video has, from the best that is there: codes, arrivals, the file's GPS, a given start.

And `calibration.json`, which says so for each camera.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from configs import Settings
from rig.camera.camerabook import Delay, load_delays, store_delays
from rig.clock import DAY_NS, NS_PER_MS, NS_PER_S, SIGMAS_IN_99_PERCENT, ClockCurve, iso_utc, parse_utc
from rig.errors import NoCalibrationError, UnreadableError, UsageError
from rig.footage.video import STREAM_SUFFIX, Clip, Video
from rig.gnss import gpmf
from rig.recordings import MANIFEST, Manifest
from rig.timing import arrival, cameraclock, codefilm, codelog, rates, timeline
from rig.timing.cameraclock import CameraClock
from rig.timing.codefilm import CodeFilm, Window
from rig.timing.codelog import CodeLog, holder, read_logs
from rig.timing.interval import Observation
from rig.timing.led import display_latency
from rig.timing.timeline import Near, Terms

HOUR_NS = DAY_NS // 24
LOG_MARGIN_NS = 2 * NS_PER_S  # around the time in which the page was open
ROUGH_MARGIN_NS = 3 * NS_PER_S  # a stream's arrival dates it that well, before any code is read
RECORDING_MARGIN_NS = 300 * NS_PER_S  # a code of this recording lies within, when its clock is right
LONGEST_DELAY_NS, SHORTEST_DELAY_NS = 3 * NS_PER_S, -NS_PER_S // 5  # of a stream, with the clocks' errors
MOST_DRIFT = 150e-6  # of a camera's clock against the Pi's
FROM_LOCAL_NS = -14 * HOUR_NS - HOUR_NS // 4, 12 * HOUR_NS + HOUR_NS // 4  # UTC minus a camera's date, in any zone
FIRST_TRUE_NS = parse_utc("2017-01-01T00:00:00Z")  # a camera whose battery was empty begins with 2016
RATE_SPAN_NS = 600 * NS_PER_S  # films of the code this far apart tell the rate of a camera
TOLD_READ_OUT_ERROR = 0.05  # of the read-out time in a file (SROT), which is one value for all modes of a camera
DOUBT = "doubted_clock"  # of the constants: codes of a clock that nobody vouches for
NAME = "calibration.json"


@dataclass(frozen=True, slots=True)
class Context:
    """What a recording's folder knows beside its videos; empty for files from anywhere."""

    manifest: Manifest | None = None
    positions: Path | None = None
    logs: tuple[CodeLog, ...] = ()

    @staticmethod
    def of(folder: Path) -> "Context":
        """Of a recording's folder. Raises UnreadableError when its manifest is damaged."""
        manifest = folder / MANIFEST
        positions = folder / "positions" / "positions.csv"
        return Context(
            Manifest.from_json(manifest.read_bytes()) if manifest.exists() else None,
            positions if positions.exists() else None,
            tuple(read_logs(folder)),
        )

    def serial(self, camera: str) -> str | None:
        """The serial number of the camera whose files lie in that folder."""
        cameras = self.manifest.cameras if self.manifest else ()
        return next((item.serial for item in cameras if item.folder == camera), None)


def camera_clock(item: Video, context: Context, settings: Settings) -> CameraClock:
    """The clock of one video by what was filmed, else by how it arrived, else by its own GPS.

    Raises NoCalibrationError when none of these says anything.
    """
    context, true_times = _corrected(context, settings)
    film = _read(item, context, settings)
    film = replace(film, observations=[_in_true_time(o, true_times) for o in film.observations])
    try:
        clock = timeline.calibrate(
            film.observations,
            _with_read_out(terms(settings, context), item),
            _near(item, context),
            logs=context.logs,
            sightings=film.sightings,
        )
    except NoCalibrationError as error:
        other = _by_arrival(item, context, settings) or _by_gpmf(item, settings)
        if other is None:
            raise NoCalibrationError(f"{item.name}: {error.message}", cure=error.cure) from error
        return replace(other, warnings=(*other.warnings, error.message))
    return _with_rate(_doubted(clock, item, film, context), item, context, settings)


def _corrected(context: Context, settings: Settings) -> tuple[Context, dict[int, int]]:
    """With logs as of a Pi that knew the time from the start, and the true times of codes that held others."""
    receiver = _receiver_clock(context, settings) if context.logs else None
    if receiver is None:
        return context, {}
    logs, true_times = codelog.corrected(context.logs, receiver)
    return replace(context, logs=logs), true_times


def _in_true_time(o: Observation, true_times: Mapping[int, int]) -> Observation:
    return replace(o, code=replace(o.code, utc_ns=true_times.get(o.code.utc_ns, o.code.utc_ns)))


def terms(settings: Settings, context: Context) -> Terms:
    """What a film does not show; of the Pi's clock the recording's manifest tells the error, of the page its log."""
    manifest = context.manifest
    sigma_ns = manifest.clock.sigma_ns if manifest and manifest.clock else 0
    return Terms.of(
        settings,
        display_latency(settings, (log.user_agent for log in context.logs)),
        clock_error_ns=round(SIGMAS_IN_99_PERCENT * sigma_ns),
        page_bound_ns=max((log.offset_bound_ns for log in context.logs), default=0),
    )


def _with_read_out(usual: Terms, item: Video) -> Terms:
    """The read-out time that the file itself tells; streams and most cameras' files tell none."""
    read_out_ms = gpmf.read_camera(item.clips[0].path).read_out_ms
    if read_out_ms is None:
        return usual
    read_out_ns = round(read_out_ms * NS_PER_MS)
    return replace(usual, read_out_ns=read_out_ns, read_out_error_ns=round(TOLD_READ_OUT_ERROR * read_out_ns))


# --- where to look ----------------------------------------------------------------------------------------------------


def _read(item: Video, context: Context, settings: Settings) -> CodeFilm:
    """The codes of the windows in which the page was open; without a log of both ends, then of wherever there are."""
    margin_ns = round(settings.code_window_s * NS_PER_S)
    film = CodeFilm()
    rough_ns = _rough_offset_ns(item, context)
    if rough_ns is not None:
        windows = _open_windows(item, context.logs, rough_ns, LOG_MARGIN_NS + ROUGH_MARGIN_NS, margin_ns)
        film = codefilm.read_windows(item, windows)
    if film.observations:
        return film
    ends = [(item.first_ns, item.first_ns + margin_ns), (item.last_ns - margin_ns, item.last_ns)]
    film = codefilm.read_windows(item, ends)
    if film.observations:
        offset_ns = round(float(np.median([o.offset_ns for o in film.observations])))
        windows = _open_windows(item, context.logs, offset_ns, LOG_MARGIN_NS, margin_ns)
        more = codefilm.read_windows(item, windows, done=ends)
        return CodeFilm(film.observations + more.observations, film.sightings + more.sightings)
    if item.last_ns - item.first_ns > 2 * margin_ns:
        return codefilm.read_windows(item, codefilm.read_key_frames(item))
    return film


def _rough_offset_ns(item: Video, context: Context) -> int | None:
    """UTC minus PTS of a stream by its arrival, within its delay."""
    if item.arrival_offset_ns is None or context.manifest is None or context.manifest.clock is None:
        return None
    return item.arrival_offset_ns + context.manifest.clock.offset_ns


def _open_windows(
    item: Video, logs: Iterable[CodeLog], offset_ns: int, margin_ns: int, longest_ns: int
) -> list[Window]:
    """When the page was open, on the video's clock; of a long time only the beginning and the end."""
    windows = []
    for begin, end in (span for log in logs for span in log.spans()):
        first = max(begin - offset_ns - margin_ns, item.first_ns)
        last = min(end - offset_ns + margin_ns, item.last_ns)
        if last - first > 2 * longest_ns:
            windows += [(first, first + longest_ns), (last - longest_ns, last)]
        elif last > first:
            windows.append((first, last))
    return windows


def _near(item: Video, context: Context) -> Near | None:
    """Where a code of this video must lie; None when nobody knows when it was made."""
    manifest = context.manifest
    if manifest is None:
        made_ns = _made_ns(item.clips[0].path)
        if made_ns is None:
            return None
        low, high = (made_ns + away - item.first_ns for away in FROM_LOCAL_NS)
        return Near(low, high)
    near = _by_recording(item, context, manifest)
    if manifest.clock is not None and manifest.clock.source == "gnss":
        return near
    return Near(near.low_ns - DAY_NS, near.high_ns + DAY_NS)


def _by_recording(item: Video, context: Context, manifest: Manifest) -> Near:
    """Between which offsets the video's clock lies when that of the recording was right."""
    rough_ns = _rough_offset_ns(item, context)
    if rough_ns is not None:
        drift_ns = round((item.last_ns - item.first_ns) * MOST_DRIFT)
        return Near(rough_ns - LONGEST_DELAY_NS - drift_ns, rough_ns - SHORTEST_DELAY_NS + drift_ns, sure=True)
    started_ns = parse_utc(manifest.started)
    stopped_ns = parse_utc(manifest.stopped) if manifest.stopped else started_ns + DAY_NS
    low, high = started_ns - item.first_ns, stopped_ns - item.last_ns
    return Near(min(low, high) - RECORDING_MARGIN_NS, max(low, high) + RECORDING_MARGIN_NS, sure=True)


def _doubted(clock: CameraClock, item: Video, film: CodeFilm, context: Context) -> CameraClock:
    """A clock whose codes no page of the recording drew, and which is not that of a Pi without a receiver either.

    One of both is wrong, and nothing says which: a phone's own clock is good, a code of another video is not.
    """
    if context.manifest is None or any(holder(context.logs, o.code.utc_ns) for o in film.observations):
        return clock
    near = _by_recording(item, context, context.manifest)
    offset_ns = int(clock.utc_ns(item.first_ns)) - item.first_ns
    away_ns = max(near.low_ns - offset_ns, offset_ns - near.high_ns, 0)
    if not away_ns:
        return clock
    text = (
        f"the codes are {away_ns / NS_PER_S:.0f} s away from the Pi's own clock, and no page of the recording drew "
        "them: their time, or the Pi's, is wrong by as much"
    )
    constants = (*clock.constants, (DOUBT, away_ns + near.high_ns - near.low_ns))
    return replace(clock, constants=constants, warnings=(*clock.warnings, text))


def _made_ns(path: Path) -> int | None:
    """When the camera says that it made a file; it often means local time."""
    try:
        with av.open(str(path)) as container:
            stamp = parse_utc(container.metadata["creation_time"])
    except (KeyError, ValueError, OSError, av.error.FFmpegError):
        return None
    return stamp if stamp >= FIRST_TRUE_NS else None


# --- between and beyond the films of the code -------------------------------------------------------------------------


def _with_rate(clock: CameraClock, item: Video, context: Context, settings: Settings) -> CameraClock:
    """A clock whose films are all at one place, with what else tells how it went on from there."""
    if clock.anchors[-1].pts_ns - clock.anchors[0].pts_ns > RATE_SPAN_NS:
        return clock
    bent = arrival.bent(clock, item, _receiver_clock(context, settings), settings.monotonic_rate_error_ppm)
    if bent is not clock:
        return bent
    candidates = [(clock.rate_error_ppm, clock.rate_ppm)]
    known_ppm = rates.load(settings.output).get(context.serial(item.camera) or "")
    if known_ppm is not None:
        candidates.append((settings.stored_rate_error_ppm, known_ppm))
    line = gps_line(item)
    if line is not None:
        candidates.append((SIGMAS_IN_99_PERCENT * line.rate_sigma_ppm, line.rate_ppm))
    error_ppm, rate_ppm = min(candidates, key=itemgetter(0))
    return replace(clock, rate_ppm=rate_ppm, rate_error_ppm=error_ppm)


def _receiver_clock(context: Context, settings: Settings) -> ClockCurve | None:
    if context.positions is None:
        return None
    latency_ms, error_ms = settings.receiver_latency_ms, settings.receiver_latency_error_ms
    return arrival.receiver_clock(context.positions, round(latency_ms * NS_PER_MS), round(error_ms * NS_PER_MS))


def gps_line(item: Video) -> gpmf.ClockLine | None:
    """The clock of the files' own GPS against the video's; None without one."""
    clocks = ((clip.clock_offset_ns, telemetry.clock()) for clip, telemetry in telemetries(item))
    return gpmf.clock_line([(pts_ns + offset_ns, utc_ns) for offset_ns, clock in clocks for pts_ns, utc_ns in clock])


def telemetries(item: Video) -> Iterator[tuple[Clip, gpmf.Telemetry]]:
    """What the files of a card tell beside their pictures; streams, and the films of some cameras, tell nothing."""
    for clip in item.clips:
        if clip.path.suffix.lower() != STREAM_SUFFIX:
            with suppress(UnreadableError):
                yield clip, gpmf.Telemetry(clip.path)


def _by_gpmf(item: Video, settings: Settings) -> CameraClock | None:
    line = gps_line(item)
    if line is None:
        return None
    error_ns = round(SIGMAS_IN_99_PERCENT * line.scatter_ns)
    clock = cameraclock.given(line.pts_ns, line.utc_ns, error_ns, SIGMAS_IN_99_PERCENT * line.rate_sigma_ppm, "gpmf")
    constants = (("gps_label", round(settings.gpmf_error_ms * NS_PER_MS)),)
    return replace(clock, rate_ppm=line.rate_ppm, constants=constants)


def _by_arrival(item: Video, context: Context, settings: Settings) -> CameraClock | None:
    """A stream without any code: when it came, less the delay that this camera is known or assumed to have."""
    receiver = _receiver_clock(context, settings)
    came_ns = _came_ns(item, context, receiver)
    if came_ns is None:
        return None
    measured = load_delays(settings.output).get(context.serial(item.camera) or "")
    delay_ms, error_ms = settings.arrival_delay_ms, settings.arrival_delay_error_ms
    if measured is not None:
        delay_ms, error_ms = measured.delay_ms, SIGMAS_IN_99_PERCENT * measured.sigma_ms
    utc_ns = came_ns - round(delay_ms * NS_PER_MS)
    clock = cameraclock.given(item.first_ns, utc_ns, 0, settings.unknown_camera_rate_ppm, "arrival")
    link_ms = 0.0 if measured is None else settings.arrival_link_error_ms  # its delay is another after each start
    constants = (
        ("stream_delay", round(error_ms * NS_PER_MS)),
        ("arrival_link", round(link_ms * NS_PER_MS)),
        ("clock", terms(settings, context).clock_error_ns),
    )
    clock = replace(clock, constants=constants)
    bent = arrival.bent(clock, item, receiver, settings.monotonic_rate_error_ppm)
    return replace(bent, source="arrival")


def _came_ns(item: Video, context: Context, receiver: ClockCurve | None) -> int | None:
    """UTC at which the first picture of a stream came, had it been a fast one; None when nothing tells.

    The manifest's clock is of one instant of the drive, from which this machine's own drifts by 70 ms an hour.
    """
    if item.arrival_offset_ns is not None and receiver is not None:
        return int(receiver.utc_ns(np.array([item.first_ns + item.arrival_offset_ns], dtype=np.int64))[0])
    offset_ns = _rough_offset_ns(item, context)
    return None if offset_ns is None else item.first_ns + offset_ns


def learn(found: Iterable[tuple[Video, CameraClock]], context: Context, settings: Settings) -> None:
    """Keep the rates and delays that these videos told for later videos of the same cameras."""
    learned: dict[str, float] = {}
    delays: dict[str, Delay] = {}
    receiver = _receiver_clock(context, settings)
    for item, clock in found:
        serial = context.serial(item.camera)
        if serial is None or clock.source not in ("qr", "qr+arrival") or not clock.anchors[0].codes:
            continue
        if DOUBT in dict(clock.constants):
            continue
        is_long = clock.anchors[-1].pts_ns - clock.anchors[0].pts_ns > RATE_SPAN_NS
        if is_long and clock.rate_error_ppm <= settings.stored_rate_error_ppm and clock.source == "qr":
            learned[serial] = clock.rate_ppm
        if (delay := _delay(item, clock, _came_ns(item, context, receiver))) is not None:
            delays[serial] = delay
    rates.learn(settings.output, learned)
    if delays and settings.output.is_dir():
        store_delays(settings.output, delays)


def _delay(item: Video, clock: CameraClock, came_ns: int | None) -> Delay | None:
    if came_ns is None:
        return None
    at = np.array([item.first_ns], dtype=np.int64)
    utc_ns = int(clock.utc_ns(at)[0])
    return Delay(
        delay_ms=round((came_ns - utc_ns) / NS_PER_MS, 3),
        sigma_ms=round(int(clock.error_ns(at)[0]) / NS_PER_MS / SIGMAS_IN_99_PERCENT, 3),
        codes=sum(anchor.codes for anchor in clock.anchors),
        measured=iso_utc(utc_ns),
    )


def linked(
    item: Video, found: Iterable[tuple[Video, CameraClock]], context: Context, settings: Settings
) -> CameraClock | None:
    """The clock of a stream that was started anew: when it came, less the delay that the same camera's other run had.

    Its PTS begin anew, so what that run tells of the camera's own clock does not reach over the time between.
    """
    receiver = _receiver_clock(context, settings)
    runs = [one for one in found if one[0].camera == item.camera and one[0].arrival_offset_ns is not None]
    links = [_link(item, *run, receiver, settings) for run in runs if item.arrival_offset_ns is not None]
    if not links:
        return None
    begin = np.array([item.first_ns], dtype=np.int64)
    best = min(links, key=lambda clock: int(clock.error_ns(begin)[0]))
    return arrival.bent(best, item, receiver, settings.monotonic_rate_error_ppm)


def _link(
    item: Video, other: Video, clock: CameraClock, receiver: ClockCurve | None, settings: Settings
) -> CameraClock:
    """The clock of a stream by when its first picture came after that of another run, whose clock is known."""
    came = np.array([run.first_ns + (run.arrival_offset_ns or 0) for run in (other, item)], dtype=np.int64)
    before_ns, after_ns = (came if receiver is None else receiver.utc_ns(came)).tolist()
    passed_ns = after_ns - before_ns
    rate_error_ppm = settings.monotonic_rate_error_ppm if receiver is None else 0.0
    begin = np.array([other.first_ns], dtype=np.int64)
    utc_ns, error_ns = int(clock.utc_ns(begin)[0]), int(clock.error_ns(begin, constants=False)[0])
    own = cameraclock.given(item.first_ns, utc_ns + passed_ns, error_ns, settings.unknown_camera_rate_ppm, "qr+arrival")
    constants = (
        ("arrival_link", round(settings.arrival_link_error_ms * NS_PER_MS)),
        ("time_between", round(abs(passed_ns) * rate_error_ppm * 1e-6)),
    )
    return replace(own, constants=(*clock.constants, *constants))


# --- what somebody says -----------------------------------------------------------------------------------------------


def given_start(item: Video, text: str, settings: Settings) -> CameraClock:
    """The clock of a video whose first frame was taken at an ISO time, good to its last digit. Raises UsageError."""
    try:
        utc_ns = parse_utc(text)
    except ValueError as error:
        raise UsageError(
            f"--start-utc {text!r} is no time", cure="say for instance 2026-11-22T14:03:12.345Z"
        ) from error
    fraction = re.search(r"\.(\d+)", text)
    error_ns = NS_PER_S // 2 // 10 ** (len(fraction[1]) if fraction else 0)
    return cameraclock.given(item.first_ns, utc_ns, error_ns, settings.unknown_camera_rate_ppm)


def stored(item: Video, file: Path) -> CameraClock:
    """The clock that a `calibration.json` has for a video. Raises UnreadableError or NoCalibrationError."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UnreadableError(f"{file} cannot be read ({error})", cure="leave out --calibration") from error
    entry = entry_of(item, values) if isinstance(values, dict) else None
    if entry is None:
        raise NoCalibrationError(f"{file} says nothing of {item.camera}", cure="leave out --calibration")
    return cameraclock.from_json(entry)


def table(clocks: Sequence[tuple[Video, CameraClock]], logs: Sequence[CodeLog]) -> dict[str, Any]:
    """`calibration.json`: by camera; further videos of a camera as `camera/file`."""
    pages = [
        {"page": log.page, "user_agent": log.user_agent, "offset_bound_ms": log.offset_bound_ns / NS_PER_MS}
        for log in logs
    ]
    values: dict[str, Any] = {}
    for item, clock in clocks:
        key = item.camera if item.camera not in values else _key_with_file(item)
        values[key] = {"video": item.name, **cameraclock.to_json(clock, item.first_ns, item.last_ns), "pages": pages}
    return values


def entry_of(item: Video, values: Mapping[str, Any]) -> Any:
    """What the object in a `calibration.json` says of a video; None when nothing."""
    return values.get(_key_with_file(item), values.get(item.camera))


def _key_with_file(item: Video) -> str:
    return f"{item.camera}/{item.name}"
