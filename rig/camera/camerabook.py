"""What is remembered of each camera from drive to drive: the name the crew gave it, and the delay of its stream.

`cameras.json`: `{"<serial>": {"label": "left"}}`.

`delays.json`: `{"<serial>": {"delay_ms": 231.4, "sigma_ms": 14.5, "codes": 87, "measured": "2026-11-22T14:03:12Z"}}`.
`delay_ms` is from the middle of a frame's exposure (middle row) until the first datagram of its picture was received,
measured with the time code; of many pictures the early ones count (10th percentile). `sigma_ms` is its standard error,
the display's unmeasured delay included. So a stream without any code can be dated: UTC of a frame is the arrival of its
picture (`arrival_monotonic_ns` of the index, as UTC) minus `delay_ms`.
"""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rig.errors import ConflictError
from rig.files import read_entries, write_entries

LABELS, DELAYS = "cameras.json", "delays.json"


@dataclass(frozen=True, slots=True)
class Delay:
    """The delay of a camera's stream, from how many codes, and when it was measured."""

    delay_ms: float
    sigma_ms: float
    codes: int
    measured: str


class CameraBook:
    """Both files of an output folder. Safe to use from several threads."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self._writing = threading.Lock()
        labels = read_entries(output / LABELS)
        self._labels = {serial: str(entry["label"]) for serial, entry in labels.items() if entry.get("label")}
        self._delays: dict[str, Delay] = {}
        self._delays_changed_ns = 0

    def label(self, serial: str) -> str | None:
        """The name of a camera, None without one."""
        return self._labels.get(serial)

    def delay(self, serial: str) -> Delay | None:
        """The delay of a camera's stream, None when it was never measured."""
        changed_ns = _changed_ns(self._output / DELAYS)
        if changed_ns != self._delays_changed_ns:  # by this process or by a job
            self._delays, self._delays_changed_ns = load_delays(self._output), changed_ns
        return self._delays.get(serial)

    def set_label(self, serial: str, label: str) -> None:
        """Name a camera; an empty label takes the name away. Raises ConflictError when another one is called so."""
        with self._writing:
            others = {name: other for other, name in self._labels.items() if other != serial}
            if label in others:
                raise ConflictError(f"camera {others[label]} is called {label} already", cure="choose another name")
            labels = {key: name for key, name in self._labels.items() if key != serial}
            labels |= {serial: label} if label else {}
            write_entries(self._output / LABELS, {key: {"label": name} for key, name in labels.items()})
            self._labels = labels

    def set_delay(self, serial: str, delay: Delay) -> None:
        """Remember the delay of a camera's stream."""
        with self._writing:
            store_delays(self._output, {serial: delay})


def load_delays(output: Path) -> dict[str, Delay]:
    """The delays that were measured, by serial number of the camera."""
    delays = {serial: _delay(entry) for serial, entry in read_entries(output / DELAYS).items()}
    return {serial: delay for serial, delay in delays.items() if delay is not None}


def store_delays(output: Path, news: Mapping[str, Delay]) -> None:
    """Keep the delays that were measured now, and of other cameras what was known before."""
    delays = {**load_delays(output), **news}
    write_entries(output / DELAYS, {serial: asdict(delay) for serial, delay in delays.items()})


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _delay(entry: dict[str, Any]) -> Delay | None:
    try:
        return Delay(float(entry["delay_ms"]), float(entry["sigma_ms"]), int(entry["codes"]), str(entry["measured"]))
    except (KeyError, TypeError, ValueError):
        return None
