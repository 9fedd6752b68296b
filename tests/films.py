"""Small films for tests: each picture carries its number, the phone is shown when a phone is given."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from rig.footage.video import scan
from simulator.film import Film
from simulator.phone import Phone
from simulator.world import Street, World

BEGIN_NS = 1_795_356_192_000_000_000  # 2026-11-22T14:03:12Z
TICKS_PER_FRAME = 3003  # 30000/1001 frames a second on the 90 kHz clock
CLOCK_HZ = 90_000
TICK_NS = Fraction(1_000_000_000, CLOCK_HZ)


def write_film(
    path: Path,
    ticks: Sequence[int],
    *,
    first_number: int = 0,
    begin_ns: int = BEGIN_NS,
    phone: Phone | None = None,
    size: tuple[int, int] = (640, 360),
    options: dict[str, str] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
) -> None:
    """Write pictures with these PTS (90 kHz); the picture at PTS t was taken at `begin_ns` + t."""
    film = Film(World(begin_ns, 0, 0.0), Street(start_utc_ns=begin_ns), "left", *size)
    format_options = {"mpegts_copyts": "1", "muxdelay": "0", "muxpreload": "0"} if path.suffix == ".ts" else {}
    with av.open(str(path), "w", options=format_options) as container:
        usual = {"preset": "veryfast"} if codec == "libx264" else {}
        wishes = usual | (options or {"g": "15", "bf": "0"})
        stream = container.add_stream(codec, rate=Fraction(30000, 1001), options=wishes)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        stream.time_base = Fraction(1, CLOCK_HZ)
        for count, tick in enumerate(ticks):
            picture = film.picture(begin_ns + round(tick * TICK_NS), first_number + count, phone)
            picture.pts, picture.time_base = tick, Fraction(1, CLOCK_HZ)
            container.mux(stream.encode(picture.reformat(format=pixels)))
        container.mux(stream.encode(None))


def varying(count: int, first: int = 0, seed: int = 5) -> list[int]:
    """PTS of `count` pictures at 8 to 120 pictures a second, each step another, as phones film in changing light."""
    steps = np.random.default_rng(seed).integers(CLOCK_HZ // 120, CLOCK_HZ // 8, count)
    return [first, *(first + np.cumsum(steps[:-1])).tolist()]


def write_index(path: Path, arrival_ns: int) -> None:
    """An index that says when the pictures of a segment came: `arrival_ns` after their PTS. Its last line is torn."""
    clip = scan(path)
    rows = [f"{pts},{pts_ns + arrival_ns},0,1,0" for pts, pts_ns in zip(clip.pts, clip.pts_ns, strict=True)]
    header = "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors"
    path.with_suffix(".idx").write_text("\n".join([header, *rows, "12,"]))


def steady(count: int, first: int = 0) -> list[int]:
    """PTS of `count` pictures, one each 1001/30000 s."""
    return [first + number * TICKS_PER_FRAME for number in range(count)]


def cut(source: Path, target: Path, begin_s: float) -> None:
    """Cut off the beginning as film editors do: without decoding, an edit list hides what is needed but not shown."""
    with av.open(str(source)) as film, av.open(str(target), "w") as short:
        video = film.streams.video[0]
        copy = short.add_stream_from_template(video)
        assert video.time_base is not None
        begin = round(begin_s / video.time_base)
        film.seek(begin, stream=video)
        for packet in film.demux(video):
            if packet.pts is not None and packet.dts is not None:
                packet.pts, packet.dts = packet.pts - begin, packet.dts - begin
                packet.stream = copy
                short.mux(packet)


def without_packets(source: Path, target: Path, lost: Sequence[int]) -> None:
    """A copy of an MPEG-TS file without these packets (each 188 bytes)."""
    data = source.read_bytes()
    kept = (data[at : at + 188] for at in range(0, len(data), 188) if at // 188 not in set(lost))
    target.write_bytes(b"".join(kept))
