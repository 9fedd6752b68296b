"""No process outlives the one that started it, be that one killed by SIGKILL, on Linux and elsewhere."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from rig.offspring import leave, serve
from rig.timing import dating
from tests.machine import is_gone, wait_for

ROOT = Path(__file__).parent.parent
ELSEWHERE = "import ctypes; ctypes.CDLL = lambda name: None"  # a system whose library has no prctl
CHILD = """{system}
import os, time
from rig.offspring import end_with
end_with(os.getppid())
print(os.getpid(), flush=True)
time.sleep(600)
"""
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
POOL = "from tests.test_offspring import date; date()"


def nap(number: int) -> None:
    """A film that takes its time."""
    os.write(1, b"%d\n" % os.getpid())  # in one piece: another one writes, too
    time.sleep(600)


def date() -> None:
    """Clocks of several videos are being found."""
    dating._each(nap, [1, 2, 3], 2)


def work() -> None:
    """What has begun is awaited, as photos may be half written."""
    pool = ProcessPoolExecutor(2, get_context("spawn"), serve, (os.getpid(),))
    end = pool.shutdown

    def shutdown(**options: bool) -> None:
        print("waits", flush=True)
        end(**options)

    setattr(pool, "shutdown", shutdown)  # noqa: B010, mypy knows no other way to replace a method
    try:
        list(pool.map(nap, [1, 2, 3]))
    finally:
        leave(pool)


def interrupted(name: str, times: int) -> "tuple[list[int], int, str]":
    """The processes that a command had, its exit code, and what it said when Ctrl-C came so often."""
    code = f"import argparse; from rig import cli; from tests.test_offspring import {name} as do"
    code += "; raise SystemExit(cli.run(argparse.ArgumentParser('it'), lambda _: do(), str, []))"
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_heed_ctrl_c,
    ) as command:
        assert command.stdout
        pids = [int(command.stdout.readline()) for _ in range(2)]
        for number in range(times):
            if number:
                assert command.stdout.readline() == "waits\n"
            os.killpg(command.pid, signal.SIGINT)
        _, said = command.communicate(timeout=60.0)
        return pids, command.returncode, said


def _heed_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without it


@pytest.mark.parametrize(("name", "times"), [("date", 1), ("work", 2)])
def test_ctrl_c_ends_a_command_and_its_processes_in_one_line(name: str, times: int) -> None:
    pids, code, said = interrupted(name, times)
    assert (code, said) == (130, "it: interrupted\n")
    assert all(map(is_gone, pids))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "children"),
    [
        ((PARENT, CHILD.format(system="")), 1),
        ((PARENT, CHILD.format(system=ELSEWHERE)), 1),
        ((POOL,), 2),
    ],
    ids=["the kernel", "a thread", "clocks of videos"],
)
def test_processes_end_with_their_parent(words: tuple[str, ...], children: int, number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", *words], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pids = [int(parent.stdout.readline()) for _ in range(children)]
        parent.send_signal(number)
        try:
            wait_for(lambda: all(map(is_gone, pids)))
        finally:
            for pid in pids:
                if not is_gone(pid):
                    os.kill(pid, signal.SIGKILL)


def test_one_that_hangs_ends_too() -> None:
    words = (PARENT, CHILD.format(system=""))
    with subprocess.Popen([sys.executable, "-c", *words], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
        try:
            wait_for(lambda: is_gone(pid))
        finally:
            if not is_gone(pid):
                os.kill(pid, signal.SIGKILL)


def test_a_parent_that_is_dead_already_is_noticed() -> None:
    code = "import sys, time; from rig.offspring import end_with; end_with(1 << 30); time.sleep(600)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=100, check=False).returncode == 0


def test_a_living_parent_costs_nothing() -> None:
    code = f"{ELSEWHERE}; from rig import offspring; offspring.LOOK_S = 0.01; import os, time"
    code += "; offspring.end_with(os.getppid()); time.sleep(1); print('alive')"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"
