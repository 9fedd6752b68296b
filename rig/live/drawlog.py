"""Keeps what pages with the time code say that they drew: in the recording that runs, else for a minute in memory.

A post becomes one line of `<recording>/codes/<page>.jsonl`, as rig.timing.codelog reads it.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rig.errors import ConflictError
from rig.recordings import CODES

MAX_PAGES = 16  # of one recording
MEMORY_S = 60.0  # a page that was shown just before the start belongs to the recording's first pictures


class DrawLogs:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memory: dict[str, deque[tuple[float, bytes]]] = {}

    def add(self, page: str, post: Mapping[str, Any], recording: Path | None) -> None:
        """Keep a post of a page, whose id is safe as a file name.

        Raises ConflictError for the 17th page.
        """
        line = json.dumps(post, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            self._forget()
            if recording is None:
                self._remember(page, line)
            else:
                remembered = self._memory.pop(page, ())
                _append(recording / CODES / f"{page}.jsonl", b"".join([*(old for _, old in remembered), line]))

    def copy(self, folder: Path) -> None:
        """Write what is remembered into a folder, as `rig.timing.codelog` reads it."""
        with self._lock:
            for page, lines in self._memory.items():
                _append(folder / CODES / f"{page}.jsonl", b"".join(line for _, line in lines))

    def _remember(self, page: str, line: bytes) -> None:
        if page not in self._memory and len(self._memory) >= MAX_PAGES:
            raise _too_many()
        self._memory.setdefault(page, deque()).append((time.monotonic(), line))

    def _forget(self) -> None:
        oldest_s = time.monotonic() - MEMORY_S
        for page, lines in [*self._memory.items()]:
            while lines and lines[0][0] < oldest_s:
                lines.popleft()
            if not lines:
                del self._memory[page]


def _append(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.exists() and sum(1 for _ in path.parent.glob("*.jsonl")) >= MAX_PAGES:
        raise _too_many()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "ab") as file:
        file.write(data)


def _too_many() -> ConflictError:
    return ConflictError(f"{MAX_PAGES} pages have shown the code already", cure="reload fewer of them")
