"""Device work and long jobs in processes of their own: started, asked, heard and stopped from the server.

A `Worker` is the server's end, a `Link` the worker's. One pipe joins them: requests go down, answers and statuses come
up. The end of the pipe is also the end of the worker: no worker outlives its server.
"""

import faulthandler
import logging
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Concatenate

from rig.errors import DeviceError, EdencarError, NoSpaceError
from rig.files import is_full
from rig.heap import use_one_heap
from rig.offspring import end_with

STOP_GRACE_S = 5.0
FIRST_REPORT_S = 30.0  # from the start: a cold card and a busy processor take their time
SILENCE_S = 5.0  # reports come twice a second; a worker says nothing while it is asked, which is not silence
DEATH_S = 2.0  # for the kernel to take away what was killed, unless a disk holds it
# A fresh interpreter, and not multiprocessing's: that one would load the server's own module again in each worker, and
# forbid workers to have processes of their own. The name is for people who look at the list of processes.
LIFE = "import sys; from rig.workers import live; live(int(sys.argv[1]), int(sys.argv[2]))"

log = logging.getLogger(__name__)
# PR_SET_PDEATHSIG means the thread that started the child, not its process (prctl(2)): a worker started from a thread
# that ends would end with it. So one thread, which lives as long as the process, starts them all.
_starter = ThreadPoolExecutor(1, thread_name_prefix="starter")


@dataclass(frozen=True, slots=True)
class StartCapture:
    """Ask a device worker to record into `folder` (which exists), in one of the modes of `POST /api/start`."""

    folder: Path
    mode: str


@dataclass(frozen=True, slots=True)
class StopCapture:
    """Ask a device worker to stop recording; answered when all that came before is on disk."""


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A request, or its answer."""

    number: int
    body: object


@dataclass(frozen=True, slots=True)
class _Ended:
    error: EdencarError | None


class Link:
    """The worker's end of the pipe. One thread receives; `report` may be called from any thread."""

    def __init__(self, connection: Connection) -> None:
        self.stopping = False
        self._connection = connection
        self._sending = threading.Lock()

    def report(self, status: object) -> None:
        """Tell the server how things are; the newest report is what it knows."""
        self._send(status)

    def serve(
        self,
        handlers: Mapping[type, Callable[[Any], object]],
        status: Callable[[], object],
        interval_s: float = 0.5,
    ) -> None:
        """Answer requests by their type and report `status()` each interval, until the server says stop or is gone.

        An EdencarError that a handler raises becomes the answer and is raised again where the question was asked. Who
        has the answer knows the status after it: that is reported first.
        """
        due = time.monotonic()
        while not self.stopping:
            request = self._receive(max(0.0, due - time.monotonic()))
            answer = request and _Numbered(request.number, _outcome(handlers, request.body))
            try:
                if answer or time.monotonic() >= due:
                    self.report(status())
                    due = time.monotonic() + interval_s
            finally:  # a status may be that the work has failed
                if answer:
                    self._send(answer)

    def check(self) -> None:
        """See whether the server said stop; for work that has no `serve` loop."""
        self._receive(0.0)

    def _receive(self, timeout_s: float) -> _Numbered | None:
        request: _Numbered | None = None  # as the server says stop
        with suppress(EOFError, OSError):
            if not self._connection.poll(timeout_s):
                return None
            request = self._connection.recv()
        self.stopping = self.stopping or request is None
        return request

    def _send(self, message: object) -> None:
        with self._sending, suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(message)


def _outcome(handlers: Mapping[type, Callable[[Any], object]], body: object) -> object:
    try:
        return handlers[type(body)](body)
    except Exception as error:
        return _told(error, "a request failed")


def _told(error: Exception, what: str) -> EdencarError:
    """What the server hears of an error that has been logged."""
    if isinstance(error, EdencarError):
        log.warning("%s", error)
        return error
    log.exception(what)
    if isinstance(error, OSError) and is_full(error):
        return NoSpaceError("the disk is full", cure="delete recordings")
    return EdencarError(f"{type(error).__name__}: {error}")


# A module-level function that does a worker's work until `link.stopping`, or until it is done
Target = Callable[Concatenate[Link, ...], None]


