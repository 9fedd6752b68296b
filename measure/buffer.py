"""How long the stream's buffers hold when a program or a disk is held up, and what is lost beyond."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from configs import Settings
from configs import load as load_settings
from measure import charts, fifos
from measure.fifos import Fifo, Read, said
from measure.report import Bar, Chart, Said, Table, Verdict, in_words, write_csv, write_report
from measure.session import USUAL_OUTPUT, chosen, find_cameras, output_folder, tell
from measure.stalls import Age, HeldRecorder, Hold, Loss, Opening, What, loss_of, open_camera, period_s, shift_ms
from measure.words import phrase
from rig import cli
from rig.camera.finding import FoundCamera
from rig.camera.opengopro import TROUBLE, GoPro
from rig.clock import NS_PER_S
from rig.errors import UnreadableError
from rig.files import free_bytes
from rig.footage.stream import QUEUE_BYTES
from rig.footage.tail import Line

PARTS = ("program", "disk", "libraries")
SHARES = (0.5, 0.8, 1.25, 2.0, 4.0)  # of what a buffer should hold: the stalls, until something is lost
FIRST_S = 6.0  # in peace: tells the stream's pace
RATE_S = 1.0
MOST_SHIFT_MS = 10.0
WORDS: dict[What, str] = {"program": "the kernel's buffer", "disk": "the recorder's queue"}
HELD: dict[What, str] = {"program": "the whole program stands still", "disk": "the disk does not answer"}


@dataclass(frozen=True, slots=True)
class Stall:
    """One stall of the recorder and what it cost."""

    what: What
    seconds: float
    lost_datagrams: int
    held_s: Bar | None  # until the first loss; None: there was none, or the index does not show where
    held_bytes: Bar | None
    missing_s: float
    shift_ms: float
    recovered_s: float


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a recorder did under stalls that grew until something was lost."""

    bytes_per_s: float
    pictures: int
    stalls: tuple[Stall, ...]
    ages: tuple[Age, ...]
    lost_in_peace: int  # datagrams that were lost while nothing was held up

    def first_loss(self, what: What) -> Stall | None:
        """The stall of a kind at which something was lost; None when none was."""
        return next((stall for stall in self.stalls if stall.what == what and stall.held_s), None)

    def longest_kept(self, what: What) -> float:
        """Seconds of the longest stall of a kind that cost nothing."""
        return max((s.seconds for s in self.stalls if s.what == what and not s.lost_datagrams), default=0.0)


def measure_buffers(
    opening: Opening,
    folder: Path,
    settings: Settings,
    room_bytes: dict[What, int],
    nudge: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = tell,
    in_peace_s: Callable[[float], float] = lambda _pace: 0.0,
) -> tuple[Buffers, list[Line]]:
    """Hold up a recorder for longer and longer, by what each kind of stall should leave room for.

    `in_peace_s` says, by the stream's bytes a second, for how long it is recorded before. Raises DeviceError when no
    stream comes.
    """
    stalls: list[Stall] = []
    with HeldRecorder(opening, folder, settings, nudge) as recorder:
        recorder.watch(FIRST_S)
        pace = recorder.bytes_per_s()
        recorder.watch(in_peace_s(pace) - FIRST_S)
        for what, room in room_bytes.items():
            for share in SHARES:
                seconds = share * room / pace
                say(f"{HELD[what]} for {seconds:.1f} s")
                stalls.append(_stall(recorder.hold(what, seconds), recorder.lines))
                if stalls[-1].held_s:
                    break
        pace = recorder.bytes_per_s()
        lost = recorder.lost()
    peace = lost - sum(stall.lost_datagrams for stall in stalls)
    return Buffers(pace, len(recorder.lines), tuple(stalls), tuple(recorder.ages), peace), recorder.lines


def _stall(hold: Hold, lines: Sequence[Line]) -> Stall:
    loss: Loss | None = loss_of(lines, hold) if hold.lost_datagrams else None
    return Stall(
        what=hold.what,
        seconds=round(hold.seconds, 3),
        lost_datagrams=hold.lost_datagrams,
        held_s=loss.held_s if loss else None,
        held_bytes=loss.held_bytes if loss else None,
        missing_s=round(loss.missing_s, 3) if loss else 0.0,
        shift_ms=round(shift_ms(lines, hold), 2),
        recovered_s=round(hold.recovered_s, 3),
    )


def measure_libraries(lines: Sequence[Line], pace: float) -> tuple[list[Fifo], list[Read]]:
    """The same stream, from disk over loopback, to libraries whose program is held up for longer and longer."""
    pauses = _pauses_s(pace)
    film = fifos.film_of(lines, fifos.needed_s(pauses))
    if not film:
        raise UnreadableError("nothing was recorded without a loss", cure="look at cable and load")
    tell(f"sending {film[-1].second:.0f} s of it to OpenCV and PyAV")
    reads, end_s = fifos.replay(film, pauses)
    return [fifos.judge(read, period_s(lines), end_s) for read in reads], reads


