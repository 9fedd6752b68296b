"""What all commands share: exit codes of what went wrong, one line for it, results as words or JSON, progress."""

import argparse
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from configs import SettingError
from rig import cli
from rig.errors import NoSpaceError

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Made:
    """What a command has made."""

    photos: int
    failed: tuple[str, ...] = ()


Body = Callable[[argparse.Namespace], object]


def run(body: Body, *argv: str) -> int:
    return cli.run(argparse.ArgumentParser(prog="make"), body, lambda made: f"{made.photos} photos", argv)


def raising(error: BaseException) -> Body:
    def body(_options: argparse.Namespace) -> object:
        raise error

    return body


def test_a_result_is_told_in_words_or_as_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda _: Made(3)) == 0
    assert capsys.readouterr().out == "3 photos\n"
    assert run(lambda _: Made(3), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"photos": 3, "failed": []}


def test_a_dry_run_says_that_it_was_one(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="make")
    parser.add_argument("--dry-run", action="store_true")
    assert cli.run(parser, lambda _: Made(3), str, ["--dry-run"]) == 0
    assert capsys.readouterr().err == "make: a dry run: nothing was written\n"


def test_a_reader_who_goes_away_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    program = "import argparse; from rig import cli; cli.run(argparse.ArgumentParser(), lambda _: {}, str, [])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, check=True)
    os.close(writer)
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "make: interrupted"),
        (SettingError("setting port is 'x'"), 2, "make: setting port is 'x'"),
        (NoSpaceError("the disk is full", cure="delete\nsomething"), 8, "make: the disk is full: delete something"),
        (OSError(errno.ENOSPC, "No space left on device"), 8, "make: the disk is full: make room"),
        (
            PermissionError(errno.EACCES, "Permission denied", "/root/out"),
            3,
            "make: /root/out cannot be used (Permission denied): name another, or see its rights",
        ),
        (ConnectionError("reset"), 1, "make: defect: ConnectionError: reset"),
        (ZeroDivisionError("by zero"), 1, "make: defect: ZeroDivisionError: by zero"),
    ],
)
def test_what_went_wrong_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raising(error)) == code
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{line}\n")


def test_json_tells_of_an_error_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(NoSpaceError("full")), "--json") == 8
    assert json.loads(capsys.readouterr().out) == {"error": "full", "exit_code": 8}
    assert run(raising(KeyboardInterrupt()), "--json") == 130
    assert json.loads(capsys.readouterr().out) == {"error": "interrupted", "exit_code": 130}


def test_only_verbose_says_where_an_error_came_from(caplog: pytest.LogCaptureFixture) -> None:
    run(raising(ZeroDivisionError("by zero")))
    assert not caplog.records
    run(raising(ZeroDivisionError("by zero")), "-v")
    assert "raise error" in caplog.text


def test_inputs_that_failed_end_a_result_with_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(lambda _: Made(3, ("a.mp4 is empty", "b.mp4 is empty"))) == 3
    said = capsys.readouterr()
    assert said.out == "3 photos\n"
    assert said.err == "make: a.mp4 is empty (and 1 more: --json names all)\n"


def test_progress_tells_what_is_left_where_somebody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = cli.Progress("photos")
    silent(0.5)
    assert capsys.readouterr().err == ""
    now_s = 100.0
    monkeypatch.setattr("rig.cli.time", SimpleNamespace(monotonic=lambda: now_s))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = cli.Progress("photos")
    progress(0.5)  # an interrupted run had done so much
    assert "left" not in capsys.readouterr().err
    now_s = 110.0
    progress(0.75)  # a quarter in 10 s
    assert "photos:  75%,   10 s left" in capsys.readouterr().err
    progress(1.0)
    assert capsys.readouterr().err.endswith("\n")
