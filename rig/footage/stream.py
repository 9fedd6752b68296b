"""A camera's UDP stream to segments on disk, with the arrival time of each picture; never decoded on this path.

Three threads: one empties the socket and does nothing else, one writes, one syncs. A disk that hesitates therefore
never holds up reception. Arrival times are the kernel's, so that the pace of these threads does not show in them.
"""

import select
import socket
import struct
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S, rate_hz
from rig.errors import DeviceError, EdencarError
from rig.footage.segments import Datagram, SegmentWriter
from rig.footage.transport import find_packets

# asm-generic/socket.h; the socket module does not name them all
SO_RCVBUFFORCE = 33
SO_TIMESTAMPNS = 35
SO_RXQ_OVFL = 40
TIMESPEC = struct.Struct("@ll")
DROP_COUNT = struct.Struct("@I")

DATAGRAM_BYTES = 2048  # a GoPro sends 1316; no network of its kind carries more than 1500
ANCILLARY_BYTES = 128
BATCH_DATAGRAMS = 4096
POLL_MS = 100  # how long a stop may wait for a silent socket
PAUSE_S = 0.004  # the datagrams of a picture gather in the kernel: each wake-up costs more than reading ten of them
BURST_BYTES_PER_S = 60e6  # USB 2 at its best; a smaller kernel buffer is emptied before that fills it
HELD_S = 0.1  # how long a datagram may wait for the one it has overtaken
QUEUE_BYTES = 64 << 20  # about a minute while the disk does not answer
CLOCK_SLACK_NS = NS_PER_MS
RATE_WINDOW_NS = 3 * NS_PER_S

_Batch = list[Datagram]


