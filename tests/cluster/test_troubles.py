"""What goes wrong around a fleet's work: told in one clear line with its exit code, and nothing hangs."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import create_server
from threading import Thread
from typing import Any

import psutil
import pytest
from fsspec.implementations.local import LocalFileSystem

import parsePhotos
import parseVideo
from rig.clock import system_clock
from rig.cluster import engine, store, tasks
from rig.photo import photos
from rig.recordings import RECORDING, Alive, Recordings
from tests.cluster.parts import NAMES, PATTERN, ROOT, Done, dask_cluster, dask_scheduler, run, tree
from tests.faults.disks import in_memory, needs_disks
from tests.machine import wait_for

# Nobody shall wait here as long as a user's cluster may take.
SOON = "engine.CONNECT_S = engine.WORKERS_S = 1.0"
IMPATIENT = f"from rig.cluster import engine; {SOON}; import parseVideo; raise SystemExit(parseVideo.main())"


def run_impatiently(*words: object, **environment: str) -> Done:
    """The command, which gives up sooner."""
    return run(("-c", IMPATIENT), *words, **environment)


def assert_one_line(done: Done, code: int, says: str) -> None:
    assert done.code == code, done.errors
    assert len(done.errors.splitlines()) == 1, done.errors
    assert says in done.errors


class Stuck:
    """A privacy command that begins, and ends when it is let go."""

    def __init__(self, folder: Path) -> None:
        self._begun, self._go = folder / "begun", folder / "go"
        program = folder / "stuck.py"
        program.write_text(
            "import time\nfrom pathlib import Path\n"
            f"Path({str(self._begun)!r}).touch()\n"
            f"while not Path({str(self._go)!r}).exists() and Path({str(folder)!r}).exists():\n    time.sleep(0.05)\n"
        )
        self.environment = {"EDENCAR_PRIVACY_COMMAND": f"{sys.executable},{program}"}

    def await_it(self) -> None:
        wait_for(self._begun.exists)

    def let_go(self) -> None:
        self._go.touch()


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    command = Stuck(tmp_path)
    yield command
    command.let_go()


@contextmanager
def begun(words: tuple[object, ...], stuck: Stuck) -> Iterator["subprocess.Popen[str]"]:
    """The command in a session of its own, as in a terminal, while its first photo is under way."""
    command = [sys.executable, *map(str, words)]
    pipe = subprocess.PIPE
    surroundings = os.environ | stuck.environment
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without it
    running = subprocess.Popen(
        command, cwd=ROOT, env=surroundings, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    with running:
        try:
            stuck.await_it()
            yield running
        finally:
            stuck.let_go()
            running.kill()


@pytest.mark.timeout(300)
def test_a_second_ctrl_c_does_not_wait_for_what_is_under_way(cars: Path, tmp_path: Path, stuck: Stuck) -> None:
    words = ("parseVideo.py", cars / PATTERN, "--executor", "local", "--jobs", 2, "--output", tmp_path / "out")
    with begun(words, stuck) as running:
        workers = psutil.Process(running.pid).children(recursive=True)
        os.killpg(running.pid, signal.SIGINT)
        assert running.stderr is not None
        assert "again" in running.stderr.readline(), "it says that it waits, and how not to"
        assert running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
        assert running.stderr.read() == "parseVideo.py: interrupted\n"
        assert running.wait() == 130
    wait_for(lambda: not any(one.is_running() for one in workers))
    assert run("parseVideo.py", *words[1:]).code == 0
    assert all(photos.read_table(tmp_path / "out" / name) for name in NAMES)


def test_the_first_process_hears_of_no_ctrl_c_while_it_starts() -> None:
    ask = (
        "import signal; from contextlib import closing; from functools import partial; from rig.cluster import engine\n"
        "with closing(engine.LocalPool(1)) as pool:\n"
        "    blocked = pool.submit(partial(signal.pthread_sigmask, signal.SIG_BLOCK, ())).result()\n"
        "raise SystemExit(signal.SIGINT not in blocked)"
    )
    assert subprocess.run([sys.executable, "-c", ask], cwd=ROOT, timeout=60, check=False).returncode == 0


@pytest.mark.timeout(300)
def test_a_scheduler_that_is_gone_during_the_run_is_told(cars: Path, tmp_path: Path, stuck: Stuck) -> None:
    with dask_cluster(tmp_path, 2) as cluster:
        words = ("-c", IMPATIENT, cars / PATTERN, "--executor", cluster.executor, "--output", tmp_path / "out")
        with begun(words, stuck) as running:
            cluster.scheduler.kill()
            _, said = running.communicate()
    assert said.count("\n") == 1, said
    assert "the Dask scheduler is gone: start it, then run this again" in said
    assert running.returncode == 7


STRANGE = (
    "import parseVideo; from rig.cluster import tasks; from tests.cluster.parts import strange_fingerprint; "
    "tasks.fingerprint = strange_fingerprint; raise SystemExit(parseVideo.main())"
)


@pytest.mark.timeout(300)
def test_a_worker_of_another_version_is_refused(cars: Path, tmp_path: Path) -> None:
    with dask_cluster(tmp_path, 2, FINGERPRINT_TRAP=str(tmp_path / "trap"), FINGERPRINT="old") as cluster:
        words = (cars / PATTERN, "--executor", cluster.executor, "--output", tmp_path / "out")
        done = run(("-c", STRANGE), *words)
    assert_one_line(done, 2, "1 of 2 workers run another version, the first tcp://127.0.0.1")
    assert not (tmp_path / "out").exists()


def test_a_worker_says_which_version_it_runs_not_which_lies_there_by_now(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = tasks.fingerprint()
    monkeypatch.setattr(Path, "read_bytes", lambda _: b"# updated")
    assert tasks.fingerprint() == begun


@pytest.mark.timeout(300)
def test_a_worker_that_dies_before_the_work_begins_costs_nothing(cars: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with dask_cluster(tmp_path, 2, FINGERPRINT_TRAP=str(trap)) as cluster:
        words = (cars / "car1" / "2026-*", "--executor", cluster.executor, "--output", tmp_path / "out")
        done = run(("-c", STRANGE), *words)
    assert trap.exists()
    assert done.code == 0, done.errors
    assert photos.read_table(tmp_path / "out" / NAMES[0].partition("/")[2])


def test_a_scheduler_without_workers_is_told(cars: Path, tmp_path: Path) -> None:
    with dask_scheduler(tmp_path) as cluster:
        done = run_impatiently(cars / PATTERN, "--executor", cluster.executor, "--output", tmp_path / "out")
    assert "waiting" in done.errors.splitlines()[0]
    assert "has no workers: start some" in done.errors.splitlines()[1]
    assert done.code == 6
    assert not (tmp_path / "out").exists()


def test_a_web_server_is_no_scheduler(cars: Path, tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            executor = f"dask://127.0.0.1:{server.server_address[1]}"
            done = run_impatiently(cars / PATTERN, "--executor", executor, "--output", tmp_path / "out")
        finally:
            server.shutdown()
            thread.join()
    assert_one_line(done, 6, "is no Dask scheduler: look at host and port")


def test_a_server_that_never_answers_is_no_scheduler(cars: Path, tmp_path: Path) -> None:
    with create_server(("127.0.0.1", 0)) as server:
        executor = f"dask://127.0.0.1:{server.getsockname()[1]}"
        done = run_impatiently(cars / PATTERN, "--executor", executor, "--output", tmp_path / "out")
    assert_one_line(done, 6, "is no Dask scheduler: look at host and port")


def test_missing_credentials_are_told(s3: dict[str, str], tmp_path: Path) -> None:
    stranger = {"HOME": str(tmp_path), "AWS_ENDPOINT_URL": s3["AWS_ENDPOINT_URL"], "AWS_EC2_METADATA_DISABLED": "true"}
    done = run("parseVideo.py", f"s3://fleet/in/{PATTERN}", "--output", tmp_path / "out", **stranger)
    assert_one_line(done, 2, "set AWS_ACCESS_KEY_ID or the like")


def test_folders_and_a_store_go_into_one_run(cars: Path, s3: dict[str, str], tmp_path: Path) -> None:
    sources = (cars / "*" / "2026-11-22*", "s3://fleet/in/*/2026-11-23*")
    done = run("parseVideo.py", *sources, "--output", tmp_path, **s3)
    assert done.code == 0, done.errors
    assert done.said["recordings"] == 3
    tables = [photos.read_table(tmp_path / name) for name in NAMES]
    assert tables[0]
    assert tables[0] == tables[1] == tables[2]
    again = run("parseVideo.py", *sources, "--output", tmp_path, **s3)
    assert (again.said["done_before"], again.said["photos"]) == (3, 0)


@needs_disks
@pytest.mark.parametrize("source", ["folder", "store"])
def test_a_full_scratch_disk_is_told(source: str, cars: Path, s3: dict[str, str], tmp_path: Path) -> None:
    address = {"folder": cars / "car1" / "2026-*", "store": "s3://fleet/in/car1/2026-*"}[source]
    words = ("parseVideo.py", address, "--executor", "local", "--output", tmp_path / "out")
    with in_memory(tmp_path / "scratch", 65_536) as scratch:
        done = run(*words, **s3, TMPDIR=str(scratch))
        assert not tree(scratch), "nothing is left there"
    assert_one_line(done, 3, f"no room in {scratch}")
    assert NAMES[0].partition("/")[2] in done.errors
    assert not (tmp_path / "out" / "2026-11-22_14-03-12" / "photos.csv").exists()


@needs_disks
def test_a_full_disk_of_results_holds_nothing_half(cars: Path, tmp_path: Path) -> None:
    with in_memory(tmp_path / "results", 131_072) as results:
        done = run("parseVideo.py", cars / "car1" / "2026-*", "--executor", "local", "--output", results)
        assert not list(results.rglob(f"*{store.PART_SUFFIX}"))
    assert done.code in (3, 8)  # the page that tells of it may find no room, too
    assert "No space left" in done.errors


def test_a_result_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    move = LocalFileSystem.mv
    monkeypatch.setattr(store, "sync_data", lambda _: calls.append("synced"))

    def named(*words: Any) -> None:
        calls.append("named")
        move(*words)

    monkeypatch.setattr(LocalFileSystem, "mv", named)
    store.write(b"{}", str(tmp_path / "new" / "note.json"))
    assert calls == ["synced", "named"]
    assert (tmp_path / "new" / "note.json").read_bytes() == b"{}"


def test_an_output_that_is_a_file_is_told_at_once(cars: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = run("parseVideo.py", cars / PATTERN, "--executor", "local", "--output", tmp_path / "file")
    assert_one_line(done, 3, "Not a directory")


def test_a_machine_that_starts_no_more_processes_is_told(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(ProcessPoolExecutor, "submit", refuse)
    words = [cars / "car1" / "2026-*", "--executor", "local", "--output", tmp_path]
    assert parseVideo.main(list(map(str, words))) == 3
    told = capsys.readouterr().err
    assert len(told.splitlines()) == 1, told
    assert f"prepare failed {engine.TRIES} times" in told
    assert os.strerror(errno.EAGAIN) in told


def test_a_recording_behind_a_link_is_one(cars: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "car").mkdir(parents=True)
    (tmp_path / "here" / "car" / "2026-11-22_14-03-12").symlink_to(cars / NAMES[0])
    (tmp_path / "here" / "another").symlink_to(cars / "car2")
    pattern = tmp_path / "here" / "*" / "2026-11-22*"
    done = run("parseVideo.py", pattern, "--executor", "local", "--output", tmp_path / "out")
    assert done.code == 0, done.errors
    assert done.said["recordings"] == 2


def test_photos_of_a_recording_that_runs_are_left_to_the_server(
    cars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = NAMES[0].rpartition("/")[2]
    folder = tmp_path / name
    shutil.copytree(cars / NAMES[0], folder)
    Recordings(tmp_path).update(name, state=RECORDING, alive=Alive.now(system_clock()))
    photos.write_table(folder, [])
    for command in (parseVideo, parsePhotos):
        assert command.main([str(folder)]) == 7
        assert command.main([str(folder), "--executor", "local", "--json"]) == 3
        assert capsys.readouterr().err.count("is being recorded: stop it first") == 2
    assert parseVideo.main([str(folder), "--output", str(tmp_path / "out")]) == 0
