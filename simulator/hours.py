"""Hours of a drive that nobody waits for: the recording that cameras and receiver would have left, written at once.

Its times are those of the simulated clocks, and the index names all pictures; drawn are only those of the spans in
which the code or the lamp is shown. So it tells what is computed from times: clocks that drift, a delay that grows.
Nothing is sent and nobody receives it: there is nothing to learn from it of buffers, losses, memory or processor.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from simulator.car import KNOWN_CAMERAS, SIDES, CarPlan, make_phone
from simulator.film import Film
from simulator.hero.encoder import KEY_INTERVAL, TransportStream
from simulator.hero.sensor import Rate, Size
from simulator.hero.stream import PTS_SPAN, Latency
from simulator.lamp import BLINKING_S, Lamp, blinks
from simulator.phone import Phone
from simulator.world import SECOND_NS, Crystal, Street, World

SIZE = Size.of_height(360)
BIT_RATE = 1_500_000
BOOT_NS = 5_000 * SECOND_NS  # CLOCK_MONOTONIC at the begin
SHOWN_AT = (0.0, 0.5, 1.0)  # shares of the time
CODE_S = 8.0
MARGIN_S = 2.0  # of pictures that are drawn, before and after
BEGAN_APART_S = 0.137  # camera after camera
STREAM_JITTER_MS, RECEIVER_JITTER_MS = 3.0, 0.6  # exponential
PAGE_BOUND_MS = 0.3
INDEX_HEADER = "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors\n"

Int64 = npt.NDArray[np.int64]
Spans = Sequence[tuple[int, int]]  # begin and end, true UTC


@dataclass(frozen=True, slots=True)
class Frames:
    """All pictures of one camera: the time stamps that it gives them, when they were taken and when they came."""

    pts: Int64  # ticks of 90 kHz
    utc_ns: Int64
    arrival_ns: Int64  # CLOCK_MONOTONIC


def write_recording(folder: Path, plan: CarPlan, hours: float, begin_utc_ns: int, is_lamp: bool = False) -> None:
    """Write streams with their indexes, what `measure` reads of the positions, the log of the page with the code."""
    world = World(begin_utc_ns, BOOT_NS, plan.host_rate_ppm)
    street = Street(plan.seed, begin_utc_ns)
    spans = _spans(begin_utc_ns, hours, BLINKING_S if is_lamp else CODE_S)
    phone = replace(make_phone(plan, begin_utc_ns), shown=() if is_lamp else tuple(spans))
    lamp = Lamp(tuple(edge for begin, _ in spans for edge in blinks(begin, plan.seed)) if is_lamp else ())
    dice = np.random.default_rng(plan.seed)
    for number, ((label, *_), ppm) in enumerate(zip(KNOWN_CAMERAS[: plan.cameras], plan.crystals_ppm, strict=False)):
        crystal = Crystal(ppm, plan.crystal_drift_ppm_per_hour, begin_utc_ns)
        frames = _expose(plan, crystal, world, hours, number * BEGAN_APART_S, dice)
        film = Film(world, street, SIDES.get(label, "left"), SIZE.width, SIZE.height, plan.seed)
        _write_stream(folder / "videos" / label, plan, frames, film, spans, phone, lamp)
    _write_positions(folder / "positions", plan, world, hours, dice)
    if not is_lamp:
        _write_draw_log(folder / "codes", phone, spans)


def _spans(begin_utc_ns: int, hours: float, shown_s: float) -> list[tuple[int, int]]:
    """Within the time that is filmed, with the margin on both sides."""
    room_s = hours * 3600 - shown_s - 2 * MARGIN_S - len(KNOWN_CAMERAS) * BEGAN_APART_S
    begins = [begin_utc_ns + round((2 * MARGIN_S + share * room_s) * SECOND_NS) for share in SHOWN_AT]
    return [(begin, begin + round(shown_s * SECOND_NS)) for begin in begins]


def _expose(
    plan: CarPlan, crystal: Crystal, world: World, hours: float, begin_s: float, dice: np.random.Generator
) -> Frames:
    rate = _rate(plan)
    latency = Latency(plan.stream_latency_ms, plan.latency_growth_ms_per_h, crystal.origin_utc_ns)
    count = int((hours * 3600 - begin_s) * rate.per_second)
    utc_ns = [crystal.utc_ns(begin_s + rate.at_s(number)) for number in range(count)]
    jitter_ns = np.rint(dice.exponential(STREAM_JITTER_MS * 1e6, count)).astype(np.int64)
    arrival_ns = np.array([world.monotonic_ns(taken + latency.at_ns(taken)) for taken in utc_ns], dtype=np.int64)
    pts = int(dice.integers(PTS_SPAN)) + np.arange(count, dtype=np.int64) * rate.ticks
    return Frames(pts, np.array(utc_ns, dtype=np.int64), arrival_ns + jitter_ns)


def _rate(plan: CarPlan) -> Rate:
    return Rate(25, 1) if plan.anti_flicker_hz == 50 else Rate(30000, 1001)


def _write_stream(
    folder: Path, plan: CarPlan, frames: Frames, film: Film, spans: Spans, phone: Phone, lamp: Lamp
) -> None:
    folder.mkdir(parents=True)
    offsets, is_key = np.zeros(len(frames.pts), dtype=np.int64), np.zeros(len(frames.pts), dtype=np.int64)
    stream = TransportStream(SIZE, _rate(plan), BIT_RATE)
    size = 0
    with (folder / "stream-001.ts").open("wb") as file:
        for place, number in enumerate(_drawn(frames, spans)):
            picture = film.picture(int(frames.utc_ns[number]), number, phone, lamp=lamp)
            offsets[number:], is_key[number] = size, place % KEY_INTERVAL == 0
            size += file.write(b"".join(stream.datagrams(picture, int(frames.pts[number]))))
    stream.close()
    lines = np.column_stack([frames.pts, frames.arrival_ns, offsets, is_key, np.zeros_like(is_key)]).tolist()
    rows = "".join(",".join(map(str, line)) + "\n" for line in lines)
    (folder / "stream-001.idx").write_text(INDEX_HEADER + rows, encoding="ascii")


def _drawn(frames: Frames, spans: Spans) -> list[int]:
    """Numbers of the pictures around the spans and of all before the first, whole groups of pictures."""
    margin_ns = round(MARGIN_S * SECOND_NS)
    numbers: list[int] = []
    for begin, end in spans:
        first, last = np.searchsorted(frames.utc_ns, [begin - margin_ns, end + margin_ns]).tolist()
        first = first if numbers else 0
        numbers += range(first, last - (last - first) % KEY_INTERVAL)
    return numbers


def _write_positions(folder: Path, plan: CarPlan, world: World, hours: float, dice: np.random.Generator) -> None:
    """When each epoch came; the car's place is not asked for."""
    folder.mkdir(parents=True)
    count = int(hours * 3600 * plan.receiver_rate_hz)
    epochs = [world.epoch_utc_ns + number * SECOND_NS // plan.receiver_rate_hz for number in range(count)]
    late_ms = plan.receiver_latency_ms + dice.exponential(RECEIVER_JITTER_MS, count)
    rows = (
        f"{utc_ns},{world.monotonic_ns(utc_ns + round(late * 1e6))}\n"
        for utc_ns, late in zip(epochs, late_ms.tolist(), strict=True)
    )
    (folder / "positions.csv").write_text("utc_ns,arrival_monotonic_ns\n" + "".join(rows), encoding="ascii")


def _write_draw_log(folder: Path, phone: Phone, spans: Spans) -> None:
    folder.mkdir(parents=True)
    drawn = [code for begin, end in spans for code in phone.drawn(begin - SECOND_NS, end)]
    draws = [[int(code.payload[14]), int(code.payload[:14])] for code in drawn]
    post = {"page": "simulated", "user_agent": "", "offset_bound_ms": PAGE_BOUND_MS, "draws": draws}
    (folder / "simulated.jsonl").write_text(json.dumps(post) + "\n", encoding="utf-8")
