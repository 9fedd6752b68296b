"""What earlier recordings taught of each camera: its crystal's rate and its stream's delay, in `rates.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from rig.files import write_atomically

NAME = "rates.json"


@dataclass(frozen=True, slots=True)
class CameraRate:
    """Of one camera; None where no recording has told. The rate is UTC's against PTS, minus one."""

    rate_ppm: float | None = None
    delay_ms: float | None = None  # from mid-exposure to the arrival of the fastest pictures of its stream


def load(folder: Path) -> dict[str, CameraRate]:
    """By serial number; empty when nothing readable is there."""
    try:
        values = json.loads((folder / NAME).read_text(encoding="utf-8"))
        return {str(serial): _known(entry) for serial, entry in values.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _known(entry: Mapping[str, object]) -> CameraRate:
    values = {field.name: entry.get(field.name) for field in fields(CameraRate)}
    return CameraRate(**{name: float(value) for name, value in values.items() if isinstance(value, int | float)})


def learn(folder: Path, news: Mapping[str, CameraRate]) -> None:
    """Keep what was measured now, and of the rest what was known before."""
    known = load(folder)
    for serial, new in news.items():
        old = known.get(serial, CameraRate())
        measured = {name: value for name, value in asdict(new).items() if value is not None}
        known[serial] = replace(old, **measured)
    if news and folder.is_dir():
        text = json.dumps({serial: asdict(rate) for serial, rate in sorted(known.items())}, indent=1)
        write_atomically(folder / NAME, text.encode())
