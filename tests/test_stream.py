"""The stream on disk: every byte, every picture, the kernel's arrival times; and what is said of losses."""

import csv
import io
import multiprocessing
import random
import resource
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import Settings
from rig.errors import DeviceError, NoSpaceError
from rig.footage import segments, stream
from rig.footage.stream import QUEUE_BYTES, StreamRecorder
from rig.footage.transport import PACKET_BYTES, PTS_WRAP, Picture, Transport, find_packets, pts_after

HOST = "127.0.0.1"
SETTINGS = Settings()
DATAGRAM_BYTES = 7 * PACKET_BYTES
VIDEO_PID, MAP_PID = 0x1011, 0x20
H264, HEVC = 0x1B, 0x24
P_SLICE, IDR, AUD, SPS, SEI = 0x41, 0x65, 0x09, 0x67, 0x06


class Muxer:
    """Writes transport streams by hand, as odd as a test wants them."""

    def __init__(self, stream_type: int = H264) -> None:
        self._stream_type = stream_type
        self._counters: dict[int, int] = {}

    def tables(self) -> bytes:
        programs = bytes([0, 1, 0xE0 | MAP_PID >> 8, MAP_PID & 0xFF])
        pat = bytes([0, 0xB0, 9 + len(programs), 0, 1, 0xC1, 0, 0]) + programs + bytes(4)
        streams = bytes([self._stream_type, 0xE0 | VIDEO_PID >> 8, VIDEO_PID & 0xFF, 0xF0, 0])
        body = bytes([0, 1, 0xC1, 0, 0, 0xE0 | VIDEO_PID >> 8, VIDEO_PID & 0xFF, 0xF0, 0]) + streams + bytes(4)
        pmt = bytes([2, 0xB0, len(body)]) + body
        return self._packet(0, b"\0" + pat, first=True) + self._packet(MAP_PID, b"\0" + pmt, first=True)

    def picture(self, pts: int, nals: Sequence[bytes], *, random_access: bool = False) -> bytes:
        pts %= PTS_WRAP
        stamp = bytes(
            [0x21 | pts >> 29 & 0xE, pts >> 22 & 0xFF, pts >> 14 & 0xFE | 1, pts >> 7 & 0xFF, pts << 1 & 0xFE | 1]
        )
        unit = b"\0\0\1\xe0\0\0\x80\x80\x05" + stamp + b"".join(b"\0\0\0\1" + nal for nal in nals)
        head = self._packet(VIDEO_PID, unit[:176], first=True, random_access=random_access)
        return head + b"".join(self._packet(VIDEO_PID, unit[at : at + 184]) for at in range(176, len(unit), 184))

    def _packet(self, pid: int, payload: bytes, *, first: bool = False, random_access: bool = False) -> bytes:
        counter = self._counters[pid] = (self._counters.get(pid, -1) + 1) % 16
        spare = 184 - len(payload)
        field = b""
        if spare:
            field = bytes([spare - 1]) + (bytes([0x40 * random_access]) + b"\xff" * (spare - 2) if spare > 1 else b"")
        return bytes([0x47, 0x40 * first | pid >> 8, pid & 0xFF, (0x30 if spare else 0x10) | counter]) + field + payload


def make_stream(
    count: int, *, group: int = 5, first_pts: int = 90_000, size: int = 1500, muxer: Muxer | None = None
) -> list[bytes]:
    """Pictures 1/30 s apart, each one with its tables before it when it is a key picture."""
    muxer = muxer or Muxer()
    dice = random.Random(count)
    pictures = []
    for number in range(count):
        key = number % group == 0
        slice_ = bytes([IDR if key else P_SLICE]) + dice.randbytes(size)
        tables = muxer.tables() if key else b""
        pictures.append(tables + muxer.picture(first_pts + 3000 * number, [bytes([AUD, 0xF0]), slice_]))
    return pictures


def cut(data: bytes) -> list[bytes]:
    """Datagrams as a camera sends them."""
    return [data[at : at + DATAGRAM_BYTES] for at in range(0, len(data), DATAGRAM_BYTES)]


def follow(transport: Transport, data: bytes) -> list[Picture]:
    return transport.feed(data, 0, 0) + transport.finish()


def encode(codec: str, **options: str) -> bytes:
    """What a real encoder and muxer write."""
    sink = io.BytesIO()
    with av.open(sink, "w", format="mpegts") as container:
        video = container.add_stream(codec, rate=30, options={"g": "8", **options})
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        noise = np.random.default_rng(1).integers(0, 255, (144, 400), np.uint8)
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(noise[:, number * 2 : number * 2 + 160]), "yuv420p")
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return sink.getvalue()


