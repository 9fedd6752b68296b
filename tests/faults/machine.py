"""This machine once more, started by systemd in namespaces of its own: what is changed there goes when it ends.

Its disk is an overlay over this one's, its system a systemd with nothing to start; network and clock are shared.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.rig import GUARD, PROJECT, wait_for

SYSTEMD = Path("/lib/systemd/systemd")
PYTHON = Path("/usr/bin/python3")  # the service sees no home, where another one may lie
PATHS = "/usr/sbin:/usr/bin:/sbin:/bin"
# What a unit waits for; this machine's own services are nobody's business here.
TARGETS = ("sysinit", "basic", "multi-user", "network", "local-fs", "shutdown", "car")
CALL_S = 120

START = """set -eu
base=$1 project=$2 packages=$3 python=$4 stamp=$5
mount -t tmpfs tmpfs "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
root=$base/root
mkdir -p "$root/mnt/project" "$root/mnt/packages" "$root/mnt/old"
for bound in "$project mnt/project" "$packages mnt/packages" "/proc/sys proc/sys"; do
    [ "${bound#* }" != proc/sys ] || mount -t proc proc "$root/proc"
    mount --bind "${bound% *}" "$root/${bound#* }"
    mount -o remount,ro,bind "$root/${bound#* }"
done
mount --rbind /dev "$root/dev"
mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
awk '$3 ~ /^cgroup2?$/ { print $2, $3, $4 }' /proc/mounts >"$base/cgroups"
! grep -q ' cgroup ' "$base/cgroups" || mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
while read -r at kind options; do
    mkdir -p "$root$at"
    case $kind in
    cgroup) mount -t cgroup -o "$(echo "$options" | sed 's/^r[ow],//;s/relatime,//')" cgroup "$root$at" ;;
    cgroup2) mount -t cgroup2 cgroup2 "$root$at" ;;
    esac
done <"$base/cgroups"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mkdir "$root/run/units"
for name in $TARGETS; do
    printf '[Unit]\\nDefaultDependencies=no\\n' >"$root/run/units/$name.target"
done
# The kernel's settings are not this machine's alone.
rm -f "$root/usr/sbin/sysctl"
# What `setup` would bring out of the net.
chroot "$root" "$python" -m venv --without-pip /opt/edencar/.venv
echo /mnt/packages >"$(echo "$root"/opt/edencar/.venv/lib/python3.*/site-packages)/shared.pth"
touch "$root/opt/edencar/.venv/$stamp"
cd "$root"
pivot_root . mnt/old
umount -l /mnt/old
exec env -i container=other PATH="$PATH" SYSTEMD_UNIT_PATH=/run/units:/etc/systemd/system \\
    /lib/systemd/systemd --system --unit=car.target --log-target=console --log-level=notice --show-status=no
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """A running system; `pid` is that of its systemd as this one sees it."""

    pid: int
    log: Path

    def path(self, name: str) -> Path:
        """Where a file of that system can be read from here."""
        return Path(f"/proc/{self.pid}/root{name}")

    def call(self, *command: str) -> str:
        """What a command says there, both outputs. Raises AssertionError when it fails."""
        done = self.run(*command)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        enter = ["nsenter", f"--target={self.pid}", "--pid", "--mount", "--uts", "--ipc", "--cgroup", "--"]
        return subprocess.run(
            [*enter, *command],
            env={"PATH": PATHS, "LANG": "C.UTF-8"},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=CALL_S,
        )

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit."""
        said = self.call("systemctl", "show", unit, "-p", ",".join(properties))
        return dict(line.split("=", 1) for line in said.splitlines())


def _lacking() -> str:
    """Why no such machine can be had here; nothing where it can."""
    if os.geteuid() != 0:
        return "only root may start a system"
    missing = [name for name in ("unshare", "nsenter", "pivot_root", "systemctl") if not shutil.which(name, path=PATHS)]
    if missing or not SYSTEMD.exists():
        return f"{' '.join(missing) or 'systemd'} is not here"
    asked = [str(PYTHON), "-c", "import sys, venv; print(sys.version_info[:2])"]
    if subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip() != str(sys.version_info[:2]):
        return f"{PYTHON} is not of the version that has the packages"
    return ""


needs_systemd = pytest.mark.skipif(bool(_lacking()), reason=_lacking() or "all is here")


@contextmanager
def own_cgroups(name: str) -> Iterator[list[Path]]:
    """A group in each hierarchy, for a system that takes its group for the root of all."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    made = [Path(at) / name for _, at, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]
    try:
        for group in made:
            group.mkdir()
            for setting in ("cpuset.cpus", "cpuset.mems"):  # a new group has none, and takes no process then
                if (group / setting).exists() and not (group / "cgroup.controllers").exists():
                    (group / setting).write_text((group.parent / setting).read_text())
        yield made
    finally:
        for group in made:
            for folder in [*sorted((one for one in group.rglob("*") if one.is_dir()), reverse=True), group]:
                _remove(folder)


def _remove(group: Path) -> None:
    """A group goes once the last of its processes has gone."""
    for _ in range(100):
        with suppress(FileNotFoundError):
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.05)
                continue
        return


@contextmanager
def machine(folder: Path) -> Iterator[Machine]:
    """Start one, its disk below `folder` as long as it runs. Skips the test where that cannot be done."""
    folder.mkdir()
    log = folder.with_name("machine.log")
    packages = Path(pytest.__file__).parents[1]
    words = (PROJECT / "requirements.txt").read_bytes() * 2
    summed = subprocess.run(["cksum"], input=words, capture_output=True, check=True).stdout.decode()
    stamp = f".requirements.txt.{summed.replace(' ', '').strip()}"
    start = ["sh", "-c", START, "-", *map(str, (folder, PROJECT, packages, PYTHON)), stamp]
    enter = 'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
    spaces = ["--pid", "--mount", "--uts", "--ipc", "--cgroup", "--fork", "--kill-child=KILL", "--propagation=private"]
    with own_cgroups(f"edencar-{os.getpid()}") as groups, log.open("wb") as out:
        started = subprocess.Popen(
            [*GUARD, "sh", "-euc", enter, "-", *map(str, groups), "--", "unshare", *spaces, *start],
            env={"PATH": PATHS, "TARGETS": " ".join(TARGETS)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
        try:
            yield _wait(started, log)
        finally:
            started.kill()
            started.wait()


def _wait(started: "subprocess.Popen[bytes]", log: Path) -> Machine:
    def systemd() -> int:
        if started.poll() is not None:
            pytest.skip(f"systemd cannot be started here: {log.read_text(errors='replace')[-500:]}")
        children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
        ready = children and Path(f"/proc/{children[0]}/root/run/systemd/private").exists()
        return int(children[0]) if ready else 0

    made = Machine(wait_for(systemd), log)
    wait_for(lambda: made.run("systemctl", "is-active", "car.target").returncode == 0)
    return made
