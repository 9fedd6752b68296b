"""Many recordings on many processes: of this machine, or of a Dask cluster. One way through for both."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any

from rig.cluster import tasks
from rig.cluster.planning import Order
from rig.cluster.steps import Plan
from rig.cluster.tasks import Failure, Prepared, Summary
from rig.errors import DeviceError, DeviceNotFoundError, UsageError
from rig.offspring import killed_by_ctrl_c, serve

TRIES = 3  # of a step that fails without saying why, or whose process dies
AHEAD = 2  # recordings under way for each process: their plans are in this process's memory
CONNECT_S = 10.0  # to a scheduler, also to one that is away for a while
WORKERS_S = 60.0  # until a scheduler has its first worker
LOOK_S = 2.0
LOCAL, DASK = "local", "dask://"

Work = partial[Any]

log = logging.getLogger(__name__)


class LocalPool:
    """Processes of this machine; Ctrl-C lets them end the step that they are at, a second one does not.

    Each has a thread that gives it one step at a time: so it is known of which step a process died, and that one alone
    is done again, in a fresh process. The kernel ends a process with the thread that started it (rig/offspring.py):
    these threads live as long as the pool.
    """

    def __init__(self, jobs: int) -> None:
        self.width = jobs
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of these processes: the cores have their work
        self._own = threading.local()  # of each thread: its `process`
        self._processes: list[ProcessPoolExecutor] = []
        self._left: set[Future[Any]] = set()
        self._is_ending = False
        self._threads = ThreadPoolExecutor(jobs)

    def submit(self, work: Work) -> Future[Any]:
        """Begin, sooner or later."""
        future = self._threads.submit(self._do, work)
        self._left.add(future)
        future.add_done_callback(self._left.discard)
        return future

    def check(self) -> None:
        """Processes of this machine are replaced when they die."""

    def close(self) -> None:
        """Drop what has not begun, await the rest."""
        self._is_ending = True
        with killed_by_ctrl_c():
            if self._left:
                log.warning("ending what is under way: Ctrl-C again does not wait for it")
            self._threads.shutdown(cancel_futures=True)
            for process in self._processes:
                process.shutdown()

    def _do(self, work: Work) -> Any:
        deaths = 0
        while not self._is_ending:
            try:
                return self._process().submit(work).result()
            except BrokenExecutor:
                del self._own.process
                deaths += 1
                if deaths == TRIES:
                    raise
        raise CancelledError

    def _process(self) -> ProcessPoolExecutor:
        """The one of this thread, a fresh one after a death."""
        if not hasattr(self._own, "process"):
            context = multiprocessing.get_context("spawn")
            self._own.process = ProcessPoolExecutor(1, context, serve, (os.getpid(),))
            self._processes.append(self._own.process)
            _ignore_ctrl_c()  # here: what the line above may start, multiprocessing's tracker, has it heard again
        process: ProcessPoolExecutor = self._own.process
        return process


def _ignore_ctrl_c() -> None:
    """What this thread starts shall not hear of Ctrl-C from its first moment on."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


class DaskPool:
    """The workers of a Dask scheduler at HOST:PORT. Raises DeviceNotFoundError, UsageError."""

    def __init__(self, address: str) -> None:
        _knock(address)
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise UsageError("dask is not installed", cure="pip install -r requirements-fleet.txt") from error
        for name in ("distributed", "distributed.client"):  # this program says itself what is wrong
            logging.getLogger(name).setLevel(logging.CRITICAL)
        encrypted = import_module("dask").config.get("distributed.comm.require-encryption")
        self._client = _within(
            lambda: distributed.Client(
                f"{'tls' if encrypted else 'tcp'}://{address}", timeout=CONNECT_S, set_as_default=False
            ),
            DeviceNotFoundError(f"what answers at {address} is no Dask scheduler", cure="look at host and port"),
        )
        try:
            self._await_workers(address)
            self._check_versions()
        except BaseException:
            self._client.close()
            raise
        self.width = max(1, sum(self._client.nthreads().values()))
        self._executor: Executor = self._client.get_executor(pure=False)

    def submit(self, work: Work) -> Future[Any]:
        """Begin, sooner or later."""
        try:
            return self._executor.submit(work)
        except Exception:
            self.check()
            raise

    def check(self) -> None:
        """Raises DeviceError when the scheduler is gone: the client has closed itself after CONNECT_S."""
        if self._client.status == "closed":
            raise DeviceError("the Dask scheduler is gone", cure="start it, then run this again: what is done stays")

    def close(self) -> None:
        """Drop what has not begun."""
        if self._client.status == "running":
            self._executor.shutdown(wait=False)
        self._client.close(timeout=LOOK_S)

    def _await_workers(self, address: str) -> None:
        if not self._client.nthreads():
            log.warning("the Dask scheduler has no workers yet: waiting for %d s", WORKERS_S)
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError as error:
            raise DeviceNotFoundError(f"the Dask scheduler at {address} has no workers", cure="start some") from error

    def _check_versions(self) -> None:
        """Whoever runs another version would make other photos; a worker that dies meanwhile makes none."""
        lost = import_module("distributed.comm").CommClosedError
        said = self._client.run(tasks.fingerprint, on_error="return")
        found = {worker: answer for worker, answer in said.items() if not isinstance(answer, lost)}
        if errors := [answer for answer in found.values() if isinstance(answer, Exception)]:
            raise UsageError(
                f"the workers cannot run this program ({errors[0]})",
                cure="start them in its folder, with its packages",
            )
        if strangers := sorted(worker for worker, version in found.items() if version != tasks.fingerprint()):
            raise UsageError(
                f"{len(strangers)} of {len(found)} workers run another version, the first {strangers[0]}",
                cure="install the same on all, and start them again",
            )


