"""What earlier recordings taught of each camera's crystal: its rate, UTC's against PTS, minus one; in `rates.json`."""

from collections.abc import Mapping
from pathlib import Path

from rig.files import read_entries, write_entries

NAME = "rates.json"


def load(folder: Path) -> dict[str, float]:
    """ppm by the cameras' serial numbers; empty when nothing readable is there."""
    rates = {serial: entry.get("rate_ppm") for serial, entry in read_entries(folder / NAME).items()}
    return {serial: float(rate) for serial, rate in rates.items() if isinstance(rate, int | float)}


def learn(folder: Path, news: Mapping[str, float]) -> None:
    """Keep what was measured now, and of other cameras what was known before."""
    if news and folder.is_dir():
        write_entries(folder / NAME, {serial: {"rate_ppm": rate} for serial, rate in {**load(folder), **news}.items()})
