"""H.264 or HEVC as the virtual camera writes it: into MPEG-TS datagrams, or into an MP4 file."""

from collections.abc import Mapping
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

H264, HEVC = "libx264", "libx265"
HANDLERS = {H264: "GoPro AVC", HEVC: "GoPro H.265"}
OF_CODEC: Mapping[str, Mapping[str, object]] = {
    H264: {"ratetol": 0.1},
    HEVC: {"pools": "none", "frame-threads": 1, "wpp": 0, "log-level": 0},  # on one core
}
AUDIO_HZ, AUDIO_FRAME, AUDIO_BIT_RATE = 48_000, 1024, 128_000
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
# A tight buffer of the decoder would cost a third more work. This one bounds key frames; the rate is kept otherwise.
PEAK, BUFFER_S = 10 / 3, 5 / 6


class TransportStream:
    """An MPEG-TS in memory: pictures in, whole datagrams out."""

    def __init__(self, size: Size, rate: Rate, bit_rate: int, codec: str = H264, has_audio: bool = False) -> None:
        self._bytes = bytearray()
        self._container = av.open(self, "w", format="mpegts", options=TS_OPTIONS, buffer_size=DATAGRAM_BYTES)
        self._container.metadata["service_provider"] = self._container.metadata["service_name"] = "GoPro"
        self._video = _add_video(self._container, size, rate, bit_rate, codec)
        self._silence = Silence(self._container) if has_audio else None
        self._first_pts: int | None = None

    def write(self, data: bytes) -> int:
        """For the muxer: take its bytes."""
        self._bytes += data
        return len(data)

    def datagrams(self, picture: av.VideoFrame, pts_90khz: int) -> list[bytes]:
        """One picture as datagrams of 1316 bytes; the last is filled up with null packets."""
        if self._silence is not None:
            self._first_pts = pts_90khz if self._first_pts is None else self._first_pts
            self._silence.write_until(Fraction(pts_90khz, CLOCK_HZ), Fraction(self._first_pts, CLOCK_HZ))
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

    def __init__(
        self, path: Path, size: Size, rate: Rate, bit_rate: int, created: str, timecode: str, codec: str = H264
    ) -> None:
        self.bytes_written = 0
        self.frames = 0
        self._rate = rate
        options = {"video_track_timescale": str(rate.timescale), "brand": "mp41"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._container.metadata["creation_time"] = created
        self._video = _add_video(self._container, size, rate, bit_rate, codec)
        self._video.metadata["creation_time"] = created
        self._video.metadata["handler_name"] = HANDLERS[codec]
        self._video.metadata["timecode"] = timecode
        self._silence = Silence(self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._container.mux(self._video.encode(None))
        self._silence.close()
        self._container.close()

    @property
    def next_is_key(self) -> bool:
        """Whether the next frame begins a group: the place to begin another chapter."""
        return self.frames % KEY_INTERVAL == 0

    def add(self, picture: av.VideoFrame) -> int:
        """Append a frame; its time stamp in 90 kHz."""
        pts = self.frames * self._rate.ticks
        self._silence.write_until(Fraction(pts, self._rate.timescale))
        self.frames += 1
        self.bytes_written += _encode(self._container, self._video, picture, pts)
        return pts * CLOCK_HZ // self._rate.timescale


class Silence:
    """The sound of a simulated street: an AAC track as long as the film."""

    def __init__(self, container: OutputContainer) -> None:
        self._container = container
        self._stream = container.add_stream("aac", rate=AUDIO_HZ)
        self._stream.bit_rate = AUDIO_BIT_RATE
        self._stream.metadata["handler_name"] = "GoPro AAC"
        self._frames = 0

    def write_until(self, second: Fraction, first: Fraction = Fraction(0)) -> None:
        """Write up to a time of the film, which begins at `first`."""
        start = round(first * AUDIO_HZ)
        while start + self._frames * AUDIO_FRAME < second * AUDIO_HZ:
            self._frames += 1
            frame = av.AudioFrame("fltp", "stereo", AUDIO_FRAME)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            # The encoder begins one frame before what it is given; the track begins at 0.
            frame.sample_rate, frame.pts = AUDIO_HZ, start + self._frames * AUDIO_FRAME
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what the encoder holds back."""
        self._container.mux(self._stream.encode(None))


def _add_video(container: OutputContainer, size: Size, rate: Rate, bit_rate: int, codec: str) -> VideoStream:
    kilobits = bit_rate // 1000
    parameters = {
        "keyint": KEY_INTERVAL,
        "min-keyint": KEY_INTERVAL,
        "scenecut": 0,
        "vbv-maxrate": round(kilobits * PEAK),
        "vbv-bufsize": round(kilobits * BUFFER_S),
        **OF_CODEC[codec],
    }
    options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        f"{codec.removeprefix('lib')}-params": ":".join(f"{name}={value}" for name, value in parameters.items()),
    }
    video = container.add_stream(codec, rate=rate.per_second, options=options)
    context = video.codec_context
    assert isinstance(video, VideoStream)
    assert isinstance(context, VideoCodecContext)
    if codec == HEVC and container.format.name == "mp4":
        context.codec_tag = "hvc1"
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
