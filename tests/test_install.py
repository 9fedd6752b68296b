"""What `./edencar install` does to the system, in a folder that stands for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.machine import PATHS, machine, needs_systemd

PROJECT = Path(__file__).parents[1]
RULES = PROJECT / "system" / "udev.rules"
UNIT = PROJECT / "server.service"
RULE = re.compile(r'([A-Z]+(\{\w+\})?(==|!=|=|\+=)"[^"]*"(, |$))+')
EXPOSURE = 20  # tenths
INSTALLED = {
    "etc/systemd/system/edencar.service": UNIT,
    "etc/udev/rules.d/60-edencar.rules": RULES,
    "etc/sysctl.d/60-edencar.conf": PROJECT / "system" / "sysctl.conf",
    "etc/systemd/system.conf.d/60-edencar.conf": PROJECT / "system" / "watchdog.conf",
    "etc/sysusers.d/edencar.conf": PROJECT / "system" / "user.conf",
    "opt/edencar/server.py": PROJECT / "server.py",
    "opt/edencar/edencar": PROJECT / "edencar",
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make a user in another root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of a system with the users that every system has."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\ndialout:x:20:\n")
    return tmp_path


def edencar(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROJECT / "edencar"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def there(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


@as_root
def test_install_says_what_it_does_does_it_and_keeps_it(root: Path) -> None:
    before = there(root)
    dry = edencar("install", "--root", str(root), "--dry-run")
    assert (dry.returncode, there(root)) == (0, before)
    done = edencar("install", "--root", str(root))
    assert done.returncode == 0, done.stderr
    for target, source in INSTALLED.items():
        assert (root / target).read_bytes() == source.read_bytes()
        assert target.startswith("opt/") or str(root / target) in dry.stderr
    assert (root / "etc/udev/rules.d/60-edencar.rules").stat().st_mode & 0o777 == 0o644
    pin = (root / "etc/edencar/pin").read_text()
    assert re.fullmatch(r"\d{6}\n", pin)
    assert (pin.strip() in done.stdout, pin.strip() in done.stderr) == (True, False)
    assert (root / "etc/edencar/pin").stat().st_mode & 0o777 in (0o600, 0o640)
    (root / "opt/edencar/old.py").write_text("raise SystemExit")
    files = there(root)
    again = edencar("install", "--root", str(root))
    assert (again.returncode, again.stdout) == (0, "")
    assert there(root) == files - {"opt/edencar/old.py"}
    assert (root / "etc/edencar/pin").read_text() == pin


@as_root
def test_the_installed_program_runs_without_the_rest(root: Path) -> None:
    edencar("install", "--root", str(root))
    command = [sys.executable, str(root / "opt/edencar/server.py"), "--help"]
    subprocess.run(command, cwd=root / "etc/edencar", check=True, stdout=subprocess.DEVNULL)


@as_root
@pytest.mark.parametrize("verb", ["setup", "upload"])
def test_the_installed_entrance_lacks_no_list_of_packages(root: Path, verb: str) -> None:
    edencar("install", "--root", str(root))
    python = root / "opt/edencar/.venv/bin/python"  # one that has everything
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    command = ["sh", "-c", 'exec "$1" "$2" 2>&1', "-", str(root / "opt/edencar/edencar"), verb]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = r"edencar: installing the Python packages of requirements\S*\.txt \(.*\)\n"
    assert re.fullmatch(said, done.stdout)


@as_root
def test_the_installed_program_measures_and_its_pages_lead_nowhere_else(root: Path) -> None:
    edencar("install", "--root", str(root))
    program = root / "opt/edencar"
    command = [sys.executable, "-P", "-m", "measure", "delay", "--help"]
    environment = {**os.environ, "PYTHONPATH": str(program)}
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    for page in (program / "README.md", program / "Procédure.md"):
        links = re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8"))
        assert [link for link in links if not (program / link).exists()] == []


@as_root
@pytest.mark.parametrize(
    ("words", "missing"),
    [
        (("demo",), "simulator"),
        (("measure", "--simulated", "fov"), "simulator"),
        *((verb, "tests") for verb in (("test",), ("judges",), ("check",))),
        (("bench", "nmea"), "benchmarks"),
    ],
)
def test_the_installed_entrance_says_what_only_a_clone_can_do(root: Path, words: tuple[str, ...], missing: str) -> None:
    edencar("install", "--root", str(root))
    command = [str(root / "opt/edencar/edencar"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"edencar: {words[0]} needs the folder {missing}/, .*\n", done.stderr)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """As much of a clone as `./edencar bench` looks at, with a Python that only says what it is told."""
    for name in ("edencar", *(path.name for path in PROJECT.glob("requirements*.txt"))):
        shutil.copy(PROJECT / name, tmp_path)
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks/speed.py").touch()
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    return tmp_path


def test_a_benchmark_is_named_before_anything_is_installed_for_it(clone: Path) -> None:
    command = [str(clone / "edencar"), "bench", "speed.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "edencar: no such benchmark: speed.py (they are: speed)\n"


@pytest.mark.parametrize("words", [(), ("speed",), ("speed", "--films", "2 3")])
def test_options_behind_a_benchmark_reach_it(clone: Path, words: tuple[str, ...]) -> None:
    command = [str(clone / "edencar"), "bench", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == " ".join(("benchmarks/speed.py", *words[1:]))


@as_root
def test_uninstall_takes_away_all_but_the_recordings(root: Path) -> None:
    before = {path for path in root.rglob("*") if path.is_dir()}
    edencar("install", "--root", str(root))
    recording = root / "var/lib/edencar/2026-11-22_14-03-12/recording.json"
    recording.parent.mkdir(parents=True)
    recording.write_text("{}")
    files = there(root)
    assert edencar("uninstall", "--root", str(root), "--dry-run").returncode == 0
    assert there(root) == files
    assert edencar("uninstall", "--root", str(root)).returncode == 0
    assert not there(root) & {*INSTALLED, "etc/edencar/pin"}
    assert recording.exists()
    # Of folders only those are left that every system has, or that have the recordings.
    left = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir() and path not in before}
    usual = {"opt", "etc/udev", "etc/udev/rules.d", "etc/sysctl.d", "etc/systemd", "etc/systemd/system"}
    assert not [name for name in left - usual if not name.startswith("var")]
    again = edencar("uninstall", "--root", str(root))
    assert (again.returncode, "is not there" in again.stderr) == (0, True)


def test_a_wifi_is_set_up_without_telling_its_password() -> None:
    for options in (["--hotspot", "correct horse"], ["--join", "depot", "correct horse"]):
        dry = edencar("install", "--dry-run", *options)
        assert dry.returncode == 0
        assert "nmcli connection add" in dry.stderr
        assert "correct horse" not in dry.stderr + dry.stdout
    assert "8 characters" in edencar("install", "--dry-run", "--hotspot", "short").stderr


NETWORK_MANAGER = """
mkdir -p /run/dbus
dbus-daemon --system
NetworkManager
for wifi in "--hotspot correct+horse" "--hotspot correct+horse" "--hotspot +" "--join depot correct+horse"; do
    set -- ${wifi%+}
    [ $# -gt 1 ] || set -- "$@" ""
    /mnt/project/edencar install --no-start "$@" >/dev/null 2>&1
    echo "$wifi"
    cat /etc/NetworkManager/system-connections/edenCar*
done
/mnt/project/edencar uninstall >/dev/null 2>&1
echo end
nmcli -g NAME,TYPE connection show
"""


@needs_systemd
@pytest.mark.skipif(
    not all(shutil.which(name, path=PATHS) for name in ("NetworkManager", "nmcli", "dbus-daemon")),
    reason="network-manager or dbus is not installed here",
)
def test_network_manager_takes_each_wifi_and_loses_it_again(tmp_path: Path) -> None:
    """A real NetworkManager without a radio: what it keeps of a connection is what it would use."""
    with machine(tmp_path / "disk") as system:
        said = system.call("unshare", "--net", "sh", "-euc", NETWORK_MANAGER)
    *wifis, left = re.split(r"(?m)^(?:--.*|end)\n", said)[1:]
    secured, again, open_one, joined = (re.sub("(?m)^uuid=.*\n", "", one) for one in wifis)
    assert again == secured
    for line in ("type=wifi", "mode=ap", "ssid=edenCar", "method=shared"):
        assert f"{line}\n" in secured
        assert f"{line}\n" in open_one
    for line in ("key-mgmt=wpa-psk", "psk=correct+horse", "proto=rsn;", "pairwise=ccmp;", "group=ccmp;"):
        assert f"{line}\n" in secured
    assert "psk" not in open_one
    assert "[wifi-security]" not in open_one
    for line in ("mode=infrastructure", "ssid=depot", "key-mgmt=wpa-psk", "psk=correct+horse"):
        assert f"{line}\n" in joined
    assert "mode=ap" not in joined
    assert "wifi" not in left
    assert "wireless" not in left


def test_a_failure_and_a_wrong_option_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "opt").write_text("in the way")
    failed = edencar("install", "--root", str(tmp_path))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1] == "edencar: that did not work (it needs root: sudo ./edencar install)"
    wrong = edencar("install", "--fast")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (1, 1)
    assert "does not know '--fast'" in wrong.stderr


def test_help_only_helps() -> None:
    for verb in ("install", "uninstall", "check", "bench"):
        shown = edencar(verb, "--help")
        assert (shown.returncode, shown.stdout[:6]) == (0, "usage:")


def test_the_service_is_as_closed_as_promised() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", str(UNIT)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_systemd_understands_the_service(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    unit = tmp_path / "edencar.service"  # with a program that is here: /opt/edencar need not be
    unit.write_text(re.sub(r"(?m)^ExecStart=.*", f"ExecStart={sys.executable}", UNIT.read_text()))
    verdict = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verdict.returncode, verdict.stderr) == (0, "")


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
    scripts = [PROJECT / name for name in ("edencar", "system/install", "tests/bare_debian.sh")]
    subprocess.run(["shellcheck", *scripts], check=True)
