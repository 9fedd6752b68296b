"""MPEG transport stream as it comes: where each picture begins, what is missing, the tables that a new file needs.

Written from ISO/IEC 13818-1 (packets 2.4.3, tables 2.4.4), H.264 7.4.1 and H.265 7.4.2 (NAL unit types).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

PACKET_BYTES = 188
SYNC_BYTE = 0x47
PTS_HZ = 90_000
PTS_WRAP = 1 << 33
PAT_PID = 0
NULL_PID = 0x1FFF
COUNTER_MASK = 0x0F
HEAD_BYTES = 4 * PACKET_BYTES  # a slice that begins later than this is not looked for
START_CODE = b"\0\0\1"


@dataclass(frozen=True, slots=True)
class Picture:
    """The beginning of a picture: `position` in bytes since the first packet fed, `errors` seen up to there."""

    pts_90khz: int
    key: bool
    position: int
    arrival_monotonic_ns: int
    errors: int


def find_packets(datagram: bytes) -> int | None:
    """Where the whole packets that fill the rest of the datagram begin; None when it holds none.

    Some GoPros put 12 bytes in front (KonradIT/GoProStream issue 57).
    """
    count, start = divmod(len(datagram), PACKET_BYTES)
    return start if count and datagram[start::PACKET_BYTES] == b"G" * count else None


def pts_after(pts_90khz: int, earlier_90khz: int) -> int:
    """Ticks from `earlier_90khz` to `pts_90khz` on the 33-bit clock, negative when it lies before."""
    return (pts_90khz - earlier_90khz + PTS_WRAP // 2) % PTS_WRAP - PTS_WRAP // 2


def payload_of(data: bytes, at: int) -> bytes:
    """What the packet at a place carries (2.4.3.2); empty when it carries none."""
    flags = data[at + 3]
    if not flags & 0x10:
        return b""
    begin = at + 5 + data[at + 4] if flags & 0x20 else at + 4
    return data[begin : at + PACKET_BYTES]


class Transport:
    """Follows one stream; `errors` counts breaks of continuity, `missing` the packets known to be lost by them."""

    def __init__(self) -> None:
        self.position = 0
        self.errors = 0
        self.missing = 0
        self.restart()

    def restart(self) -> None:
        """Forget the stream so far: another one follows."""
        self._expected = [-1] * 8192  # the next continuity counter of each PID
        self._table_packets: dict[int, bytes] = {}
        self._map_pid = -1
        self._video_pid = -1
        self._is_key: Callable[[int], bool | None] = _h264_key
        self._open: Picture | None = None  # of which it is not yet known whether it is a key picture
        self._head = b""
        self._ended = False

    @property
    def is_complete(self) -> bool:
        """Whether the newest picture's last packet has come: only that is stuffed, and hardly ever is it not."""
        return self._ended and self._open is None

    @property
    def tables(self) -> bytes:
        """The newest PAT and PMT packets; empty until both are known."""
        packets = (self._table_packets.get(PAT_PID), self._table_packets.get(self._map_pid))
        return b"".join(packet for packet in packets if packet) if all(packets) else b""

    @property
    def undecided(self) -> int | None:
        """Position of a picture of which it is not yet known whether it is a key picture."""
        return None if self._open is None else self._open.position

    def feed(self, data: bytes, start: int, arrival_monotonic_ns: int) -> list[Picture]:
        """Take the whole packets from `start` on and return the pictures that are now known to have begun."""
        pictures: list[Picture] = []
        expected, video_pid = self._expected, self._video_pid
        for at in range(start, len(data), PACKET_BYTES):
            unit, flags = data[at + 1], data[at + 3]
            pid = (unit & 0x1F) << 8 | data[at + 2]
            if flags & 0x10:  # it carries payload, and only such packets are counted
                counter = flags & COUNTER_MASK
                if counter != expected[pid] >= 0:
                    self._note_gap(data, at, counter - expected[pid])
                expected[pid] = counter + 1 & COUNTER_MASK
            if pid == video_pid:
                if flags & 0x10:
                    self._ended = bool(flags & 0x20) and _is_stuffed(data, at)
                if unit & 0x40:
                    self._begin_picture(data, at, self.position + at - start, arrival_monotonic_ns, pictures)
                elif self._open is not None:
                    self._look_further(payload_of(data, at), pictures)
            elif unit & 0x40 and pid in (PAT_PID, self._map_pid):
                self._read_table(pid, data, at)
                video_pid = self._video_pid
        self.position += len(data) - start
        return pictures

    def follows(self, data: bytes, start: int) -> bool:
        """Whether the video goes on in these packets where it was; True as well when they hold none of it."""
        for at in range(start, len(data), PACKET_BYTES):
            pid = (data[at + 1] & 0x1F) << 8 | data[at + 2]
            if pid == self._video_pid and data[at + 3] & 0x10:
                return data[at + 3] & COUNTER_MASK == self._expected[pid] or self._expected[pid] < 0
        return True

    def has_overtaken(self, early: tuple[bytes, int], late: tuple[bytes, int]) -> bool:
        """Whether the first of two datagrams (and where their packets begin) belongs behind the second.

        Something may be lost before both, or between them.
        """
        if self._is_unbroken(late, early):
            return True
        if self._is_unbroken(early, late, anew=True):
            return False
        return self._is_unbroken(late, early, anew=True) or self._is_unbroken(late)

    def _is_unbroken(self, *datagrams: tuple[bytes, int], anew: bool = False) -> bool:
        """Whether all counters would go on if these packets came now, in this order; `anew`: wherever they begin."""
        expected: dict[int, int] = {}
        for data, start in datagrams:
            for at in range(start, len(data), PACKET_BYTES):
                pid, counter = (data[at + 1] & 0x1F) << 8 | data[at + 2], data[at + 3] & COUNTER_MASK
                if data[at + 3] & 0x10:
                    if counter != expected.get(pid, -1 if anew else self._expected[pid]) >= 0:
                        return False
                    expected[pid] = counter + 1 & COUNTER_MASK
        return True

    def finish(self) -> list[Picture]:
        """The picture that was still undecided when the stream ended, if there is one."""
        return [] if self._open is None else [self._close(False)]

    def _note_gap(self, data: bytes, at: int, step: int) -> None:
        announced = data[at + 3] & 0x20 and data[at + 4] and data[at + 5] & 0x80
        if not announced and (data[at + 1] & 0x1F) << 8 | data[at + 2] != NULL_PID:
            self.errors += 1
            self.missing += step & COUNTER_MASK

    def _begin_picture(self, data: bytes, at: int, position: int, arrival_ns: int, pictures: list[Picture]) -> None:
        if self._open is not None:
            pictures.append(self._close(False))
        payload = payload_of(data, at)
        pts = _read_pts(payload)
        if pts is None:
            return
        self._open = Picture(pts, False, position, arrival_ns, self.errors)
        self._head = b""
        if data[at + 3] & 0x20 and data[at + 4] and data[at + 5] & 0x40:  # random access indicator
            pictures.append(self._close(True))
        else:
            self._look_further(payload[9 + payload[8] :], pictures)

    def _look_further(self, elementary: bytes, pictures: list[Picture]) -> None:
        """Search the first slice, whose type tells a key picture; parameter sets alone decide when it comes late."""
        self._head += elementary
        key, parameters = _search_slice(self._head, self._is_key)
        if key is None and len(self._head) >= HEAD_BYTES:
            key = parameters
        if key is not None:
            pictures.append(self._close(key))

    def _close(self, key: bool) -> Picture:
        assert self._open is not None
        picture, self._open, self._head = replace(self._open, key=key), None, b""
        return picture

    def _read_table(self, pid: int, data: bytes, at: int) -> None:
        payload = payload_of(data, at)
        section = payload[1 + payload[0] :] if payload else b""
        if len(section) < 12:
            return
        end = min(len(section), 3 + ((section[1] & 0x0F) << 8 | section[2]) - 4)  # without the checksum
        if pid == PAT_PID and section[0] == 0:
            self._map_pid = _find_map(section[8:end], self._map_pid)
        elif section[0] == 2:
            self._choose_video(section[12 + ((section[10] & 0x0F) << 8 | section[11]) : end])
        self._table_packets[pid] = data[at : at + PACKET_BYTES]

    def _choose_video(self, streams: bytes) -> None:
        at = 0
        while at + 5 <= len(streams):
            is_key = KEY_TESTS.get(streams[at])
            if is_key is not None:
                self._video_pid, self._is_key = (streams[at + 1] & 0x1F) << 8 | streams[at + 2], is_key
                return
            at += 5 + ((streams[at + 3] & 0x0F) << 8 | streams[at + 4])


