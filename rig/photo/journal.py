"""A folder for work in progress, and a journal of what is done: an interrupted run is continued, not begun again."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rig.errors import ConflictError
from rig.files import lock_alone

NAME = "journal.jsonl"


class Journal:
    """Of the work called `key` in a folder: `head` is what its first run knew, None before; `lines` what it did.

    It is left as it is when the work is interrupted.
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

    @contextmanager
    def begun(self, head: dict[str, Any]) -> Iterator[None]:
        """Hold the folder against other runs; go on, or forget what another work has left.

        Raises ConflictError while another run is here, OSError.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / NAME).open("a", encoding="utf-8") as self._file:
            try:
                lock_alone(self._file.fileno())
            except BlockingIOError as error:
                raise ConflictError(f"another run works in {self.folder}", cure="wait until it has ended") from error
            if self.head is None:
                self._clear()
            self.head = self.head or head
            self._file.truncate(0)
            self._write({"key": self._key, "head": self.head}, *self.lines)
            yield

    def add(self, line: dict[str, Any]) -> None:
        """Note something that is done and on the disk."""
        self._write(line)

    def _write(self, *lines: dict[str, Any]) -> None:
        assert self._file is not None, "the journal was not begun"
        self._file.writelines(json.dumps(line) + "\n" for line in lines)
        self._file.flush()

    def remove(self) -> None:
        """All is done: take the folder away."""
        if sys.platform == "win32" and self._file is not None:
            self._file.close()  # there nothing that is open can be taken away
        shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != NAME:
                path.unlink()
