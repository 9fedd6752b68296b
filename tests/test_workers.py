"""Workers are real processes: asked, heard, stopped, killed, and never left behind."""

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig.errors import ConflictError, DeviceError, EdencarError, NoSpaceError, UnreadableError
from rig.supervision import Kept
from rig.workers import Link, StartCapture, StopCapture, Worker
from tests.machine import is_gone, wait_for

PROMPT_S = 10.0  # this machine is shared; a quiet one needs a tenth


def answer(link: Link) -> None:
    """A device that does what it is told, and says which process it is."""
    captures: list[Path | None] = [None]

    def start(request: StartCapture) -> str:
        if request.mode == "refuse":
            raise ConflictError("not now", cure="later")
        if request.mode == "crash":
            raise RuntimeError("a defect")
        if request.mode == "fill":
            raise OSError(errno.ENOSPC, "No space left on device")
        if request.mode == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if request.mode == "slow":
            time.sleep(0.5)
        captures[0] = request.folder
        (request.folder / f"told-{os.getpid()}").touch()
        return f"{request.mode} {request.folder.name}"

    def stop(_request: StopCapture) -> None:
        captures[0] = None

    link.serve({StartCapture: start, StopCapture: stop}, lambda: (os.getpid(), captures[0]), 0.1)


def answer_and_fail(link: Link) -> None:
    """A device that is broken once it has stopped."""
    stopped = []

    def stop(_request: StopCapture) -> str:
        stopped.append(True)
        return "stopped"

    def status() -> str:
        if stopped:
            fail(link)
        return "well"

    link.serve({StopCapture: stop}, status)


def finish(link: Link, value: int) -> None:
    """A job that says many things and ends."""
    for number in range(value + 1):
        link.report(number)


def fail(link: Link) -> None:
    raise UnreadableError("no such film", cure="look again")


def break_down(link: Link) -> None:
    raise RuntimeError("a defect")


def ignore_everything(link: Link) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    link.report("deaf")
    while True:
        time.sleep(1)


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("device", answer)
    worker.start()
    yield worker
    worker.stop(1.0)


def test_a_worker_answers_and_reports(worker: Worker, tmp_path: Path) -> None:
    assert worker.ask(StartCapture(tmp_path, "video"), PROMPT_S) == f"video {tmp_path.name}"
    assert worker.status == (worker.pid, tmp_path)
    assert worker.ask(StopCapture(), PROMPT_S) is None
    assert worker.status == (worker.pid, None)
    assert worker.status_age_s < PROMPT_S