def film_s(pace: float) -> float:
    """How long a film the libraries need of a stream with so many bytes a second."""
    return fifos.needed_s(_pauses_s(pace))


def _pauses_s(pace: float) -> list[float]:
    return [share * fifos.FIFO_BYTES / pace for share in SHARES[:4]]


# --- the command ------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """`./edencar measure buffer`."""
    parser = argparse.ArgumentParser(
        prog="edencar measure buffer",
        description="Hold up the recorder of a camera's stream for longer and longer until something is lost: how many "
        "seconds its buffers keep, what is lost beyond, and what OpenCV and PyAV do with the same stream. "
        "The server must not use the camera.",
    )
    add = parser.add_argument
    add("--address", help="HOST[:PORT] of the camera (default: the first that is found)")
    add("--parts", default=",".join(PARTS), help="of these, separated by commas (%(default)s)")
    add("--output", type=Path, help=f"folder of report and recording (default: {USUAL_OUTPUT}/buffer-TIME)")
    return cli.run(parser, _run, in_words, argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    parts = chosen(options.parts, PARTS, "part")
    settings = load_settings()
    camera = find_cameras([options.address] if options.address else None, settings)[0]
    output = output_folder(options, "buffer")
    found, lines = _hold_up(camera, output / camera.serial, settings, parts)
    free_s = max(0, free_bytes(output) - settings.reserve_bytes) / found.bytes_per_s
    libraries, reads = measure_libraries(lines, found.bytes_per_s) if "libraries" in parts else ([], [])
    _write_csv(output, found, reads)
    library_tables = [Table.of(libraries, LIBRARY_COLUMNS)] if libraries else []
    told = write_report(
        output,
        "How long the buffers hold",
        phrase(
            "{model} {serial}, {pace:.2f} Mbit/s, {pictures} pictures; bars hold the first lost datagram",
            model=camera.model,
            serial=camera.serial,
            pace=found.bytes_per_s * 8 / 1e6,
            pictures=found.pictures,
        ),
        [*_verdicts(found, free_s), *map(_judge_library, libraries)],
        [Table.of(found.stalls, STALL_COLUMNS), *library_tables, *_charts(found, reads)],
    )
    return told | {
        "bytes_per_s": round(found.bytes_per_s),
        "disk_holds_s": round(free_s),
        "lost_in_peace": found.lost_in_peace,
        "stalls": [asdict(stall) for stall in found.stalls],
        "libraries": [asdict(item) for item in libraries],
    }


def _hold_up(camera: FoundCamera, folder: Path, settings: Settings, parts: Sequence[str]) -> tuple[Buffers, list[Line]]:
    folder.mkdir(parents=True)  # an earlier recording in it would be taken for this one
    room: dict[What, int] = {"program": settings.receive_buffer_bytes, "disk": QUEUE_BYTES}
    room = {what: size for what, size in room.items() if what in parts}
    # The recording of a disk that is held up is longer than any film that the libraries need.
    lacks_film = "libraries" in parts and "disk" not in parts
    in_peace_s = film_s if lacks_film else lambda _pace: 0.0
    with closing(GoPro(camera.address)) as gopro:
        opening, awake = partial(open_camera, camera.address), partial(_keep_awake, gopro)
        return measure_buffers(opening, folder, settings, room, awake, in_peace_s=in_peace_s)


def _keep_awake(camera: GoPro) -> None:
    with suppress(*TROUBLE):
        camera.keep_alive()


def _verdicts(found: Buffers, free_s: float) -> list[Verdict]:
    verdicts = [_judge(found, what) for what in dict.fromkeys(stall.what for stall in found.stalls)]
    text = "the disk has room for {hours:.1f} h of this stream"
    verdicts.append(Verdict(phrase(text, hours=free_s / 3600), free_s > 3600))
    if found.stalls:
        text = "what was kept bears the times at which it came: {shift:.1f} ms off at most"
        shift = max(abs(stall.shift_ms) for stall in found.stalls)
        verdicts.append(Verdict(phrase(text, shift=shift), shift < MOST_SHIFT_MS))
    if found.lost_in_peace:
        text = "{lost} datagrams were lost while nothing was held up: look at cable and load"
        verdicts.append(Verdict(phrase(text, lost=found.lost_in_peace), good=False))
    return verdicts


def _judge(found: Buffers, what: What) -> Verdict:
    loss = found.first_loss(what)
    kept = found.longest_kept(what)
    if loss is None or loss.held_s is None or loss.held_bytes is None:
        lost = sum(stall.lost_datagrams for stall in found.stalls if stall.what == what)
        if lost:
            text = "{held}: {kept:.1f} s cost nothing, longer ones {lost} datagrams; the index does not show when"
            return Verdict(phrase(text, held=HELD[what], kept=kept, lost=lost), good=False)
        text = "{held}: {kept:.1f} s cost nothing, the longest that was tried"
        return Verdict(phrase(text, held=HELD[what], kept=kept), good=True)
    return Verdict(
        phrase(
            "{held}: {buffer} keeps {seconds:.2f} ± {error:.2f} s ({megabytes:.2f} MB); beyond, datagrams vanish "
            "({lost} counted, {missing:.1f} s of pictures) and the recording goes on {recovered:.1f} s after the stall",
            held=HELD[what],
            buffer=WORDS[what],
            seconds=loss.held_s.value,
            error=loss.held_s.error,
            megabytes=loss.held_bytes.value / 1e6,
            lost=loss.lost_datagrams,
            missing=loss.missing_s,
            recovered=loss.recovered_s,
        ),
        good=loss.held_s.value > RATE_S,
    )


def _judge_library(item: Fifo) -> Verdict:
    if item.lost_after_s is None or item.held_s is None:
        if item.has_ended or item.missing:
            text = "{reader}: {said}, before it was held up"
            return Verdict(phrase(text, reader=item.reader, said=said(item)), good=False)
        text = "{reader}: pauses of up to {pause:.1f} s cost nothing, {late:.1f} s late at most"
        values = {"reader": item.reader, "pause": item.longest_pause_s, "late": item.most_late_s}
        return Verdict(phrase(text, **values), good=True)
    return Verdict(
        phrase(
            "{reader}: up to {late:.1f} s late; after a pause of {pause:.1f} s it had kept {kept:.1f} s and {said}",
            reader=item.reader,
            late=item.most_late_s,
            pause=item.lost_after_s,
            kept=item.held_s.value,
            said=said(item),
        ),
        good=False,
    )


def _kept(stall: Stall, kept: Bar | None, unit: float) -> str:
    if kept is None:
        return "unknown" if stall.lost_datagrams else "all"
    return f"{kept.value / unit:.2f} ± {kept.error / unit:.2f}"


STALL_COLUMNS: Mapping[str, Callable[[Stall], Said]] = {
    "held up": lambda stall: stall.what,
    "for s": lambda stall: f"{stall.seconds:.2f}",
    "lost datagrams": lambda stall: str(stall.lost_datagrams),
    "kept s": lambda stall: _kept(stall, stall.held_s, 1.0),
    "kept MB": lambda stall: _kept(stall, stall.held_bytes, 1e6),
    "pictures missing s": lambda stall: f"{stall.missing_s:.2f}",
    "shift ms": lambda stall: f"{stall.shift_ms:+.2f}",
    "recovers s": lambda stall: f"{stall.recovered_s:.2f}",
}
LIBRARY_COLUMNS: Mapping[str, Callable[[Fifo], Said]] = {
    "library": lambda item: item.reader,
    "pictures": lambda item: str(item.pictures),
    "missing": lambda item: str(item.missing),
    "lost after a pause of s": lambda item: "–" if item.lost_after_s is None else f"{item.lost_after_s:.1f}",
    "kept s": lambda item: f"{item.held_s.value:.2f} ± {item.held_s.error:.2f}" if item.held_s else "all",
    "most late s": lambda item: f"{item.most_late_s:.2f}",
    "what it did": said,
}


def _charts(found: Buffers, reads: Sequence[Read]) -> list[Chart]:
    at = np.array([age.at_ns for age in found.ages], dtype=np.float64)
    age = charts.Series("", (at - at[0]) / NS_PER_S, np.array([age.seconds for age in found.ages]))
    begin = min((float(read.at_s[0]) for read in reads if len(read.at_s)), default=0.0)
    late = [charts.Series(read.reader, read.at_s - begin, read.late_s()) for read in reads if len(read.at_s)]
    return [
        Chart("Ours: age of the newest picture on disk", "seconds", "s", [age]),
        Chart("Libraries: how late each picture is, until it stays away", "seconds", "s", late),
    ]


def _write_csv(output: Path, found: Buffers, reads: Sequence[Read]) -> None:
    begin_ns = found.ages[0].at_ns
    ages = ((round((age.at_ns - begin_ns) / NS_PER_S, 3), round(age.seconds, 3)) for age in found.ages)
    write_csv(output / "recorder.csv", ("since_s", "newest_picture_age_s"), ages)
    seen = ((read.reader, *pair) for read in reads for pair in zip(read.picture_s, read.late_s(), strict=True))
    rows = ((reader, round(float(at), 4), round(float(late), 4)) for reader, at, late in seen)
    write_csv(output / "libraries.csv", ("reader", "picture_s", "late_s"), rows)
