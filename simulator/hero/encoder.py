"""H.264 as the virtual camera writes it: into MPEG-TS datagrams, or into an MP4 file."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
from av.container import OutputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from simulator.film import BT709, LIMITED_RANGE
from simulator.hero.sensor import CLOCK_HZ, Rate, Size

KEY_INTERVAL = 15  # frames; GoPro documents none
TS_PACKET_BYTES = 188
DATAGRAM_PACKETS = 7
DATAGRAM_BYTES = DATAGRAM_PACKETS * TS_PACKET_BYTES
NULL_PACKET = bytes((0x47, 0x1F, 0xFF, 0x10)) + b"\xff" * (TS_PACKET_BYTES - 4)  # ISO 13818-1: to be ignored
VIDEO_PID = 0x1011  # of old GoPro previews
PROGRAM_PID = 0x0100
CLOCK_LAG_US = 50_000  # of the clock reference behind the time stamps: the time a decoder has
CLOCK_INTERVAL_MS = 20  # less than a frame: each picture carries a clock reference
TS_OPTIONS = {
    "mpegts_copyts": "1",  # else the muxer shifts the time stamps
    "max_delay": str(CLOCK_LAG_US),
    "pcr_period": str(CLOCK_INTERVAL_MS),
    "mpegts_start_pid": str(VIDEO_PID),
    "mpegts_pmt_start_pid": str(PROGRAM_PID),
    "flush_packets": "1",  # each picture goes out when it is there; PAT and PMT come before each key frame anyway
}
BUFFER_S = 0.5  # of the decoder: bounds the size of a key frame


class TransportStream:
    """An MPEG-TS in memory: pictures in, whole datagrams out."""

    def __init__(self, size: Size, rate: Rate, bit_rate: int) -> None:
        self._bytes = bytearray()
        self._container = av.open(self, "w", format="mpegts", options=TS_OPTIONS, buffer_size=DATAGRAM_BYTES)
        self._container.metadata["service_provider"] = self._container.metadata["service_name"] = "GoPro"
        self._video = _add_video(self._container, size, rate, bit_rate)

    def write(self, data: bytes) -> int:
        """For the muxer: take its bytes."""
        self._bytes += data
        return len(data)

    def datagrams(self, picture: av.VideoFrame, pts_90khz: int) -> list[bytes]:
        """One picture as datagrams of 1316 bytes; the last is filled up with null packets."""
        _encode(self._container, self._video, picture, pts_90khz)
        missing = -len(self._bytes) % DATAGRAM_BYTES
        data = bytes(self._bytes) + NULL_PACKET * (missing // TS_PACKET_BYTES)
        self._bytes.clear()
        return [data[at : at + DATAGRAM_BYTES] for at in range(0, len(data), DATAGRAM_BYTES)]

    def close(self) -> None:
        """Free the encoder."""
        self._container.close()


class Mp4:
    """An MP4 file that begins at time 0, with frames of exactly equal length; its index comes at the end.

    `timecode` is that of the first frame, for a `tmcd` track: `hh:mm:ss:ff`, with `;` before the frames for drop-frame.
    """

    def __init__(self, path: Path, size: Size, rate: Rate, bit_rate: int, created: str, timecode: str) -> None:
        self.bytes_written = 0
        self.frames = 0
        self._rate = rate
        options = {"video_track_timescale": str(rate.timescale), "brand": "mp41"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._container.metadata["creation_time"] = created
        self._video = _add_video(self._container, size, rate, bit_rate)
        self._video.metadata["creation_time"] = created
        self._video.metadata["handler_name"] = "GoPro AVC"
        self._video.metadata["timecode"] = timecode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._container.mux(self._video.encode(None))
        self._container.close()

    @property
    def next_is_key(self) -> bool:
        """Whether the next frame begins a group: the place to begin another chapter."""
        return self.frames % KEY_INTERVAL == 0

    def add(self, picture: av.VideoFrame) -> int:
        """Append a frame; its time stamp in 90 kHz."""
        pts = self.frames * self._rate.ticks
        self.frames += 1
        self.bytes_written += _encode(self._container, self._video, picture, pts)
        return pts * CLOCK_HZ // self._rate.timescale


def _add_video(container: OutputContainer, size: Size, rate: Rate, bit_rate: int) -> VideoStream:
    kilobits = bit_rate // 1000
    x264 = {
        "keyint": KEY_INTERVAL,
        "min-keyint": KEY_INTERVAL,
        "scenecut": 0,
        "vbv-maxrate": kilobits,
        "vbv-bufsize": round(kilobits * BUFFER_S),
    }
    options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "x264-params": ":".join(f"{name}={value}" for name, value in x264.items()),
    }
    video = container.add_stream("libx264", rate=rate.per_second, options=options)
    context = video.codec_context
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = size.width, size.height, "yuv420p"
    context.color_range, context.colorspace = LIMITED_RANGE, BT709
    context.color_primaries = context.color_trc = BT709
    context.bit_rate = bit_rate
    context.thread_count = 1  # two cameras share two cores with everything else
    context.time_base = video.time_base = Fraction(1, rate.timescale)
    return video


def _encode(container: OutputContainer, video: VideoStream, picture: av.VideoFrame, pts: int) -> int:
    """Encode and write a picture; its length in bytes."""
    picture.pts = pts
    picture.time_base = video.codec_context.time_base
    packets = video.encode(picture)
    container.mux(packets)
    return sum(packet.size for packet in packets)