def test_what_a_handler_raises_is_raised_where_it_was_asked(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(ConflictError) as refusal:
        worker.ask(StartCapture(tmp_path, "refuse"), PROMPT_S)
    assert (refusal.value.message, refusal.value.cure) == ("not now", "later")
    with pytest.raises(EdencarError, match="RuntimeError: a defect"):
        worker.ask(StartCapture(tmp_path, "crash"), PROMPT_S)
    with pytest.raises(NoSpaceError, match="the disk is full"):
        worker.ask(StartCapture(tmp_path, "fill"), PROMPT_S)
    assert worker.alive


def test_work_that_fails_after_an_answer_has_still_answered() -> None:
    worker = Worker("device", answer_and_fail)
    worker.start()
    assert worker.ask(StopCapture(), PROMPT_S) == "stopped"
    worker.join(PROMPT_S)
    assert str(worker.error) == "no such film: look again"


def test_a_late_answer_is_not_taken_for_the_next_one(worker: Worker, tmp_path: Path) -> None:
    worker.ask(StopCapture(), PROMPT_S)  # it is up
    with pytest.raises(DeviceError, match="in time"):
        worker.ask(StartCapture(tmp_path, "slow"), 0.1)
    assert worker.ask(StartCapture(tmp_path, "video"), PROMPT_S).startswith("video")


def test_questions_from_many_threads_get_their_own_answers(worker: Worker, tmp_path: Path) -> None:
    answers: dict[int, str] = {}

    def ask(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        answers[number] = worker.ask(StartCapture(folder, "video"), PROMPT_S)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {number: f"video {number}" for number in range(8)}


def test_nobody_waits_longer_than_he_said_for_his_turn(worker: Worker) -> None:
    worker.ask(StopCapture(), PROMPT_S)  # it is up
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGSTOP)
    patient = threading.Thread(target=worker.ask, args=(StopCapture(), 10 * PROMPT_S))
    patient.start()
    wait_for(worker._asking.locked)
    with pytest.raises(DeviceError, match="in time"):
        worker.ask(StopCapture(), 0.1)
    assert patient.is_alive()
    os.kill(worker.pid, signal.SIGCONT)
    patient.join()


def test_a_worker_that_dies_while_asked_says_so_at_once(worker: Worker, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(DeviceError, match="ended while it was asked"):
        worker.ask(StartCapture(tmp_path, "die"), 60.0)
    assert time.monotonic() - started < PROMPT_S
    with pytest.raises(DeviceError, match="not running"):
        worker.ask(StopCapture(), PROMPT_S)


def test_a_worker_starts_again_after_its_death(worker: Worker, tmp_path: Path) -> None:
    wait_for(lambda: worker.status)
    first = worker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    worker.join(PROMPT_S)
    worker.start()
    assert worker.pid != first
    assert worker.status is None or worker.status[0] == worker.pid
    assert worker.ask(StartCapture(tmp_path, "video"), PROMPT_S).startswith("video")


def test_a_worker_outlives_the_thread_that_started_it() -> None:
    """PR_SET_PDEATHSIG is about the parent's thread: started from a request, a worker would end with the request."""
    worker = Worker("device", answer)

    def request() -> None:
        worker.start()
        wait_for(lambda: worker.status)

    thread = threading.Thread(target=request)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert worker.alive
    worker.stop(1.0)


def test_all_that_a_job_said_is_heard_once_it_is_joined() -> None:
    worker = Worker("job", finish, 2000)
    worker.start()
    worker.join(PROMPT_S)
    assert (worker.alive, worker.status, worker.error) == (False, 2000, None)


@pytest.mark.parametrize(("target", "message"), [(fail, "no such film"), (break_down, "RuntimeError: a defect")])
def test_the_error_that_ends_a_job_is_kept(target: Callable[..., None], message: str) -> None:
    worker = Worker("job", target)
    worker.start()
    worker.join(PROMPT_S)
    assert worker.error is not None
    assert worker.error.message == message


def test_a_deaf_worker_is_killed() -> None:
    worker = Worker("deaf", ignore_everything)
    worker.start()
    wait_for(lambda: worker.status == "deaf")
    worker.stop(0.2)
    assert not worker.alive


def test_stop_before_start_and_twice_is_harmless(worker: Worker) -> None:
    Worker("never", answer).stop()
    worker.stop(2.0)
    worker.stop(2.0)
    assert not worker.alive


def test_no_descriptor_is_left_by_many_starts() -> None:
    worker = Worker("job", finish, 1)
    worker.start()
    worker.join(PROMPT_S)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(8):
        worker.start()
        worker.join(PROMPT_S)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 2


def test_no_worker_outlives_a_killed_server() -> None:
    start = "import time, tests.test_workers as t; w = t.Worker('d', t.answer); w.start(); print(w.pid, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", f"if __name__ == '__main__':\n {start}; time.sleep(60)"],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        text=True,
    ) as server:
        assert server.stdout
        pid = int(server.stdout.readline())
        server.kill()
    wait_for(lambda: is_gone(pid))


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
def kept(notes: list[str]) -> Iterator[Kept]:
    with tended(Kept(Worker("camera C1", answer), notes.append)) as kept:
        yield kept


@contextmanager
def tended(kept: Kept) -> Iterator[Kept]:
    ended = threading.Event()

    def tend() -> None:
        while not ended.wait(0.05):
            kept.tend()

    thread = threading.Thread(target=tend)
    thread.start()
    yield kept
    ended.set()
    thread.join()
    kept.close()


def kill(worker: Worker) -> None:
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_killed_worker_comes_back_and_records_on(kept: Kept, notes: list[str], tmp_path: Path) -> None:
    kept.begin(StartCapture(tmp_path, "video"))
    assert kept.told
    kill(kept.worker)
    wait_for(lambda: len(list(tmp_path.glob("told-*"))) == 2)
    wait_for(lambda: kept.told and not kept.trouble)
    assert notes[0] == "camera C1 ended (it was killed)"
    assert notes[1] == "camera C1 records again"
    kept.end()
    wait_for(lambda: kept.status[1] is None)


