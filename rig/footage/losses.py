"""Which pictures a loss spoils; where an MPEG-TS file lacks packets (ISO/IEC 13818-1, 2.4.3.3).

FFmpeg marks the wrong picture and OpenCV none; what a recorder noted is not there for files from elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rig.arrays import Int64, Mask, Uint8
from rig.footage.transport import COUNTER_MASK, PACKET_BYTES, SYNC_BYTE

SLAB_PACKETS = 1 << 16
SURE_PACKETS = 3  # so many sync bytes in step are no accident
SEARCH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Losses:
    """Byte positions of the first packets after something is missing, and whether a picture begins with them."""

    position: Int64
    at_begin: Mask


def hit_pictures(path: Path, pid: int, position: Int64) -> Mask:
    """Which pictures of an MPEG-TS file lack something; they begin at these byte positions."""
    hit = np.zeros(len(position), dtype=np.bool_)
    found = find(np.memmap(path, np.uint8, "r"), pid)
    # A loss that shows where a picture begins took the end of the one before.
    order = np.argsort(position, kind="stable")
    place = np.searchsorted(position[order], found.position, side="right") - 1 - found.at_begin
    hit[order[place[place >= 0]]] = True
    return hit


def spoilt(pts: Int64, key: Mask, hit: Mask) -> Mask:
    """Which packets a loss spoils: from the one that it hit to the next key frame that came whole."""
    group, leading = group_of(pts, key)
    first_hit = np.full(group[-1] + 1, len(pts))
    np.minimum.at(first_hit, group[hit], np.flatnonzero(hit))
    first_hit[0] = 0  # what comes before any key frame lacks it
    before = np.concatenate([[True], first_hit[:-1] < len(pts)])
    return np.asarray((np.arange(len(pts)) >= first_hit[group]) | (leading & before[group]))


def group_of(pts: Int64, key: Mask) -> tuple[Int64, Mask]:
    """Of each packet the number of its group (0: no key frame yet), and whether it is shown before its key frame."""
    group = np.cumsum(key, dtype=np.int64)
    key_pts = np.concatenate([[np.iinfo(np.int64).min], pts[key]])
    return group, np.asarray(pts < key_pts[group])


def find(data: Uint8, pid: int) -> Losses:
    """The losses in the stream of one PID; where a file's packets are out of step, something is missing too."""
    positions, begins = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.bool_)]
    last, out_of_step = -1, False
    for start, packets in _slabs(data):
        out_of_step |= start < 0
        rows = np.flatnonzero(_is_payload(packets, pid))
        if not len(rows):
            continue
        own = packets[rows]
        broken = _breaks(own, last)
        broken[0] |= out_of_step
        positions.append(abs(start) + rows[broken] * PACKET_BYTES)
        begins.append(own[broken, 1] & 0x40 > 0)
        last, out_of_step = int(own[-1, 3] & COUNTER_MASK), False
    return Losses(np.concatenate(positions), np.concatenate(begins))


def _is_payload(packets: Uint8, pid: int) -> Mask:
    """Which packets carry payload of a PID: only these are counted."""
    is_own = (packets[:, 1] & 0x1F == pid >> 8) & (packets[:, 2] == pid & 0xFF)
    return np.asarray(is_own & (packets[:, 3] & 0x10 > 0))


def _breaks(packets: Uint8, last: int) -> Mask:
    """Which packets do not follow the one before; `last` is the counter before the first, -1 for none."""
    counter = (packets[:, 3] & COUNTER_MASK).astype(np.int64)
    before = np.concatenate([[last], counter[:-1]])
    announced = (packets[:, 3] & 0x20 > 0) & (packets[:, 4] > 0) & (packets[:, 5] & 0x80 > 0)
    broken = np.asarray((before >= 0) & (counter != (before + 1 & COUNTER_MASK)) & ~announced)
    for row in np.flatnonzero(broken & (counter == before)):  # a packet may be sent twice
        broken[row] = row == 0 or bool((packets[row] != packets[row - 1]).any())
    return broken


def _slabs(data: Uint8) -> Iterator[tuple[int, Uint8]]:
    """Packets in step, rows of 188 bytes, with the position of the first; negative after bytes that are no packets."""
    at, sign = 0, 1
    while 0 <= at <= len(data) - PACKET_BYTES:
        count = min(SLAB_PACKETS, (len(data) - at) // PACKET_BYTES)
        packets = data[at : at + count * PACKET_BYTES].reshape(count, PACKET_BYTES)
        astray = np.flatnonzero(packets[:, 0] != SYNC_BYTE)[:1]
        whole = int(astray[0]) if len(astray) else count
        if whole:
            yield sign * at, packets[:whole]
            sign = 1
        at += whole * PACKET_BYTES
        if len(astray):
            at, sign = _next_packet(data, at + 1), -1


def _next_packet(data: Uint8, at: int) -> int:
    """Where packets are in step again, -1 when nowhere."""
    reach = (SURE_PACKETS - 1) * PACKET_BYTES
    while at + reach < len(data):
        window = data[at : at + SEARCH_BYTES + reach] == SYNC_BYTE
        length = len(window) - reach
        sure = np.logical_and.reduce([window[step : step + length] for step in range(0, reach + 1, PACKET_BYTES)])
        if sure.any():
            return at + int(np.argmax(sure))
        at += length
    return -1
