"""What all commands say while they work, and of what went wrong."""

import argparse
import io
import sys
from dataclasses import dataclass

import pytest

from rig import cli


class Terminal(io.StringIO):
    """A stderr at which somebody looks."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Result:
    """Reached without some files."""

    failed: tuple[str, ...]


def test_the_time_left_is_that_of_what_this_run_does_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("rig.cli.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    progress = cli.Progress("photos")
    for share in (0.5, 0.6, 1.0):  # half was done by a run before this one
        progress(share)
    first, second, last = terminal.getvalue().split("\r")[1:]
    assert first == "photos:  50% "
    assert second == "photos:  60%,   40 s left "
    assert last == "photos: 100%,    0 s left \n"


def test_nobody_who_does_not_look_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    cli.Progress("photos")(0.5)
    assert capsys.readouterr().err == ""


def test_files_that_failed_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="it")
    assert cli.run(parser, lambda _: Result(("a is\nempty", "b is text")), lambda _: "done", []) == 3
    said = capsys.readouterr()
    assert said.out == "done\n"
    assert said.err == "it: a is empty (and 1 more: --json names all)\n"