def test_a_silent_worker_is_replaced(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.begin(StartCapture(tmp_path, "video"))
    wait_for(lambda: kept.worker.status)
    monkeypatch.setattr("rig.workers.SILENCE_S", 0.7)
    first = kept.worker.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    wait_for(lambda: kept.starts == 2 and kept.told)
    assert is_gone(first)


def test_a_worker_that_is_being_replaced_holds_up_nobody(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(Worker("camera C1", answer), notes.append)
    wait_for(lambda: kept.worker.status)
    monkeypatch.setattr("rig.workers.SILENCE_S", 0.3)
    monkeypatch.setattr("rig.supervision.ASLEEP_S", 60.0)
    assert kept.worker.pid is not None
    os.kill(kept.worker.pid, signal.SIGSTOP)
    began, others, waited = threading.Event(), threading.Event(), []

    def stop(_grace_s: float) -> None:
        began.set()
        waited.append(others.wait(PROMPT_S))

    def tend() -> bool:
        kept.tend()
        return began.is_set()

    monkeypatch.setattr(kept.worker, "stop", stop)
    wait_for(tend)
    kept.tend()
    others.set()
    wait_for(lambda: waited)
    assert waited == [True]
    monkeypatch.undo()
    kept.close()


def test_what_was_closed_is_never_started_again(kept: Kept) -> None:
    kept.close()
    kept.tend()
    assert (kept.starts, kept.worker.alive) == (1, False)


def test_a_stop_reaches_the_successor_of_a_worker_that_just_died(kept: Kept, tmp_path: Path) -> None:
    kept.begin(StartCapture(tmp_path, "video"))
    kill(kept.worker)
    kept.end()
    assert kept.starts == 2


def test_one_that_refuses_is_told_again(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.supervision.RETELL_S", 0.2)
    with pytest.raises(ConflictError):
        kept.begin(StartCapture(tmp_path, "refuse"))
    assert not kept.told
    assert kept.trouble == "not now: later"
    kept.expect(StartCapture(tmp_path, "video"))
    wait_for(lambda: kept.told)
    assert kept.trouble == ""


def test_one_that_keeps_nothing_of_what_comes_is_replaced_and_its_last_gap_is_named(
    notes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lives and says that its device sends, but its log does not grow."""
    monkeypatch.setattr("rig.supervision.PROGRESS_S", 0.5)
    monkeypatch.setattr("rig.supervision.LAST_GAP_S", 0.0)
    gaps: list[tuple[str, int, int]] = []
    camera = Kept(Worker("camera C1", answer), notes.append, lambda *gap: gaps.append(gap), flows=lambda _status: True)
    with tended(camera) as kept:
        kept.begin(StartCapture(tmp_path, "video"))
        arrival_ns = time.monotonic_ns()
        (tmp_path / "stream-001.idx").write_text(f"pts_90khz,arrival_monotonic_ns,byte_offset\n0,{arrival_ns},0\n")
        wait_for(lambda: kept.starts == 2 and kept.told)
        assert notes[:2] == ["camera C1 ended (it was killed)", "camera C1 records again"]
        kept.end()
    (gap,) = gaps
    assert gap[:2] == ("camera C1", arrival_ns)


def test_a_stop_that_nobody_hears_any_more_is_told(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.supervision.REVIVAL_S", 0.1)
    kept = Kept(Worker("camera C1", answer), notes.append)
    wait_for(lambda: kept.status)
    kept.close()
    with pytest.raises(DeviceError, match="camera C1 is not running"):
        kept.end()


def test_a_worker_for_which_there_was_no_room_comes_later(notes: list[str]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(free := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))  # no more files, so no pipe to a process
    try:
        kept = Kept(Worker("camera C1", answer), notes.append)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert kept.status is None

    def tend() -> bool:
        kept.tend()
        return kept.status is not None

    wait_for(tend)
    kept.close()


def test_the_pauses_grow_while_it_keeps_dying(notes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rig.supervision.FIRST_PAUSE_S", 0.2)
    kept, ends, starts = Kept(Worker("broken", break_down), notes.append), [0.0], [0.0]

    def tend() -> bool:
        before = kept.starts
        if not kept.worker.alive and len(ends) == before:
            ends.append(time.monotonic())
        kept.tend()
        if kept.starts > before:
            starts.append(time.monotonic())
        return kept.starts == 5

    wait_for(tend, 60.0)
    kept.close()
    pauses = [start - end for start, end in zip(starts[1:], ends[1:], strict=False)]
    assert [pause >= least for pause, least in zip(pauses, (0.0, 0.2, 0.4, 0.8), strict=True)] == [True] * 4
    assert kept.trouble == "broken ended (RuntimeError: a defect)"
