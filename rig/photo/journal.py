"""A folder for work in progress, and a journal of what is done: an interrupted run is continued, not begun again."""

import json
import shutil
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from rig.errors import ConflictError
from rig.files import lock_alone

NAME = "journal.jsonl"


class Journal:
    """Of the work called `key` in a folder: `head` is what its first run knew, None before; `lines` what it did.

    A context: it holds the folder against other runs, and is left as it is when the work is interrupted.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self.head: dict[str, Any] | None = None
        self.lines: list[dict[str, Any]] = []
        self._file: TextIO | None = None
        try:
            whole = (folder / NAME).read_text(encoding="utf-8").split("\n")[:-1]  # a crash may have cut the last line
            first, *lines = map(json.loads, whole)
        except (OSError, ValueError):
            return
        if first["key"] == key:
            self.head, self.lines = first["head"], lines

    def begin(self, head: dict[str, Any]) -> Self:
        """Go on, or forget what another work has left. Raises ConflictError while another run is here, OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / NAME).open("a", encoding="utf-8")
        try:
            lock_alone(self._file.fileno())
        except BlockingIOError as error:
            self._file.close()
            raise ConflictError(f"another run works in {self.folder}", cure="wait until it has ended") from error
        if self.head is None:
            self._clear()
        self.head = self.head or head
        self._file.truncate(0)
        for line in ({"key": self._key, "head": self.head}, *self.lines):
            self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        return self

    def add(self, line: dict[str, Any]) -> None:
        """Note something that is done and on the disk."""
        assert self._file is not None, "the journal was not begun"
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def remove(self) -> None:
        """All is done: take the folder away."""
        if sys.platform == "win32" and self._file is not None:
            self._file.close()  # there nothing that is open can be taken away
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._file is not None, "the journal was not begun"
        self._file.close()

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != NAME:
                path.unlink()
