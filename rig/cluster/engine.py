"""Many recordings on many processes: of this machine, or of a Dask cluster. One way through for both."""

import logging
import signal
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Any, Protocol

from rig.cluster import tasks
from rig.cluster.planning import Order
from rig.cluster.steps import Plan
from rig.cluster.tasks import Failure
from rig.errors import DeviceNotFoundError, UsageError

TRIES = 3  # of a step whose process dies
AHEAD = 2  # recordings under way for each process: their plans are in this process's memory
CONNECT_S = 10
DASK = "dask://"

log = logging.getLogger(__name__)


class Pool(Protocol):
    """Processes that do what they are given."""

    width: int

    def submit(self, do: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin, sooner or later."""

    def close(self) -> None:
        """Drop what has not begun, await the rest."""


class LocalPool:
    """Processes of this machine; Ctrl-C lets them end the step that they are at."""

    def __init__(self, jobs: int) -> None:
        self.width = jobs
        self._pool = self._fresh()

    def submit(self, do: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin, sooner or later; in new processes if one of the old ones was killed."""
        try:
            return self._pool.submit(do, *arguments)
        except BrokenExecutor:
            self._pool = self._fresh()
            return self._pool.submit(do, *arguments)

    def close(self) -> None:
        """Drop what has not begun, await the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fresh(self) -> ProcessPoolExecutor:
        ignore = (signal.SIGINT, signal.SIG_IGN)
        return ProcessPoolExecutor(
            self.width, mp_context=get_context("spawn"), initializer=signal.signal, initargs=ignore
        )


class DaskPool:
    """The workers of a Dask scheduler at HOST:PORT. Raises DeviceNotFoundError, UsageError."""

    def __init__(self, address: str) -> None:
        try:
            distributed: Any = import_module("distributed")
        except ImportError as error:
            raise UsageError("dask is not installed", cure="pip install -r requirements-fleet.txt") from error
        try:
            self._client = distributed.Client(f"tcp://{address}", timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise DeviceNotFoundError(
                f"no Dask scheduler answers at {address}", cure="start one: dask scheduler"
            ) from error
        try:
            self._check()
        except BaseException:
            self._client.close()
            raise
        self.width = max(1, sum(self._client.nthreads().values()))
        self._executor: Executor = self._client.get_executor(pure=False)

    def submit(self, do: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin, sooner or later."""
        return self._executor.submit(do, *arguments)

    def close(self) -> None:
        """Drop what has not begun, await the rest."""
        self._executor.shutdown(wait=False)
        self._client.close()

    def _check(self) -> None:
        """Whoever runs another version would make other photos."""
        try:
            found = self._client.run(tasks.fingerprint)
        except Exception as error:
            raise UsageError(
                f"the workers cannot run this program ({error})", cure="start them in its folder, with its packages"
            ) from error
        if strangers := sorted(worker for worker, version in found.items() if version != tasks.fingerprint()):
            raise UsageError(
                f"{len(strangers)} of {len(found)} workers run another version, the first {strangers[0]}",
                cure="install the same on all",
            )


def open_pool(executor: str, jobs: int) -> Pool:
    """Of `local` or `dask://HOST:PORT`. Raises UsageError, DeviceNotFoundError."""
    if executor.startswith(DASK):
        return DaskPool(executor.removeprefix(DASK))
    if executor in ("", "local"):
        return LocalPool(jobs)
    raise UsageError(f"--executor knows no {executor!r}", cure="say local, or dask://HOST:PORT")


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
    do: Callable[..., Any]
    arguments: tuple[Any, ...]
    then: Callable[[_Going, Any], None]
    size: int = 0  # of the progress
    tries: int = 1


class Run:
    """All steps of all orders on a pool; `outcomes` holds a summary or a failure for each that has ended."""

    def __init__(self, orders: Sequence[Order], pool: Pool, progress: Callable[[float], None]) -> None:
        self.outcomes: list[tuple[Order, dict[str, Any] | Failure]] = []
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
        try:
            while self._waiting or self._under_way:
                while self._waiting and self._under_way < AHEAD * self._pool.width:
                    self._begin(self._waiting.popleft())
                self._settle(*self._ended.get())
        finally:
            self._pool.close()

    def _begin(self, order: Order) -> None:
        self._under_way += 1
        self._submit(_Step(_Going(order), tasks.prepare, (order,), self._share_out))

    def _submit(self, step: _Step) -> None:
        future = self._pool.submit(step.do, *step.arguments)
        future.add_done_callback(lambda ended: self._ended.put((step, ended)))

    def _settle(self, step: _Step, future: Future[Any]) -> None:
        try:
            result = future.result()
        except Exception as error:  # a process that was killed, a worker that is gone, a defect
            if step.tries < TRIES:
                log.warning("%s is done again: %s", step.going.order.recording.url, error)
                step.tries += 1
                self._submit(step)
                return
            why = " ".join(f"{type(error).__name__} {error}".split())
            result = Failure(f"{step.going.order.recording.url}: {step.do.__name__} failed {TRIES} times ({why})")
        self._tell(step.going, step.size)
        step.then(step.going, result)

    def _share_out(self, going: _Going, found: tuple[Plan, frozenset[str]] | Failure) -> None:
        if isinstance(found, Failure):
            self._end(going, found)
            return
        going.plan, done = found
        files = going.order.recording.files
        left = [share for share in going.plan.shares if share.name not in done]
        self._tell(going, sum(files[share.file].size for share in going.plan.shares if share.name in done))
        going.left = len(left)
        for share in left:
            self._submit(_Step(going, tasks.make, (going.order, share), self._count, size=files[share.file].size))
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
        self._submit(_Step(going, tasks.finish, (going.order, going.plan.head, names), self._end))

    def _end(self, going: _Going, outcome: dict[str, Any] | Failure) -> None:
        self._under_way -= 1
        self._tell(going, going.order.size - going.told)
        self.outcomes.append((going.order, outcome))

    def _tell(self, going: _Going, size: int) -> None:
        going.told += size
        self._done += size
        self._progress(self._done / self._total)