class StreamRecorder:
    """Writes what arrives at a UDP port to `folder/stream-NNN.ts`, and a line for each picture to `stream-NNN.idx`.

    The port (0: any) is bound at construction (`.port`); raises DeviceError when it cannot be. What has come is told by
    `datagrams`, `socket_drops` (by the kernel), `lost_datagrams`, `fps` and `last_arrival_monotonic_ns`; what holds no
    packets of a stream does not count. `buffer_bytes` is the payload that the kernel really keeps for us.
    """

    def __init__(
        self,
        folder: Path,
        host_address: str,
        port: int,
        settings: Settings,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.host_address = host_address
        self._queue_bytes = queue_bytes
        self._settings = settings
        self._socket = _bind(host_address, port, settings.receive_buffer_bytes)
        self.port: int = self._socket.getsockname()[1]
        # The kernel counts twice what was asked, for its own bookkeeping.
        self.buffer_bytes = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        self._writer = SegmentWriter(folder, settings.segment_s)
        self._queue: deque[_Batch | None] = deque()
        self.datagrams = self.socket_drops = 0
        self.last_arrival_monotonic_ns: int | None = None
        self._overflow = self._queued_bytes = self._taken_bytes = 0
        self._empty_at_ns = time.monotonic_ns()
        self._stopping = threading.Event()
        self._filled = threading.Event()
        self._received = threading.Event()
        self._written = threading.Event()
        self._threads = [
            threading.Thread(target=_run, args=(work, done), name=f"stream {self.port} {work.__name__}", daemon=True)
            for work, done in ((self._receive, self._received), (self._write, self._written), (self._sync, None))
        ]

    def start(self) -> None:
        """Begin to keep what arrives; what has arrived since construction is kept, too."""
        for thread in self._threads:
            thread.start()

    def split(self) -> None:
        """Begin a new segment with whatever comes next; before `start`, forget what has come.

        To be called when the camera has stopped and is about to be told to start its stream anew.
        """
        if self.started:
            self._queue.append(None)
            return
        with suppress(BlockingIOError):
            while True:
                self._socket.recv(DATAGRAM_BYTES)

    def stop(self) -> tuple[Path, ...]:
        """Keep what has arrived up to now, sync and close; returns the segments, oldest first."""
        self._stopping.set()
        for thread in self._threads:
            if self.started:
                thread.join()
        self._socket.close()
        self._writer.close()
        return self.segments

    @property
    def started(self) -> bool:
        """Whether what arrives is kept."""
        return self._threads[0].ident is not None

    @property
    def segments(self) -> tuple[Path, ...]:
        """The .ts files written so far, oldest first."""
        return tuple(self._writer.files)

    @property
    def problems(self) -> tuple[EdencarError, ...]:
        """What keeps the recording from being whole."""
        problems = [] if self._writer.problem is None else [self._writer.problem]
        wanted_bytes = self._settings.receive_buffer_bytes
        if self.buffer_bytes < wanted_bytes // 2:
            short = f"the kernel keeps only {self.buffer_bytes >> 10} KiB of the stream while the program is held up"
            problems.append(DeviceError(short, cure=f"sysctl -w net.core.rmem_max={wanted_bytes}"))
        return tuple(problems)

    @property
    def lost_datagrams(self) -> int:
        """How many never came, by the stream's continuity counters, by the kernel, or found the queue full."""
        missing = -(-self._writer.transport.missing // max(1, self._writer.packets_per_datagram))
        return max(missing, self.socket_drops + self._overflow)

    @property
    def fps(self) -> float:
        """Pictures a second, of the last seconds."""
        return rate_hz(tuple(self._writer.arrivals), time.monotonic_ns() - RATE_WINDOW_NS) or 0.0

    def _receive(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        pause_s = min(PAUSE_S, self.buffer_bytes / BURST_BYTES_PER_S)
        while not self._stopping.is_set():
            if self._drain():
                time.sleep(pause_s)
            else:
                poll.poll(POLL_MS)
        self._drain()

    def _drain(self) -> int:
        """Empty the socket into the queue, with the arrival time of each datagram; returns how many there were."""
        batch: list[tuple[bytes, int | None]] = []
        receive = self._socket.recvmsg
        with suppress(BlockingIOError):
            while len(batch) < BATCH_DATAGRAMS:
                data, ancillary, _, _ = receive(DATAGRAM_BYTES, ANCILLARY_BYTES)
                batch.append((data, self._read_stamp(ancillary)))
        if not batch:
            return 0
        earliest_ns, now_ns, real_ns = self._empty_at_ns - CLOCK_SLACK_NS, *_read_clocks()
        if len(batch) < BATCH_DATAGRAMS:
            self._empty_at_ns = now_ns
        datagrams = []
        for data, stamp in batch:
            start = find_packets(data)
            if start is not None:
                datagrams.append(Datagram(data, start, _to_monotonic(stamp, earliest_ns, now_ns, real_ns)))
        if datagrams:
            self._keep(datagrams)
        return len(batch)

    def _keep(self, datagrams: _Batch) -> None:
        self.datagrams += len(datagrams)
        self.last_arrival_monotonic_ns = datagrams[-1].arrival_monotonic_ns
        ends = list(accumulate(len(datagram.data) for datagram in datagrams))
        kept = bisect_right(ends, self._queue_bytes + self._taken_bytes - self._queued_bytes)
        self._overflow += len(datagrams) - kept
        if kept:
            self._queued_bytes += ends[kept - 1]
            self._queue.append(datagrams[:kept])
            self._filled.set()

    def _read_stamp(self, ancillary: list[tuple[int, int, bytes]]) -> int | None:
        stamp = None
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(data) >= TIMESPEC.size:
                seconds, nanoseconds = TIMESPEC.unpack_from(data)
                stamp = seconds * NS_PER_S + nanoseconds
            elif level == socket.SOL_SOCKET and kind == SO_RXQ_OVFL:
                self.socket_drops = DROP_COUNT.unpack_from(data)[0]
        return stamp

    def _write(self) -> None:
        while not self._received.is_set():
            if self._filled.wait(HELD_S):
                self._filled.clear()
            else:
                self._writer.release()
            self._empty_queue()
        self._empty_queue()

    def _empty_queue(self) -> None:
        while self._queue:
            datagrams = self._queue.popleft()
            if datagrams is None:
                self._writer.begin_anew()
                continue
            for datagram in datagrams:
                self._writer.take(datagram)
                self._taken_bytes += len(datagram.data)
        self._writer.flush()

    def _sync(self) -> None:
        while not self._written.wait(self._settings.sync_interval_s):
            self._writer.sync()


def _run(work: Callable[[], None], done: threading.Event | None) -> None:
    # Whoever waits for a thread that failed must not wait for ever.
    try:
        work()
    finally:
        if done is not None:
            done.set()


def _bind(host_address: str, port: int, buffer_bytes: int) -> socket.socket:
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        for option, value in ((SO_RCVBUFFORCE, buffer_bytes), (SO_TIMESTAMPNS, 1), (SO_RXQ_OVFL, 1)):
            with suppress(OSError):  # needs root, or another kernel
                receiver.setsockopt(socket.SOL_SOCKET, option, value)
        receiver.setblocking(False)
        receiver.bind((host_address, port))
    except OSError as error:
        receiver.close()
        where = f"UDP port {port} of {host_address}" if port else host_address
        raise DeviceError(
            f"cannot receive at {where} ({error.strerror})", cure="is another program using it?"
        ) from error
    return receiver


def _read_clocks() -> tuple[int, int]:
    """CLOCK_MONOTONIC and CLOCK_REALTIME of one instant, read again when the thread was held up in between."""
    while True:
        before_ns = time.monotonic_ns()
        real_ns = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after_ns = time.monotonic_ns()
        if after_ns - before_ns < 50_000:
            return (before_ns + after_ns) // 2, real_ns


def _to_monotonic(stamp_ns: int | None, earliest_ns: int, now_ns: int, real_ns: int) -> int:
    """The kernel's wall-clock stamp as CLOCK_MONOTONIC.

    A datagram cannot be older than the moment when the socket was last seen empty; a stamp that says so was made
    before the wall clock was set, and then the present is the best that is known.
    """
    if stamp_ns is None:
        return now_ns
    arrival_ns = now_ns - (real_ns - stamp_ns)
    return arrival_ns if earliest_ns <= arrival_ns <= now_ns + CLOCK_SLACK_NS else now_ns