# Reading the transport stream


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libx264", {"bf": "0"}), ("libx264", {"bf": "2"}), ("libx265", {"x265-params": "log-level=none"})],
)
def test_pictures_are_those_that_ffmpeg_finds(codec: str, options: dict[str, str]) -> None:
    data = encode(codec, **options)
    with av.open(io.BytesIO(data), "r") as container:
        expected = [(packet.pts, packet.is_keyframe) for packet in container.demux(video=0) if packet.pts is not None]
    pictures = follow(Transport(), data)
    assert [(picture.pts_90khz, picture.key) for picture in pictures] == expected
    assert all(data[picture.position] == 0x47 and data[picture.position + 1] & 0x40 for picture in pictures)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40))
@settings(deadline=None, max_examples=30)
def test_pictures_do_not_depend_on_how_the_stream_is_cut(sizes: list[int]) -> None:
    data = b"".join(make_stream(12, group=4, size=700))
    transport, at, pictures = Transport(), 0, []
    for size in [*sizes, len(data)]:
        pictures += transport.feed(data[at : at + size * PACKET_BYTES], 0, 0)
        at += size * PACKET_BYTES
    assert pictures + transport.finish() == follow(Transport(), data)
    assert transport.errors == 0


def test_key_picture_whose_slice_comes_late_is_found() -> None:
    muxer = Muxer()
    long_message = bytes([SEI]) + b"\x55" * 400
    data = muxer.tables() + b"".join(
        [
            muxer.picture(
                0, [bytes([AUD, 0xF0]), bytes([SPS]) + b"\x11" * 20, long_message, bytes([IDR]) + b"\x22" * 900]
            ),
            muxer.picture(3000, [bytes([AUD, 0xF0]), long_message, bytes([P_SLICE]) + b"\x22" * 900]),
            muxer.picture(6000, [bytes([AUD, 0xF0]), bytes([P_SLICE]) + b"\x22" * 9], random_access=True),
        ]
    )
    assert [picture.key for picture in follow(Transport(), data)] == [True, False, True]


def test_hevc_key_picture_is_told_by_its_slice() -> None:
    muxer = Muxer(HEVC)
    kinds = {19: True, 20: True, 21: True, 1: False, 0: False}
    units = [muxer.picture(3000 * kind, [bytes([kind << 1, 1]) + b"\x22" * 300]) for kind in kinds]
    pictures = follow(Transport(), muxer.tables() + b"".join(units))
    assert [picture.key for picture in pictures] == list(kinds.values())


def test_time_stamps_go_on_over_the_wrap() -> None:
    pictures = follow(Transport(), b"".join(make_stream(6, first_pts=PTS_WRAP - 7000)))
    assert [picture.pts_90khz for picture in pictures][1:4] == [PTS_WRAP - 4000, PTS_WRAP - 1000, 2000]
    assert pts_after(2000, PTS_WRAP - 1000) == 3000
    assert pts_after(PTS_WRAP - 1000, 2000) == -3000


def test_each_lost_datagram_is_counted() -> None:
    datagrams = cut(b"".join(make_stream(200)))
    lost = set(random.Random(3).sample(range(1, len(datagrams) - 1), 12))
    transport = Transport()
    for number, datagram in enumerate(datagrams):
        if number not in lost:
            transport.feed(datagram, 0, 0)
    runs = sum(number - 1 not in lost for number in lost)
    assert runs <= transport.errors <= len(lost) * 2  # once for each PID that misses packets
    assert transport.missing == 7 * len(lost)


@pytest.mark.parametrize("share", [0.0, 0.02])
def test_datagrams_that_overtook_their_neighbours_are_put_in_order(tmp_path: Path, share: float) -> None:
    datagrams = cut(b"".join(make_stream(300)))
    dice = random.Random(5)
    came = [datagram for number, datagram in enumerate(datagrams) if number < 20 or dice.random() >= share]
    sent, number = came.copy(), 2
    while number < len(sent) - 2:
        if dice.random() < 0.1:  # beside a loss, too
            sent[number : number + 2] = sent[number + 1], sent[number]
            number += 2
        number += 1
    with recorder_on(tmp_path) as recorder:
        send(recorder.port, sent)
    kept = b"".join(path.read_bytes() for path in recorder.segments)
    assert kept == b"".join(came)
    assert recorder.lost_datagrams == len(datagrams) - len(came)


