"""The checksums of a finished recording's raw data, and whether it is still what was recorded; also a command.

`checksums.sha256` has the form of sha256sum(1), which can check it without this program.
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import configs
from rig import cli
from rig.errors import UnreadableError, UsageError
from rig.files import write_atomically
from rig.recordings import FINISHED, ID, INTERRUPTED, Recordings

NAME = "checksums.sha256"
RAW = ("videos/", "positions/", "codes/")  # what was recorded; all else is made of it and may be made anew
UPLOADS = "positions/uploads/"
CHUNK_BYTES = 1 << 20
LINE = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the files of a recording compare with their checksums; names are relative to its folder."""

    recording: str
    whole: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether all is as it was recorded; what has come since does no harm."""
        return not (self.missing or self.changed)


def seal(recordings: Recordings, recording_id: str, go_on: Callable[[], bool] = lambda: True) -> bool:
    """Write the checksums of a recording; False when it was not to `go_on`, or files came or went meanwhile.

    Raises OSError, UnknownError.
    """
    folder, lines, paths = recordings.folder(recording_id), [], [*_raw_files(recordings, recording_id)]
    for path in paths:
        total = sum_of(folder / path, go_on)
        if total is None:
            return False
        lines.append(f"{total}  {path}\n")
    if [*_raw_files(recordings, recording_id)] != paths:
        return False
    write_atomically(folder / NAME, "".join(lines).encode())
    return True


def verify(recordings: Recordings, recording_id: str, tell: Callable[[float], None] = lambda _share: None) -> Verdict:
    """Compare a recording with its checksums. Raises UnknownError, UnreadableError when it has none."""
    folder, known = recordings.folder(recording_id), read(recordings.folder(recording_id))
    present = {*_raw_files(recordings, recording_id)}
    sizes = {path: (folder / path).stat().st_size for path in known.keys() & present}
    changed, done = [], 0
    for path, size in sorted(sizes.items()):
        if sum_of(folder / path) != known[path]:
            changed.append(path)
        done += size
        tell(done / max(1, sum(sizes.values())))
    whole = len(sizes) - len(changed)
    missing, new = sorted(known.keys() - present), sorted(present - known.keys())
    return Verdict(recording_id, whole, tuple(missing), tuple(changed), tuple(new))


def unsealed(recordings: Recordings) -> Iterator[str]:
    """The recordings that lack their checksums and do not change any more, the newest first."""
    for manifest in recordings.list():
        if manifest.state in (FINISHED, INTERRUPTED) and not (recordings.output / manifest.id / NAME).exists():
            yield manifest.id


def named(recording: str) -> Path:
    """The folder of a recording that is called by its folder or its name. Raises UsageError."""
    given = Path(recording)
    folder = given.resolve() if given.is_dir() else configs.load().output.resolve() / given.name
    if not folder.is_dir():
        raise UsageError(f"there is no recording {recording}", cure="name its folder")
    if not ID.fullmatch(folder.name):
        cure = "name a recording's folder, or give it its name back, such as 2026-11-22_14-03-12"
        raise UsageError(f"{folder} is not called like a recording", cure=cure)
    return folder


def main(argv: Sequence[str] | None = None) -> int:
    """Verify one recording; exit code 3 when something is missing or changed."""
    parser = argparse.ArgumentParser(prog="edencar verify", description="Is a recording still what was recorded?")
    parser.add_argument("recording", help="its folder, or its name in the folder of all recordings")

    def body(options: argparse.Namespace) -> Verdict:
        folder = named(options.recording)
        verdict = verify(Recordings(folder.parent), folder.name, cli.Progress("checking"))
        if not verdict.good:
            print(_say(verdict), file=sys.stderr)
            raise UnreadableError(
                f"{verdict.recording} is not what was recorded", cure="take its copy, if there is one"
            )
        return verdict

    return cli.run(parser, body, _say, argv)


def _say(verdict: Verdict) -> str:
    lines = [f"{verdict.recording}: {verdict.whole} files as recorded"]
    for what in ("missing", "changed", "new"):
        lines += [f"  {what}: {name}" for name in getattr(verdict, what)]
    return "\n".join(lines)


def _raw_files(recordings: Recordings, recording_id: str) -> Iterable[str]:
    for file in recordings.files(recording_id):
        if file.path.startswith(RAW) and not file.path.startswith(UPLOADS):
            yield file.path


def sum_of(path: Path, go_on: Callable[[], bool] = lambda: True) -> str | None:
    """SHA-256 of a file; None when it was not to `go_on`. Raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            if not go_on():
                return None
            digest.update(chunk)
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # memory is for what is being recorded
    return digest.hexdigest()


def read(folder: Path) -> dict[str, str]:
    """The checksums of a recording by the files' names. Raises UnreadableError."""
    try:
        lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        cure = "they are written some time after it was stopped"
        raise UnreadableError(f"{folder.name} has no {NAME} ({error.strerror})", cure=cure) from error
    found = [LINE.fullmatch(line) for line in lines]
    if not all(found):
        raise UnreadableError(f"{folder / NAME} is not a list of checksums", cure="take its copy, if there is one")
    return {match[2]: match[1] for match in found if match}


if __name__ == "__main__":
    raise SystemExit(main())
