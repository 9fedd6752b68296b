"""Long work on recordings, one at a time, each in a process of its own: photos from videos, positions for photos."""

import json
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from configs import Settings
from rig.clock import UtcClock, iso_utc, system_clock
from rig.errors import ConflictError, EdencarError, NoPositionError, UnknownError
from rig.recordings import FETCHING, RECORDING, Recordings
from rig.workers import Link, Target, Worker

PROCESS = "process"  # photos from the videos, then their positions
GEOTAG = "geotag"  # positions for the photos that are there
QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)

KEPT_JOBS = 50
LOOK_S = 0.5  # how often a queued job looks whether the files of its recording have come
STOPPED_S = 2.0  # from the end of a process to its job's last state
NICENESS = 10  # a recording goes first
OOM_SCORE, FIRST_VICTIM = Path("/proc/self/oom_score_adj"), 500  # also when the memory is full
REPORT_INTERVAL_S = 0.2
PHOTOS_SHARE = 0.9  # of the time of `process`; the positions take the rest

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """How a job is. `progress` is 0 to 1, times are ISO 8601 UTC, `result` what the functions say in the end."""

    id: str
    kind: str
    recording: str
    created: str
    state: str = QUEUED
    progress: float = 0.0
    started: str | None = None
    finished: str | None = None
    error: str | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """What a job's process has to do; `every` and `start_utc` as for `parseVideo.py`, no positions: the recording's."""

    kind: str
    folder: Path
    every: str = ""
    positions: tuple[Path, ...] = ()
    start_utc: str = ""


@dataclass(slots=True)
class _Entry:
    job: Job
    task: Task
    worker: Worker
    cancelled: bool = False


