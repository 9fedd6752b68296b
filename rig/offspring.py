"""Processes that end with the one that started them, or when Ctrl-C comes twice."""

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOOK_S = 2.0


def end_with(parent: int) -> None:
    """Have this process end when its parent dies, even by SIGKILL: by the kernel (Linux), else by a thread that looks.

    The kernel means the parent's thread that started this process (prctl(2)): that one must live as long.
    """
    if not _asks_kernel():
        threading.Thread(target=_look, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it died before it could be watched
        raise SystemExit


def serve(parent: int) -> None:
    """As `end_with`, and deaf to Ctrl-C, which the parent heeds: for the processes of a pool."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)


@contextmanager
def killed_by_ctrl_c() -> Iterator[None]:
    """Ctrl-C kills the processes of this one's pools, and raises nothing, while they are awaited.

    Python 3.11 takes a thread for ended whose `join` was interrupted, and waits at its own end for processes that
    nobody ends.
    """
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C is not for it
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: kill_pools())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def leave(pool: Executor) -> None:
    """Drop what has not begun and await what has; if it has processes, Ctrl-C kills them meanwhile."""
    with killed_by_ctrl_c():
        pool.shutdown(cancel_futures=True)


def kill_pools() -> None:
    """End the processes of this one's pools, whatever they do."""
    for child in multiprocessing.active_children():
        child.kill()


def _asks_kernel() -> bool:
    try:
        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) == 0)  # even one that hangs
    except (AttributeError, OSError, TypeError):  # Windows has no library without a name
        return False


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)
