"""server.service as `./edencar install` leaves it, under a real systemd: works behind its walls and comes back."""

import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from simulator.receiver import Receiver
from tests.faults.machine import Machine, machine, needs_systemd
from tests.faults.rig import LOCALHOST, PATIENCE_S, SERIALS, Cameras, Server, arrivals, wait_for
from tests.machine import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(600), needs_systemd]

DIALOUT = 20  # of every Debian; GNSS receivers belong to it
WATCHDOG_S, LATER_S = 20.0, 3.0  # the unit's; required after that
STARTING_S = 5.0  # this machine is shared; included in what is printed
STOPS_S = 5.0
LOG = "/var/log/edencar.log"
FILTERED = 2  # Seccomp in proc(5)


class Service(Server):
    """The server as a service of another machine, its PIN known."""

    def __init__(self, system: Machine, port: int, pin: str) -> None:
        super().__init__(system.path("/var/lib/edencar"), {})
        self.url = f"http://{LOCALHOST}:{port}"
        self._machine, self._pin = system, pin

    def request(self, method: str, path: str, body: object = None, timeout_s: float = PATIENCE_S) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._pin}"}
        return requests.request(method, self.url + path, json=body, timeout=timeout_s, headers=headers)

    @property
    def log(self) -> str:
        return self._machine.path(LOG).read_text(errors="replace")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with machine(tmp_path_factory.mktemp("machine") / "disk") as made:
        yield made


@pytest.fixture(scope="module")
def service(system: Machine, cameras: Cameras, port: Path, receiver: Receiver) -> Service:
    """The installed service with the simulated car at its ports, up and seeing it."""
    line = port.resolve()
    os.chown(line, 0, DIALOUT)  # as udev does with a receiver's
    line.chmod(0o660)
    settings = {
        "EDENCAR_PORT": str(tcp_port := free_port()),
        "EDENCAR_CAMERAS": cameras.addresses,
        "EDENCAR_RECEIVER_PORT": str(line),
        "EDENCAR_RESERVE_BYTES": str(1 << 20),
        "EDENCAR_DISCOVER_INTERVAL_S": "0.5",
    }
    drop_in = system.path("/etc/systemd/system/edencar.service.d/car.conf")
    drop_in.parent.mkdir()
    # There is no journal there.
    outputs = f"StandardOutput=append:{LOG}\nStandardError=append:{LOG}\n"
    drop_in.write_text(f"[Service]\n{outputs}" + "".join(f"Environment={k}={v}\n" for k, v in settings.items()))
    begun_s = time.monotonic()
    said = system.call("/mnt/project/edencar", "install")
    print(f"installed and up after {time.monotonic() - begun_s:.1f} s")
    pin = re.search(r"The PIN of this car is (\d{6})\.", said)
    assert pin
    made = Service(system, tcp_port, pin[1])
    # Type=notify: `systemctl restart` came back when the server had answered itself.
    assert requests.get(f"{made.url}/healthz", timeout=PATIENCE_S).status_code == 200
    shown = system.show("edencar", "ActiveState", "SubState", "Type", "StatusText", "UnitFileState")
    assert (shown["ActiveState"], shown["SubState"], shown["Type"]) == ("active", "running", "notify")
    assert shown["UnitFileState"] == "enabled"
    made.ready(len(SERIALS))
    return made


def processes(system: Machine) -> list[Path]:
    """What runs in the service's group, as folders of /proc of this machine."""
    group = system.show("edencar", "ControlGroup")["ControlGroup"]
    tasks = next(system.path("/sys/fs/cgroup").glob(f"*{group}/cgroup.procs"), None) or system.path(
        f"/sys/fs/cgroup{group}/cgroup.procs"
    )
    return [Path(f"/proc/{pid}") for pid in tasks.read_text().split()]


def test_it_runs_behind_its_walls(service: Service, system: Machine) -> None:
    user = system.call("id", "-u", "edencar").strip()
    running = processes(system)
    assert len(running) >= 4  # the server, a worker for each device
    for process in running:
        said = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        assert said["Uid"].split() == [user] * 4
        assert (said["NoNewPrivs"], int(said["Seccomp"]), int(said["CapEff"], 16)) == ("1", FILTERED, 0)
    server = next(process for process in running if b"server.py" in (process / "cmdline").read_bytes())
    for hidden in ("root", "home"):
        assert not list((server / "root" / hidden).iterdir())
    mounts = [line.split() for line in (server / "mountinfo").read_text().splitlines()]
    assert next(words[5] for words in mounts if words[4] == "/").startswith("ro")
    devices = system.path("/sys/fs/cgroup/devices/system.slice/edencar.service/devices.list")
    assert not devices.exists() or "a *:*" not in devices.read_text()  # cgroup v2 has no such list
    assert service.request("POST", "/api/stop").status_code == 200
    assert requests.post(f"{service.url}/api/stop", timeout=PATIENCE_S).status_code == 401