class Jobs:
    """The queue of jobs, from its creation until `close`. Safe to use from several threads."""

    def __init__(
        self,
        settings: Settings,
        recordings: Recordings,
        clock: Callable[[], UtcClock] = system_clock,
        target: Target | None = None,
    ) -> None:
        self._settings = settings
        self._recordings = recordings
        self._clock = clock
        self._target = target or run_task
        self._entries: list[_Entry] = []
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Jobs":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def add(
        self, kind: str, recording_id: str, every: str = "", positions: tuple[Path, ...] = (), start_utc: str = ""
    ) -> Job:
        """Queue a job of a kind; the same job that has not ended yet is returned instead of a second one.

        It waits while files of the recording still come from the cameras. Raises UnknownError, or ConflictError while
        the recording runs.
        """
        manifest = self._recordings.get(recording_id)
        if manifest.state == RECORDING:
            raise ConflictError(f"recording {recording_id} still runs", cure="stop it first")
        task = Task(kind, self._recordings.folder(recording_id), every or manifest.every, positions, start_utc)
        with self._changed:
            for entry in self._entries:
                if entry.task == task and entry.job.state not in ENDED:
                    return entry.job
            job = Job(secrets.token_hex(6), kind, recording_id, self._now())
            worker = Worker(f"{kind} {recording_id}", self._target, task, self._settings)
            self._entries.append(_Entry(job, task, worker))
            self._drop_old()
            self._changed.notify_all()
        return job

    def list(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._changed:
            return [_seen(entry) for entry in reversed(self._entries)]

    def get(self, job_id: str) -> Job:
        """One job. Raises UnknownError."""
        with self._changed:
            return _seen(self._find(job_id))

    def cancel(self, job_id: str) -> Job:
        """End a job that has not ended; what it had finished stays. Raises UnknownError."""
        with self._changed:
            entry = self._find(job_id)
            if entry.job.state == QUEUED:
                entry.job = replace(entry.job, state=CANCELLED, finished=self._now())
            entry.cancelled = True
        if entry.job.state == RUNNING:
            entry.worker.stop()
            with self._changed:
                self._changed.wait_for(lambda: entry.job.state in ENDED, timeout=STOPPED_S)
        return _seen(entry)

    def is_busy(self, recording_id: str) -> bool:
        """Whether a job of this recording runs or waits."""
        with self._changed:
            return any(entry.job.recording == recording_id and entry.job.state not in ENDED for entry in self._entries)

    def close(self) -> None:
        """Cancel all jobs and end the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            running = [entry for entry in self._entries if entry.job.state == RUNNING]
        for entry in running:
            entry.cancelled = True
            entry.worker.stop()
        self._thread.join()

    def _now(self) -> str:
        return iso_utc(self._clock().utc_ns())

    def _find(self, job_id: str) -> _Entry:
        for entry in self._entries:
            if entry.job.id == job_id:
                return entry
        raise UnknownError(f"there is no job {job_id[:40]!r}", cure="see the list of jobs")

    def _drop_old(self) -> None:
        ended = [entry for entry in self._entries if entry.job.state in ENDED]
        for entry in ended[: max(0, len(self._entries) - KEPT_JOBS)]:
            self._entries.remove(entry)

    def _work(self) -> None:
        while (entry := self._next()) is not None:
            entry.worker.join()
            with self._changed:
                entry.job = replace(_ended(entry), finished=self._now())
                self._changed.notify_all()
            log.info("%s: %s", entry.worker.name, entry.job.error or entry.job.state)

    def _next(self) -> _Entry | None:
        """Start the first job that can be done; None in the end."""
        with self._changed:
            while not self._closing:
                for entry in self._entries:
                    if entry.job.state == QUEUED and not self._waits(entry.job.recording) and self._start(entry):
                        return entry
                self._changed.wait(LOOK_S)
        return None

    def _start(self, entry: _Entry) -> bool:
        try:
            entry.worker.start()
        except OSError as error:
            entry.job = replace(entry.job, state=FAILED, finished=self._now(), error=f"no process ({error})")
            return False
        entry.job = replace(entry.job, state=RUNNING, started=self._now())
        return True

    def _waits(self, recording_id: str) -> bool:
        with suppress(UnknownError):  # in the trash: its job will say what is missing
            return self._recordings.get(recording_id).state == FETCHING
        return False


def run_task(link: Link, task: Task, settings: Settings) -> None:
    """Do a job in a worker's process; reports its progress (a float, 0 to 1) and, last, what came of it (a dict)."""
    with suppress(OSError):
        os.nice(NICENESS)
        OOM_SCORE.write_text(f"{FIRST_VICTIM}\n", encoding="ascii")
    # They import OpenCV, PyAV and pandas, which the server's own process shall not carry.
    from rig.photo import making, placing

    result: dict[str, Any] = {}
    tell = _teller(link, 0.0, 1.0)
    if task.kind == PROCESS:
        tell_first, tell = _teller(link, 0.0, PHOTOS_SHARE), _teller(link, PHOTOS_SHARE, 1.0)
        wanted = making.Wish.of(settings, task.every, task.start_utc)
        result["video"] = asdict(making.parse_videos([task.folder], task.folder, settings, wanted, tell_first))
    try:
        wish = placing.Wish(formats=placing.formats_of(settings), positions=tuple(task.positions))
        result["positions"] = asdict(placing.associate(task.folder, settings, wish, tell))
    except NoPositionError as error:
        if task.kind == GEOTAG:
            raise
        result["warning"] = str(error)  # photos without positions are still photos
    link.report(json.loads(json.dumps(result, default=str)))


def _teller(link: Link, begin: float, end: float) -> Callable[[float], None]:
    """Turn the progress of one step into that of the job; ends the process when the server says stop."""
    told_s = 0.0

    def tell(share: float) -> None:
        nonlocal told_s
        link.check()
        if link.stopping:
            raise SystemExit
        if time.monotonic() - told_s > REPORT_INTERVAL_S:
            told_s = time.monotonic()
            link.report(begin + (end - begin) * min(1.0, max(0.0, share)))

    return tell


def _seen(entry: _Entry) -> Job:
    said = entry.worker.status
    if entry.job.state == RUNNING and isinstance(said, float):
        return replace(entry.job, progress=round(said, 3))
    return entry.job


def _ended(entry: _Entry) -> Job:
    job, said, error = _seen(entry), entry.worker.status, entry.worker.error
    if isinstance(said, dict):
        return replace(job, state=DONE, progress=1.0, result=said)
    if entry.cancelled:
        return replace(job, state=CANCELLED)
    why = error or EdencarError(
        "the process was killed", cure="try again; if it happens again, the memory is too small"
    )
    return replace(job, state=FAILED, error=str(why))
