"""The pictures of a stream as soon as their bytes are here, decoded, on a clock that never jumps to zero.

The server imports this module by way of others and decodes nothing: PyAV is loaded where a decoder is made.
"""

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

from rig.clock import EARLY_SHARE, NS_PER_S
from rig.footage.tail import Line, read_unit
from rig.footage.transport import PTS_HZ, pts_after

HEAD_BYTES = 200 << 10  # of a segment; tells the codec
CLOCK_STEP_NS = NS_PER_S // 2  # a stream that was started anew


class PtsClock:
    """PTS without the jump to zero every 26.5 hours, in ns."""

    def __init__(self) -> None:
        self._last: Line | None = None
        self._last_ticks = 0

    def take(self, line: Line) -> bool:
        """Take the next picture of the stream; True when it is of a stream that was started anew."""
        before, self._last = self._last, line
        if before is None:
            self._last_ticks = line.pts_90khz
            return False
        step = pts_after(line.pts_90khz, before.pts_90khz)
        waited_ns = line.arrival_monotonic_ns - before.arrival_monotonic_ns
        anew = abs(step * NS_PER_S // PTS_HZ - waited_ns) > CLOCK_STEP_NS
        self._last_ticks = line.pts_90khz if anew else self._last_ticks + step
        return anew

    def ns(self, pts_90khz: int) -> int:
        """A PTS near the newest one."""
        assert self._last is not None
        ticks = self._last_ticks + pts_after(pts_90khz, self._last.pts_90khz)
        return ticks * NS_PER_S // PTS_HZ


def early_and_median(lags_ns: Collection[int]) -> tuple[int, int]:
    """Of arrivals less PTS, ns: the early one, which a busy machine hardly moves, and the one in the middle."""
    import numpy as np

    early, median = np.quantile(list(lags_ns), (EARLY_SHARE, 0.5))
    return round(early), round(median)


class Decoder:
    """The pictures of one stream, each as soon as its bytes are here."""

    def __init__(self) -> None:
        self._context: Any = None

    def decode(self, line: Line, *, anew: bool) -> Any:
        """The picture of a line; `anew` when the one before it was not decoded.

        None when it is damaged, when it has been moved away, or when too little of its stream is here yet.
        """
        import av

        try:
            self._context = self._context or _open(line.segment)
            unit = read_unit(line)
            if anew:
                self._context.flush_buffers()
            frames = self._context.decode(av.Packet(unit)) if unit else []
        except (av.error.FFmpegError, OSError, IndexError):
            return None
        return frames[-1] if frames else None


def _open(segment: Path) -> Any:
    """A decoder for what a segment holds. Raises FFmpegError or IndexError when no video is seen in it yet, OSError."""
    import av

    with segment.open("rb") as file:
        head = io.BytesIO(file.read(HEAD_BYTES))
    with av.open(head, format="mpegts") as container:
        context: Any = av.CodecContext.create(container.streams.video[0].codec_context.name, "r")
    context.thread_count = 1  # a thread more is a picture later
    context.options = {"flags": "low_delay"}
    return context