def _is_stuffed(data: bytes, at: int) -> bool:
    """Whether the adaptation field is longer than what it holds (ISO/IEC 13818-1, 2.4.3.5)."""
    length = data[at + 4]
    if length == 0:
        return True
    holds = data[at + 5]
    return not holds & 0x03 and length > 1 + 6 * (holds >> 4 & 1) + 6 * (holds >> 3 & 1) + (holds >> 2 & 1)


def _read_pts(payload: bytes) -> int | None:
    if len(payload) < 14 or payload[:3] != START_CODE or not payload[7] & 0x80:
        return None
    high, middle, low = payload[9] >> 1 & 7, payload[10] << 7 | payload[11] >> 1, payload[12] << 7 | payload[13] >> 1
    return high << 30 | middle << 15 | low


def _find_map(programs: bytes, default: int) -> int:
    for at in range(0, len(programs) - 3, 4):
        if programs[at] or programs[at + 1]:  # program 0 is the network's own
            return (programs[at + 2] & 0x1F) << 8 | programs[at + 3]
    return default


def _search_slice(head: bytes, is_key: Callable[[int], bool | None]) -> tuple[bool | None, bool]:
    """Whether the first slice in `head` is of a key picture (None: no slice there), and whether parameter sets are."""
    parameters = False
    at = head.find(START_CODE)
    while 0 <= at < len(head) - 3:
        key = is_key(head[at + 3])
        if key is not None:
            return key, parameters
        parameters = parameters or head[at + 3] & 0x1F == 7 or head[at + 3] >> 1 & 0x3F == 33
        at = head.find(START_CODE, at + 3)
    return None, parameters


def _h264_key(byte: int) -> bool | None:
    kind = byte & 0x1F
    return kind == 5 if 1 <= kind <= 5 else None


def _hevc_key(byte: int) -> bool | None:
    kind = byte >> 1 & 0x3F
    return 16 <= kind <= 21 if kind < 32 else None


# By stream_type, ISO/IEC 13818-1 table 2-34
KEY_TESTS: dict[int, Callable[[int], bool | None]] = {0x1B: _h264_key, 0x24: _hevc_key}
