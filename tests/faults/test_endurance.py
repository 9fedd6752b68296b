"""Hours of recording: memory, descriptors and threads stay as they are, nothing is lost."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.rig import Server

MINUTES = float(os.environ.get("ENDURANCE_MINUTES", "120"))
SAMPLE_S = 5.0
WARM_UP = 0.2  # share of the time in which caches may fill
BYTES_PER_HOUR, NOISE_BYTES = 1 << 20, 1 << 20


def sample(pid: int) -> tuple[int, int, int]:
    """A process's own share of the memory in bytes, its descriptors and its threads."""
    process = Path(f"/proc/{pid}")
    lines = (process / "smaps_rollup").read_text().splitlines()
    memory = next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return memory, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir()))


@pytest.mark.long
@pytest.mark.timeout(0)
def test_hours_of_recording_change_nothing(server: Server) -> None:
    recording_id = server.record()
    pids = {"server": server.process.pid, **server.workers}
    begun_s, seen = time.monotonic(), []
    while (elapsed_s := time.monotonic() - begun_s) < MINUTES * 60:
        seen.append((elapsed_s, {name: sample(pid) for name, pid in pids.items()}))
        assert server.status["state"] == "recording"
        time.sleep(SAMPLE_S)
    cameras = server.status["cameras"]
    server.call("POST", "/api/stop")
    assert server.manifest(recording_id)["gaps"] == []
    assert [camera["lost_datagrams"] for camera in cameras] == [0, 0]
    late = [one for one in seen if one[0] > WARM_UP * MINUTES * 60]
    hours = np.array([elapsed_s / 3600 for elapsed_s, _ in late])
    for name in pids:
        memory, descriptors, threads = (np.array([taken[name][what] for _, taken in late]) for what in range(3))
        slope = np.polyfit(hours, memory, 1)[0]
        print(f"{name}: {memory[-1] / 2**20:.0f} MiB, {slope / 2**20:+.2f} MiB/h, {descriptors[-1]} descriptors")
        assert slope * (hours[-1] - hours[0]) < BYTES_PER_HOUR * (hours[-1] - hours[0]) + NOISE_BYTES
        assert np.median(descriptors[-5:]) <= np.median(descriptors[:5])
        assert np.median(threads[-5:]) <= np.median(threads[:5]) + 1
