"""One GNSS receiver on a serial port: found, read and logged, or an NMEA log of one turned into a table.

What others need of a receiver is named here, too: `receiver_worker` and what it reports.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from configs import Settings, load
from rig.cli import run
from rig.errors import DeviceError, UnreadableError, UsageError
from rig.files import write_atomically
from rig.gnss.fix import csv_line
from rig.gnss.framing import Framer
from rig.gnss.nmea import assemble
from rig.gnss.port import find_port, silence
from rig.gnss.positionlog import CSV_HEADER, CSV_NAME, INDEX_HEADER, INDEX_NAME, RAW_NAME, Arrivals
from rig.gnss.receiver import Receiver, ReceiverStatus, not_writable, receiver_worker

__all__ = ["CaptureSummary", "ReceiverStatus", "capture_positions", "main", "receiver_worker", "replay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSummary:
    """What a capture or a replay has written."""

    source: str
    baud: int | None
    folder: Path
    epochs: int
    positions: int
    sentences: int
    bad_checksums: int
    skipped_bytes: int


def capture_positions(settings: Settings, folder: Path, duration_s: float | None = None) -> CaptureSummary:
    """Log the receiver that the settings name into `folder` for so many seconds, or until Ctrl-C.

    Raises DeviceNotFoundError, DeviceError (also when the receiver is away at the end), NoSpaceError.
    """
    found = find_port(settings.receiver_port, settings.receiver_baud)
    receiver = Receiver(settings, found)
    receiver.start_log(folder)
    receiver.start()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has switched Ctrl-C off for its background
        signal.signal(number, signal.default_int_handler)
    try:
        receiver.disk_failed.wait(duration_s)
    except KeyboardInterrupt:
        kept = receiver.stop_log()
        print(f"{kept.epochs if kept else 0} epochs are in {folder}", file=sys.stderr)
        raise
    finally:
        status = receiver.status()
        ended = receiver.stop_log()
        receiver.stop()
    if receiver.disk_error is not None:
        raise not_writable(folder, receiver.disk_error)
    if ended is None or status.state == "lost":
        raise DeviceError(f"the receiver on {found.device} has vanished", cure=f"what it said is in {folder}")
    if not receiver.framer.good:
        raise silence(found.device, found.baud if receiver.framer.received_bytes else 0)
    return _summary(found.device, found.baud, folder, (ended.epochs, ended.positions), receiver.framer)


def replay(source: Path, folder: Path) -> CaptureSummary:
    """Make the three files from an NMEA log, with the arrival times of its index when one lies beside it.

    A second run replaces them. Raises UnreadableError when no sentence in it has a right checksum, DeviceError or
    NoSpaceError when the files cannot be made.
    """
    index = source.with_suffix(".idx")
    try:
        data, stamps = source.read_bytes(), index.read_bytes() if index.exists() else INDEX_HEADER.encode()
        framer = Framer()
        fixes = assemble(framer.feed(data), Arrivals(index).at)
    except OSError as error:
        raise UnreadableError(f"{source} cannot be read ({error.strerror})") from error
    if not framer.good:
        raise UnreadableError(f"{source} holds no NMEA sentence with a right checksum", cure="is it an NMEA log?")
    files = {CSV_NAME: (CSV_HEADER + "".join(map(csv_line, fixes))).encode()}
    if source.resolve() != (folder / RAW_NAME).resolve():
        files |= {INDEX_NAME: stamps, RAW_NAME: data}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise not_writable(folder, error) from error
    counts = (len(fixes), sum(fix.latitude is not None for fix in fixes))
    return _summary(str(source), None, folder, counts, framer)


def _summary(source: str, baud: int | None, folder: Path, counts: tuple[int, int], framer: Framer) -> CaptureSummary:
    return CaptureSummary(
        source=source,
        baud=baud,
        folder=folder,
        epochs=counts[0],
        positions=counts[1],
        sentences=framer.good,
        bad_checksums=framer.bad,
        skipped_bytes=framer.skipped_bytes,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command; see `--help` and docs/receiver.md."""
    parser = argparse.ArgumentParser(
        prog="capturePositions.py", description="Log a GNSS receiver's positions, or turn an NMEA log into a table."
    )
    parser.add_argument("--port", metavar="auto|DEVICE|FILE", help="auto: by name, then by listening; FILE: NMEA log")
    parser.add_argument("--baud", metavar="auto|N", help="rate of the line; auto: the usual ones are tried")
    parser.add_argument("--output", type=Path, default=Path("positions"), metavar="DIR", help="folder (%(default)s)")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="default: until Ctrl-C")
    return run(parser, _capture_or_replay, _say, argv)


def _capture_or_replay(options: argparse.Namespace) -> CaptureSummary:
    settings = load()
    port = options.port or settings.receiver_port
    if options.duration is not None and not 0 < options.duration < threading.TIMEOUT_MAX:
        raise UsageError(f"--duration {options.duration:g} is not a number of seconds above 0")
    if port != "auto" and Path(port).exists() and not Path(port).is_char_device():
        return replay(Path(port), options.output)
    baud = settings.receiver_baud if options.baud is None else _baud(options.baud)
    settings = replace(settings, receiver_port=port, receiver_baud=baud)
    return capture_positions(settings, options.output, options.duration)


def _baud(text: str) -> int:
    if text == "auto":
        return 0
    if not text.isdecimal() or int(text) == 0:
        raise UsageError(f"--baud {text!r} is neither auto nor a rate such as 115200")
    return int(text)


def _say(summary: CaptureSummary) -> str:
    return (
        f"{summary.epochs} epochs, {summary.positions} with a position, from {summary.source} in {summary.folder}; "
        f"{summary.sentences} sentences, {summary.bad_checksums} with a wrong checksum"
    )


if __name__ == "__main__":
    raise SystemExit(main())
