"""How a judge is found and asked."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

JUDGES = Path(os.environ.get("JUDGES_VENV", Path(__file__).parents[2] / ".venv-judges"))


def judge(*names: str) -> str:
    """The first of these programs that the judges' environment or the system has; the test is skipped without any."""
    for name in names:
        if program := shutil.which(name, path=f"{JUDGES / 'bin'}:{os.environ['PATH']}"):
            return program
    pytest.skip(f"{names[-1]} is not installed: see tests/judges/README.md")


def ask(
    *words: object, cwd: Path | None = None, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run it; `env` adds to the environment."""
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )
