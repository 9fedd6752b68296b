"""What `./edencar install` does to the system, in a folder that stands for it."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
RULES = PROJECT / "system" / "60-edencar.rules"
RULE = re.compile(r'([A-Z]+(\{\w+\})?(==|!=|=|\+=)"[^"]*"(, |$))+')


def edencar(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"DESTDIR": str(root)}
    command = [str(PROJECT / "edencar"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)


def test_install_says_what_it_does_and_does_it_once(tmp_path: Path) -> None:
    target = tmp_path / "etc/udev/rules.d/60-edencar.rules"
    dry = edencar(tmp_path, "install", "--dry-run")
    assert (dry.returncode, target.exists()) == (0, False)
    done = edencar(tmp_path, "install")
    assert (done.returncode, done.stderr) == (0, dry.stderr)
    assert str(target) in done.stderr
    assert target.read_bytes() == RULES.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o644
    assert "is there already" in edencar(tmp_path, "install").stderr
    target.write_text("# an older one\n")
    edencar(tmp_path, "install")
    assert target.read_bytes() == RULES.read_bytes()


def test_uninstall_takes_away_what_is_there(tmp_path: Path) -> None:
    target = tmp_path / "etc/udev/rules.d/60-edencar.rules"
    edencar(tmp_path, "install")
    assert edencar(tmp_path, "uninstall", "--dry-run").returncode == 0
    assert target.exists()
    assert edencar(tmp_path, "uninstall").returncode == 0
    assert not target.exists()
    again = edencar(tmp_path, "uninstall")
    assert (again.returncode, "is not there" in again.stderr) == (0, True)


def test_a_failure_and_a_wrong_option_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("in the way")
    failed = edencar(tmp_path, "install")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "edencar: that did not work: are you root? (sudo ./edencar install)"
    assert edencar(tmp_path, "install", "--fast").stderr == "edencar: install knows only --dry-run, not '--fast'\n"


def test_rules_have_udevs_form() -> None:
    lines = [line for line in RULES.read_text().splitlines() if line and not line.startswith("#")]
    assert all(RULE.fullmatch(line) for line in lines)
    targets = set(re.findall(r'GOTO="(\w+)"', "\n".join(lines)))
    assert targets == set(re.findall(r'LABEL="(\w+)"', "\n".join(lines)))


def test_udev_itself_accepts_the_rules() -> None:
    udevadm = shutil.which("udevadm")
    if udevadm is None or "verify" not in subprocess.run([udevadm, "--help"], capture_output=True, text=True).stdout:
        pytest.skip("udevadm verify is not here (systemd 254 or newer has it)")
    subprocess.run([udevadm, "verify", str(RULES)], check=True)


def test_the_script_has_no_known_fault() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not here")
    subprocess.run(["shellcheck", str(PROJECT / "edencar")], check=True)
