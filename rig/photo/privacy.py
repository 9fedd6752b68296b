"""A command of the user's own sees each photo before it is final (faces, plates); where it fails, it stays out."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rig.errors import EdencarError
from rig.photo.jpeg import has_end, size_of

PLACE = "{}"  # in the command: where the file's name goes; at its end otherwise
MOST_SAID = 200  # characters of what the command says of its failure


class PrivacyError(EdencarError):
    """The command did not do its work on a photo: nobody may see it."""

    title = "Not made private"


def make_private(jpeg: bytes, command: Sequence[str], timeout_s: float) -> bytes:
    """The photo as the command left it; without a command as it is.

    The command gets the name of a file of its own that it changes in place. Raises PrivacyError when it does not end
    with 0 in time or leaves something else than a JPEG of the same size.
    """
    if not command:
        return jpeg
    with tempfile.TemporaryDirectory(prefix="edencar-") as folder:
        path = Path(folder) / "photo.jpg"
        path.write_bytes(jpeg)
        words = [word.replace(PLACE, str(path)) for word in command]
        _run(words if PLACE in " ".join(command) else [*words, str(path)], timeout_s)
        try:
            changed = path.read_bytes()
            size, is_whole = size_of(changed), has_end(changed)
        except (OSError, ValueError) as error:
            raise PrivacyError(f"{command[0]} left no JPEG ({error})") from error
    if size != size_of(jpeg):
        raise PrivacyError(f"{command[0]} changed the size of the photo")
    if not is_whole:
        raise PrivacyError(f"{command[0]} left a picture that is cut off")
    return changed


def _run(words: Sequence[str], timeout_s: float) -> None:
    try:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    except OSError as error:
        raise PrivacyError(f"{words[0]} cannot be run ({error.strerror})", cure="see privacy_command") from error
    with process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except BaseException as error:
            _end_all(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise PrivacyError(f"{words[0]} took longer than {timeout_s:g} s") from error
            raise
    if process.returncode:
        said = " ".join((errors or output).decode(errors="replace").split())[-MOST_SAID:]
        raise PrivacyError(f"{words[0]} ended with {process.returncode}: {said or 'it said nothing'}")


def _end_all(process: "subprocess.Popen[bytes]") -> None:
    """The command, and what it has started itself."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