def test_it_records_and_makes_photos(service: Service) -> None:
    """Streams over UDP, a serial line, the disk; OpenCV and PyAV in a job that may not write code into its memory."""
    recording_id = service.record(name="behind walls")
    time.sleep(6.0)
    assert service.call("POST", "/api/stop")["recording"]["id"] == recording_id
    manifest = service.manifest(recording_id)
    assert (manifest["state"], manifest["gaps"]) == ("finished", [])
    for serial in SERIALS:
        assert len(arrivals(service.output / recording_id / "videos" / serial)) > 100
    assert (service.output / recording_id / "positions" / "positions.csv").read_text().count("\n") > 40
    job = done(service, f"/api/recordings/{recording_id}/process", {"start_utc": manifest["started"]})
    assert job["state"] == "done", job
    photos = sorted((service.output / recording_id / "photos").rglob("*.jpg"))
    assert len(photos) >= 2 * 10
    archive = service.request("GET", f"/api/recordings/{recording_id}/download")
    assert (archive.status_code, archive.content[:2]) == (200, b"PK")


def done(service: Service, path: str, body: dict[str, Any]) -> Any:
    """A job, when it has ended."""
    job = service.call("POST", path, body)["job"]
    return wait_for(
        lambda: (
            (now := service.call("GET", f"/api/jobs/{job['id']}")["job"])["state"] not in ("queued", "running") and now
        )
    )


def test_one_that_hangs_is_killed_and_its_recording_goes_on(service: Service, system: Machine) -> None:
    recording_id = service.record(name="rue Haute")
    time.sleep(2.0)
    system.call("systemctl", "kill", "--kill-whom=main", "--signal=STOP", "edencar")
    hung_s = time.monotonic()
    wait_for(lambda: system.show("edencar", "Result")["Result"] == "watchdog")
    wait_for(lambda: system.show("edencar", "SubState")["SubState"] == "running")
    back_s = time.monotonic() - hung_s
    running = wait_for(lambda: service.status["recording"])
    recording_s = time.monotonic() - hung_s
    print(f"a service that hung was up again after {back_s:.1f} s, recording after {recording_s:.1f} s")
    assert back_s < WATCHDOG_S + LATER_S + STARTING_S
    assert (running["name"], service.manifest(running["id"])["continues"]) == ("rue Haute", recording_id)
    assert service.manifest(recording_id)["state"] == "interrupted"
    wait_for(lambda: service.status["state"] == "recording")
    wait_for(lambda: len(arrivals(service.output / running["id"] / "videos" / SERIALS[0])) > 10)
    service.call("POST", "/api/stop")


def test_one_that_dies_comes_back(service: Service, system: Machine) -> None:
    recording_id = service.record()
    system.call("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "edencar")
    killed_s = time.monotonic()
    running = wait_for(lambda: (now := service.status["recording"]) and now["id"] != recording_id and now)
    print(f"a service that was killed recorded again after {time.monotonic() - killed_s:.1f} s")
    assert service.manifest(running["id"])["continues"] == recording_id
    wait_for(lambda: service.status["state"] == "recording")
    service.call("POST", "/api/stop")


def test_it_is_stopped_in_order_and_uninstalled(service: Service, system: Machine) -> None:
    recording_id = service.record()
    time.sleep(1.0)
    begun_s = time.monotonic()
    system.call("systemctl", "stop", "edencar")
    stopped_s = time.monotonic() - begun_s
    print(f"stopped while recording after {stopped_s:.1f} s")
    assert stopped_s < STOPS_S
    shown = system.show("edencar", "Result", "ExecMainStatus", "ExecMainCode")
    assert (shown["Result"], shown["ExecMainStatus"]) == ("success", "0")
    manifest = json.loads((service.output / recording_id / "recording.json").read_bytes())
    assert manifest["state"] == "finished"
    system.call("/mnt/project/edencar", "uninstall")
    system.call("/mnt/project/edencar", "uninstall")
    for gone in ("/opt/edencar", "/etc/edencar", "/etc/systemd/system/edencar.service"):
        assert not os.path.lexists(system.path(gone))
    assert not os.path.lexists(system.path("/etc/systemd/system/multi-user.target.wants/edencar.service"))
    assert (service.output / recording_id / "recording.json").exists()
