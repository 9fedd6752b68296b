"""What all commands have in common: `--json`, `-v`, one line for an error, and its exit code."""

import argparse
import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from configs import SettingError
from rig.errors import EdencarError, NoSpaceError, UnreadableError, UsageError
from rig.files import is_full

EXIT_INTERRUPTED = 130
_NEGATIVE, _OPTION = re.compile(r"-\.?\d"), re.compile(r"--[a-z][a-z-]*")


def run(
    parser: argparse.ArgumentParser,
    body: Callable[[argparse.Namespace], object],
    say: Callable[[Any], str],
    argv: Sequence[str] | None = None,
) -> int:
    """Parse, do `body`, print its result for a person (by `say`) or as one JSON object, and return the exit code.

    `body` returns a dataclass or a dict. Results go to stdout, everything else to stderr. A result with lines in
    `failed` was reached without the files that they name: it ends with the code of an unreadable input.
    """
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more, and show where an error came from")
    options = parser.parse_args(_with_minus(sys.argv[1:] if argv is None else argv))
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        result = body(options)
    except KeyboardInterrupt:
        return _fail(parser.prog, options, "interrupted", EXIT_INTERRUPTED)
    except SettingError as error:
        return _fail(parser.prog, options, str(error), UsageError.exit_code)
    except EdencarError as error:
        return _fail(parser.prog, options, str(error), error.exit_code)
    except Exception as error:
        known = _of_disk(error) if isinstance(error, OSError) else None
        told = known or EdencarError(f"defect: {type(error).__name__}: {error}")
        return _fail(parser.prog, options, str(told), told.exit_code)
    _print(json.dumps(_plain(result), default=str) if options.json else say(result))
    if getattr(options, "dry_run", False):
        print(f"{parser.prog}: a dry run: nothing was written", file=sys.stderr)
    failed: Sequence[str] = getattr(result, "failed", ())
    if failed:
        more = f" (and {len(failed) - 1} more: --json names all)" if len(failed) > 1 else ""
        print(f"{parser.prog}: {' '.join(failed[0].split())}{more}", file=sys.stderr)
    return UnreadableError.exit_code if failed else 0


def _with_minus(words: Sequence[str]) -> list[str]:
    """`--lever-arm -1,0,0` as argparse understands it, which takes such a value for an option: `--lever-arm=-1,0,0`."""
    joined: list[str] = []
    for word in words:
        if _NEGATIVE.match(word) and joined and _OPTION.fullmatch(joined[-1]):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def verb_options() -> argparse.ArgumentParser:
    """A parent for the parsers of verbs: `--json` and `-v` after the verb, too; before it they have their defaults."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object")
    common.add_argument("-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="say more")
    return common


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads, as head does, has seen enough; at the end Python would try again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Progress:
    """A line on stderr that says how far the work is and how long it will take; silent when nobody looks."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: tuple[float, float] | None = None
        self._line = ""

    def __call__(self, share: float) -> None:
        """Say that a share (0 to 1) of the work is done. What the first call says was not done in this run."""
        if not sys.stderr.isatty():
            return
        now = time.monotonic()
        began, known = self._first = self._first or (now, share)
        left = f", {(now - began) * (1 - share) / (share - known):4.0f} s left" if share > known else ""
        line = f"\r{self._what}: {share:4.0%}{left} " + "\n" * (share >= 1)
        if line != self._line:
            self._line = line
            print(line, end="", file=sys.stderr, flush=True)


def _of_disk(error: OSError) -> EdencarError | None:
    """What a user can mend: a full disk, or a file or folder that cannot be used; None for all else."""
    if is_full(error):
        return NoSpaceError("the disk is full", cure="make room")
    if error.filename is None:
        return None
    return UnreadableError(
        f"{error.filename} cannot be used ({error.strerror})", cure="name another, or see its rights"
    )


def _fail(program: str, options: argparse.Namespace, message: str, exit_code: int) -> int:
    if options.verbose:
        logging.exception("where the error came from")
    if options.json:
        print(json.dumps({"error": message, "exit_code": exit_code}))
    print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return exit_code


def _plain(result: object) -> object:
    return asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