def test_only_whole_packets_at_the_end_of_a_datagram_are_a_stream() -> None:
    datagram = cut(b"".join(make_stream(2)))[0]
    assert find_packets(datagram) == 0
    assert find_packets(b"G" * 12 + datagram) == 12
    assert find_packets(datagram[:-1]) is None
    assert find_packets(b"M-SEARCH * HTTP/1.1\r\n") is None
    assert find_packets(b"") is None


@given(st.binary(min_size=PACKET_BYTES, max_size=4 * PACKET_BYTES), st.integers(0, 40))
@settings(deadline=None, max_examples=200)
def test_damaged_packets_do_no_harm(noise: bytes, at: int) -> None:
    data = bytearray(b"".join(make_stream(6, size=300)))
    data[at * 10 : at * 10 + len(noise)] = noise
    transport = Transport()
    transport.feed(bytes(data[: len(data) // PACKET_BYTES * PACKET_BYTES]), 0, 0)
    assert transport.position == len(data) // PACKET_BYTES * PACKET_BYTES


# Receiving


@contextmanager
def recorder_on(
    folder: Path, settings: Settings = SETTINGS, queue_bytes: int = QUEUE_BYTES
) -> Iterator[StreamRecorder]:
    recorder = StreamRecorder(folder, HOST, 0, settings, queue_bytes)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop()


def send(port: int, datagrams: Sequence[bytes], pause_s: float = 0.0) -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender:
        for datagram in datagrams:
            sender.sendto(datagram, (HOST, port))
            if pause_s:
                time.sleep(pause_s)


def read_index(path: Path) -> list[dict[str, int]]:
    with path.with_suffix(".idx").open() as file:
        return [{key: int(value) for key, value in row.items()} for row in csv.DictReader(file)]


def test_every_byte_is_kept_in_segments_that_stand_alone(tmp_path: Path) -> None:
    pictures = make_stream(60)
    with recorder_on(tmp_path, Settings(segment_s=0.1)) as recorder:
        for picture in pictures:
            send(recorder.port, cut(picture))
            time.sleep(0.008)
        sent_ns = time.monotonic_ns()
    segments = recorder.stop()
    assert len(segments) >= 3
    assert [path.name for path in segments] == [f"stream-{number:03}.ts" for number in range(1, len(segments) + 1)]
    tables = Muxer().tables()
    kept = [path.read_bytes() for path in segments]
    assert all(follow(Transport(), data)[0].key for data in kept)
    assert all(data[1:3] == tables[1:3] and data[189:191] == tables[189:191] for data in kept)
    assert b"".join([kept[0], *(data[len(tables) :] for data in kept[1:])]) == b"".join(pictures)
    rows = [row | {"segment": number} for number, path in enumerate(segments) for row in read_index(path)]
    assert [row["pts_90khz"] for row in rows] == [90_000 + 3000 * number for number in range(60)]
    assert [row["key"] for row in rows] == [int(number % 5 == 0) for number in range(60)]
    for row in rows:
        packet = kept[row["segment"]][row["byte_offset"] :][:PACKET_BYTES]
        assert packet[1] & 0x40
        assert (packet[1] & 0x1F) << 8 | packet[2] == VIDEO_PID
    assert sent_ns - 3_000_000_000 < rows[0]["arrival_monotonic_ns"] < rows[-1]["arrival_monotonic_ns"] < sent_ns
    assert sum(row["continuity_errors"] for row in rows) == 0


def test_arrival_times_are_the_kernels(tmp_path: Path) -> None:
    pictures = make_stream(40)
    sent_ns = []
    with recorder_on(tmp_path) as recorder:
        for picture in pictures:
            sent_ns.append(time.monotonic_ns())
            send(recorder.port, cut(picture))
            time.sleep(0.005)
    arrivals = [row["arrival_monotonic_ns"] for row in read_index(recorder.segments[0])]
    delays_ms = [(arrival - sent) / 1e6 for arrival, sent in zip(arrivals, sent_ns, strict=True)]
    # The reader sleeps for 50 ms at a time; that does not show.
    assert min(delays_ms) > -0.2
    assert sorted(delays_ms)[len(delays_ms) // 2] < 1.0


def test_decoder_reads_what_was_kept(tmp_path: Path) -> None:
    data = encode("libx264", bf="0")
    with recorder_on(tmp_path, Settings(segment_s=0.05)) as recorder:
        send(recorder.port, cut(data), 0.004)
    segments = recorder.segments
    assert len(segments) > 1
    for path in segments:
        with av.open(str(path)) as container:
            decoded = [frame.pts for frame in container.decode(video=0)]
        assert decoded == [row["pts_90khz"] for row in read_index(path)]


def test_loss_is_counted_and_laid_at_the_damaged_picture(tmp_path: Path) -> None:
    pictures = make_stream(30, size=4 * DATAGRAM_BYTES)
    whole = [cut(picture) for picture in pictures]
    with recorder_on(tmp_path) as recorder:
        for number, datagrams in enumerate(whole):
            send(
                recorder.port, [one for index, one in enumerate(datagrams) if (number, index) not in {(7, 2), (20, 1)}]
            )
            time.sleep(0.002)
        send(recorder.port, [b"who are you?", b"G" * 12 + cut(make_stream(1)[0])[0][:0]])
    rows = read_index(recorder.segments[0])
    assert [number for number, row in enumerate(rows) if row["continuity_errors"]] == [7, 20]
    assert len(rows) == 30
    assert (recorder.lost_datagrams, recorder.datagrams, recorder.socket_drops) == (2, sum(map(len, whole)) - 2, 0)
    assert recorder.segments[0].stat().st_size == sum(map(len, pictures)) - 2 * DATAGRAM_BYTES


def test_what_the_kernel_drops_is_counted(tmp_path: Path) -> None:
    datagrams = cut(b"".join(make_stream(200, size=4000)))
    recorder = StreamRecorder(tmp_path, HOST, 0, Settings(receive_buffer_bytes=64 << 10))
    send(recorder.port, datagrams[:400])  # nobody reads yet
    recorder.start()
    time.sleep(0.15)
    send(recorder.port, datagrams[400:410], 0.002)
    time.sleep(0.15)
    recorder.stop()
    assert recorder.buffer_bytes <= 128 << 10
    assert recorder.datagrams + recorder.socket_drops == 410
    assert recorder.lost_datagrams == recorder.socket_drops > 200


def test_prefix_before_the_packets_is_left_out(tmp_path: Path) -> None:
    pictures = make_stream(5)
    with recorder_on(tmp_path) as recorder:
        send(recorder.port, [b"123456789012" + datagram for picture in pictures for datagram in cut(picture)])
    assert recorder.segments[0].read_bytes() == b"".join(pictures)


@pytest.mark.parametrize("told", [True, False])
def test_stream_that_starts_anew_gets_a_segment_of_its_own(tmp_path: Path, told: bool) -> None:
    first, second = make_stream(10, first_pts=900_000), make_stream(12, first_pts=500_000 if not told else 901_000)
    with recorder_on(tmp_path) as recorder:
        send(recorder.port, [datagram for picture in first for datagram in cut(picture)])
        time.sleep(0.2)
        if told:
            recorder.split()
        send(recorder.port, [datagram for picture in second for datagram in cut(picture)])
    assert [len(read_index(path)) for path in recorder.segments] == [10, 12]
    assert recorder.segments[1].read_bytes().endswith(b"".join(second)[400:])
    assert recorder.lost_datagrams == 0 or not told


def test_numbers_go_on_after_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "stream-007.idx").touch()
    with recorder_on(tmp_path) as recorder:
        send(recorder.port, cut(make_stream(1)[0]))
    assert [path.name for path in recorder.segments] == ["stream-008.ts"]


def test_silence_leaves_no_file(tmp_path: Path) -> None:
    with recorder_on(tmp_path) as recorder:
        time.sleep(0.05)
    assert recorder.stop() == ()
    assert list(tmp_path.iterdir()) == []
    assert recorder.fps == 0


def test_full_disk_is_told_and_what_was_kept_stays(tmp_path: Path) -> None:
    pictures = make_stream(60, size=8000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with recorder_on(tmp_path) as recorder:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        try:
            for picture in pictures:
                send(recorder.port, cut(picture))
                time.sleep(0.004)
            time.sleep(0.25)
            problems = recorder.problems
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [type(problem) for problem in problems] == [NoSpaceError]
    assert recorder.segments[0].stat().st_size == 100_000
    assert b"".join(pictures).startswith(recorder.segments[0].read_bytes())
    assert recorder.datagrams == sum(len(cut(picture)) for picture in pictures)


@contextmanager
def stalled_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A disk that takes nothing meanwhile."""
    write, works = segments._write_all, threading.Event()

    def wait_and_write(descriptor: int, data: bytes | bytearray) -> None:
        works.wait()
        write(descriptor, data)

    monkeypatch.setattr(segments, "_write_all", wait_and_write)
    try:
        yield
    finally:
        works.set()


def test_disk_that_stalls_for_three_seconds_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(make_stream(90, size=33_000))  # 3 s of 8 Mbit/s
    with recorder_on(tmp_path) as recorder, stalled_disk(monkeypatch):
        began = time.monotonic()
        send(recorder.port, cut(data), 0.0005)
        time.sleep(max(0.0, 3.0 - (time.monotonic() - began)))
        assert recorder.datagrams == len(cut(data))
    assert b"".join(path.read_bytes() for path in recorder.segments) == data
    assert recorder.lost_datagrams == 0
    assert not recorder.problems


def test_stall_that_is_longer_than_the_buffer_is_counted_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datagrams = cut(b"".join(make_stream(300)))
    with recorder_on(tmp_path, queue_bytes=100 * DATAGRAM_BYTES) as recorder:
        with stalled_disk(monkeypatch):
            send(recorder.port, datagrams[:-20], 0.001)
        deadline = time.monotonic() + 10.0
        while recorder._queue and time.monotonic() < deadline:
            time.sleep(0.02)
        send(recorder.port, datagrams[-20:])
    tables = 2 * PACKET_BYTES * (len(recorder.segments) - 1)  # a segment after a gap in time begins with them
    kept = sum(path.stat().st_size for path in recorder.segments) - tables
    lost = len(datagrams) + kept // -DATAGRAM_BYTES
    assert lost > 50
    assert recorder.lost_datagrams == lost


def test_a_full_queue_takes_what_still_fits_of_a_burst(tmp_path: Path) -> None:
    datagrams = cut(b"".join(make_stream(15)))[:15]
    recorder = StreamRecorder(tmp_path, HOST, 0, SETTINGS, 10 * DATAGRAM_BYTES)
    with closing(recorder._socket):
        send(recorder.port, datagrams)
        while recorder.datagrams < len(datagrams):
            recorder._drain()
    assert [entry.data for batch in recorder._queue if batch for entry in batch] == datagrams[:10]
    assert recorder.lost_datagrams == 5


def test_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with recorder_on(tmp_path) as recorder, pytest.raises(DeviceError, match=str(recorder.port)):
        StreamRecorder(tmp_path, HOST, recorder.port, SETTINGS)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    def count() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), threading.active_count()

    before = count()
    for _ in range(3):
        with recorder_on(tmp_path, Settings(segment_s=0.01, sync_interval_s=0.01)) as recorder:
            send(recorder.port, [datagram for picture in make_stream(20) for datagram in cut(picture)], 0.0005)
    assert count() == before


def _record_until_killed(folder: Path, port: "multiprocessing.SimpleQueue[int]") -> None:
    recorder = StreamRecorder(folder, HOST, 0, SETTINGS)
    recorder.start()
    port.put(recorder.port)
    time.sleep(60)


def test_killed_process_loses_a_fifth_of_a_second_at_most(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer = context.SimpleQueue()
    process = context.Process(target=_record_until_killed, args=(tmp_path, answer))
    process.start()
    port = answer.get()
    pictures = make_stream(60)
    for picture in pictures:
        send(port, cut(picture))
        time.sleep(0.02)
    process.kill()
    process.join()
    answer.close()
    kept = (tmp_path / "stream-001.ts").read_bytes()
    assert b"".join(pictures).startswith(kept)
    rows = read_index(tmp_path / "stream-001.ts")
    assert 60 - 0.2 / 0.02 - 3 <= len(rows) <= 60  # 3 more, for a busy machine
    assert all(row["byte_offset"] < len(kept) for row in rows)


# The wall clock's stamps


def test_stamp_from_before_the_wall_clock_was_set_is_not_believed() -> None:
    second = 1_000_000_000
    now, earliest = 50 * second, 50 * second - 30_000_000
    real = 1_700_000_000 * second
    assert stream._to_monotonic(real - 20_000_000, earliest, now, real) == now - 20_000_000
    assert stream._to_monotonic(real - 3600 * second, earliest, now, real) == now
    assert stream._to_monotonic(real - second // 2, earliest, now, real) == now
    assert stream._to_monotonic(real + 3600 * second, earliest, now, real) == now
    assert stream._to_monotonic(None, earliest, now, real) == now