class Worker:
    """One process, with the newest thing it said about itself."""

    def __init__(self, name: str, target: Target, *args: object) -> None:
        self.name = name
        self.args = args  # with which the next process begins
        self.status: Any = None  # the newest report of the process that runs or ran last, None before its first
        self.error: EdencarError | None = None  # what ended the work, when it ended with one
        self.on_end: Callable[[], None] = lambda: None  # called once each time that a process has ended
        self._target = target
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._status_monotonic_s = 0.0
        self._answers: queue.SimpleQueue[_Numbered] = queue.SimpleQueue()
        self._listener: threading.Thread | None = None
        self._asking = threading.Lock()
        self._sending = threading.Lock()
        self._number = 0

    def start(self) -> None:
        """Start the process, or start it again when it has died."""
        ours, theirs = multiprocessing.Pipe()
        self.status, self._status_monotonic_s, self.error = None, time.monotonic(), None
        self._connection = ours
        try:
            self._process = _starter.submit(_launch, self.name, theirs.fileno()).result()
        finally:
            theirs.close()
        with suppress(OSError):  # it is dead already
            ours.send((self.name, self._target, self.args))
        listener = threading.Thread(target=self._listen, args=(ours,), name=f"{self.name} listener", daemon=True)
        listener.start()
        self._listener = listener  # now somebody may wait for it

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """Process number, for the operating system's tools."""
        return None if self._process is None else self._process.pid

    @property
    def status_age_s(self) -> float:
        """Seconds since the newest report, or since the start."""
        return time.monotonic() - self._status_monotonic_s

    @property
    def patience_s(self) -> float:
        """How old the newest report may become before something is wrong, unless it is being asked."""
        return FIRST_REPORT_S if self.status is None else SILENCE_S

    def ask(self, request: object, timeout_s: float) -> Any:
        """Send a request and wait for its answer. One question at a time.

        Raises what the handler raised, or DeviceError when the worker is gone or does not answer in time, whoever else
        has it busy.
        """
        deadline = time.monotonic() + timeout_s
        if not self._asking.acquire(timeout=timeout_s):
            raise self._late
        try:
            self._number += 1
            asked = self._connection
            self._send(_Numbered(self._number, request))
            answer = self._next_answer(asked, deadline)
            while answer.number != self._number:  # late, to a question nobody waits for any more
                answer = self._next_answer(asked, deadline)
        finally:
            self._asking.release()
        if isinstance(answer.body, EdencarError):
            raise answer.body
        return answer.body

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Ask the process to end, then make it; another one that is started meanwhile is left alone."""
        process = self._process
        if process is None:
            return
        with suppress(DeviceError):
            self._send(None)
        for number in (0, signal.SIGTERM, signal.SIGKILL):  # 0: none yet
            process.send_signal(number)
            if _is_over(process, grace_s if number != signal.SIGKILL else DEATH_S):
                break

    def join(self, timeout_s: float | None = None) -> None:
        """Wait until the process has ended and all that it said has been heard."""
        process, listener = self._process, self._listener  # not their successors
        if process is not None and _is_over(process, timeout_s) and listener is not None:
            listener.join(STOP_GRACE_S)

    def _send(self, message: object) -> None:
        try:
            if self._connection is None or not self.alive:
                raise BrokenPipeError
            with self._sending:  # a stop may come while a question is on its way
                self._connection.send(message)
        except OSError as error:
            raise DeviceError(f"{self.name} is not running", cure="it is started again by itself; try again") from error

    def _next_answer(self, asked: Connection | None, deadline: float) -> _Numbered:
        while (left := deadline - time.monotonic()) > 0:
            with suppress(queue.Empty):
                return self._answers.get(timeout=min(left, 0.2))
            heard_all = not self.alive and not (self._listener and self._listener.is_alive())
            if (heard_all or self._connection is not asked) and self._answers.empty():
                raise DeviceError(
                    f"{self.name} ended while it was asked", cure="it is started again by itself; try again"
                )
        raise self._late

    @property
    def _late(self) -> DeviceError:
        return DeviceError(f"{self.name} did not answer in time", cure="look at the device and its cable")

    def _listen(self, connection: Connection) -> None:
        while True:
            try:
                message = connection.recv()
            except (EOFError, OSError):
                connection.close()
                self.on_end()
                return
            if connection is not self._connection:
                continue  # from a process that has been replaced
            if isinstance(message, _Numbered):
                self._answers.put(message)
            elif isinstance(message, _Ended):
                self.error = message.error
            else:
                self.status, self._status_monotonic_s = message, time.monotonic()


def _is_over(process: "subprocess.Popen[bytes]", timeout_s: float | None) -> bool:
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout_s)
    return process.poll() is not None


def _launch(name: str, descriptor: int) -> "subprocess.Popen[bytes]":
    # -P: what lies in the working directory is not a module of ours; sys.path goes down instead.
    command = [sys.executable, "-P", "-c", LIFE, str(descriptor), str(os.getpid()), name]
    # NumPy's matrices are small here: threads of OpenBLAS only take cores from those who record.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, pass_fds=(descriptor,))


def live(descriptor: int, parent: int) -> None:
    """The life of a worker's process; only `Worker.start` begins one."""
    end_with(parent)
    use_one_heap()
    faulthandler.enable()
    # Ctrl-C reaches the whole terminal; the server stops its workers in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(processName)s %(levelname)s %(message)s")
    connection = Connection(descriptor)
    link, reason = Link(connection), None
    try:
        multiprocessing.current_process().name, target, args = connection.recv()
        target(link, *args)
    except Exception as error:
        reason = _told(error, "the work ended by a defect")
    link._send(_Ended(reason))