def _knock(address: str) -> None:
    """Raises DeviceNotFoundError where nobody answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise DeviceNotFoundError(
            f"no Dask scheduler answers at {address}", cure="start one: dask scheduler"
        ) from error


def _within(do: Callable[[], Any], late: Exception) -> Any:
    """The result of `do`, or `late` when there is none in time: some servers take a greeting and never answer."""
    result: SimpleQueue[Any] = SimpleQueue()

    def work() -> None:
        try:
            result.put(do())
        except Exception as error:
            result.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        found = result.get(timeout=3 * CONNECT_S)
    except Empty:
        raise late from None
    if isinstance(found, Exception):
        raise late from found
    return found


Pool = LocalPool | DaskPool  # processes that do what they are given


def check(executor: str) -> None:
    """Raises UsageError unless it is `local` or `dask://HOST:PORT`, before anything is looked for."""
    if executor == LOCAL:
        return
    if not executor.startswith(DASK):
        raise UsageError(f"--executor knows no {executor!r}", cure="say local, or dask://HOST:PORT")
    host, _, port = (address := executor.removeprefix(DASK)).rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(f"{address!r} is no HOST:PORT", cure="say for instance dask://127.0.0.1:8786")


def open_pool(executor: str, jobs: int) -> Pool:
    """Of what `check` has passed. Raises DeviceNotFoundError where no scheduler answers, UsageError for its workers."""
    return LocalPool(jobs) if executor == LOCAL else DaskPool(executor.removeprefix(DASK))


@dataclass(slots=True)
class _Going:
    """One recording under way."""

    order: Order
    plan: Plan = field(default_factory=Plan)
    left: int = 0
    told: int = 0  # bytes of it that the progress counts
    failure: Failure | None = None


@dataclass(slots=True)
class _Step:
    """One task, and what happens with its result."""

    going: _Going
    work: Work
    then: Callable[[_Going, Any], None]
    size: int = 0  # of the progress
    tries: int = 1


class Run:
    """All steps of all orders on a pool; `outcomes` holds a summary or a failure for each that has ended."""

    def __init__(self, orders: Sequence[Order], pool: Pool, progress: Callable[[float], None]) -> None:
        self.outcomes: list[tuple[Order, Summary | Failure]] = []
        self._waiting = deque(orders)
        self._pool = pool
        self._progress = progress
        self._total = max(1, sum(order.size for order in orders))
        self._done = 0
        self._under_way = 0
        self._ended: SimpleQueue[tuple[_Step, Future[Any]]] = SimpleQueue()

    def run(self) -> None:
        """Until all is done; whoever interrupts it finds what is done when it is run again."""
        self._progress(0.0)
        while self._waiting or self._under_way:
            while self._waiting and self._under_way < AHEAD * self._pool.width:
                self._begin(self._waiting.popleft())
            with suppress(Empty):
                self._settle(*self._ended.get(timeout=LOOK_S))
            self._pool.check()

    def _begin(self, order: Order) -> None:
        self._under_way += 1
        self._submit(_Step(_Going(order), partial(tasks.prepare, order), self._share_out))

    def _submit(self, step: _Step) -> None:
        future = self._pool.submit(step.work)
        future.add_done_callback(lambda ended: self._ended.put((step, ended)))

    def _settle(self, step: _Step, future: Future[Any]) -> None:
        url = step.going.order.url
        try:
            result = future.result()
        except Exception as error:  # a process that was killed, a worker that is gone, a defect
            if step.tries < TRIES and not isinstance(error, BrokenExecutor):
                log.info("%s is done again: %s", url, error)
                step.tries += 1
                self._submit(step)
                return
            why = " ".join(f"{type(error).__name__} {error}".split())
            result = Failure(f"{url}: {step.work.func.__name__} failed {TRIES} times ({why})")
        self._tell(step.going, step.size)
        step.then(step.going, result)

    def _share_out(self, going: _Going, found: Prepared | Summary | Failure) -> None:
        if not isinstance(found, Prepared):
            self._end(going, found)
            return
        going.plan, done = found.plan, found.done
        left = [share for share in going.plan.shares if share.name not in done]
        self._tell(going, sum(share.size for share in going.plan.shares if share.name in done))
        going.left = len(left)
        for share in left:
            self._submit(_Step(going, partial(tasks.make, going.order, share), self._count, size=share.size))
        if not left:
            self._finish(going)

    def _count(self, going: _Going, failure: Failure | None) -> None:
        going.failure = going.failure or failure
        going.left -= 1
        if not going.left and going.failure:
            self._end(going, going.failure)
        elif not going.left:
            self._finish(going)

    def _finish(self, going: _Going) -> None:
        names = [share.name for share in going.plan.shares]
        self._submit(_Step(going, partial(tasks.finish, going.order, going.plan.head, names), self._end))

    def _end(self, going: _Going, outcome: Summary | Failure) -> None:
        self._under_way -= 1
        self._tell(going, going.order.size - going.told)
        self.outcomes.append((going.order, outcome))

    def _tell(self, going: _Going, size: int) -> None:
        going.told += size
        self._done += size
        self._progress(self._done / self._total)
