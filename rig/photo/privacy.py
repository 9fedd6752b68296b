"""A command of the user's own sees each photo before it is final (faces, plates); where it fails, it stays out."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rig.errors import EdencarError
from rig.photo.exif import size_of

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
            if size_of(changed) == size_of(jpeg):
                return changed
        except (OSError, ValueError) as error:
            raise PrivacyError(f"{command[0]} left no JPEG ({error})") from error
    raise PrivacyError(f"{command[0]} changed the size of the photo")


def _run(words: Sequence[str], timeout_s: float) -> None:
    try:
        done = subprocess.run(words, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise PrivacyError(f"{words[0]} took longer than {timeout_s:g} s") from error
    except OSError as error:
        raise PrivacyError(f"{words[0]} cannot be run ({error.strerror})", cure="see privacy_command") from error
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode(errors="replace").split())[-MOST_SAID:]
        raise PrivacyError(f"{words[0]} ended with {done.returncode}: {said or 'it said nothing'}")
