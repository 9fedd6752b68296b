"""What the page with the time code says that it drew, and when: the recording's `codes/<page>.jsonl`, a line each post.

A line is `{"page", "user_agent", "refresh_hz", "offset_bound_ms", "missed", "draws": [[sequence, tenths_of_ms], ...]}`.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rig.arrays import Int64
from rig.clock import NS_PER_MS, NS_PER_S
from rig.recordings import CODES
from rig.timing.qrtime import TICK_NS

PAUSE_NS = 5 * NS_PER_S  # a page that drew nothing for longer was not on the screen


@dataclass(frozen=True, slots=True)
class CodeLog:
    """The codes that one page drew, in the order of their time, each once."""

    page: str
    user_agent: str
    offset_bound_ns: int  # the largest error of the page's idea of the Pi's clock that it admitted
    utc_ns: Int64
    sequence: Int64

    def number(self, utc_ns: int) -> int | None:
        """Which of the codes holds exactly this time; None when the page drew no such code."""
        index = int(np.searchsorted(self.utc_ns, utc_ns))
        return index if index < len(self.utc_ns) and int(self.utc_ns[index]) == utc_ns else None

    def next_ns(self, utc_ns: int) -> int | None:
        """The time in the code that was drawn after this one; None when either is unknown or the page paused."""
        index = self.number(utc_ns)
        if index is None or index + 1 >= len(self.utc_ns):
            return None
        following = int(self.utc_ns[index + 1])
        return following if following - utc_ns < PAUSE_NS else None

    def spans(self) -> list[tuple[int, int]]:
        """From when until when the page was drawing, in ns of UTC."""
        ends = np.flatnonzero(np.diff(self.utc_ns) > PAUSE_NS)
        begins = np.concatenate([[0], ends + 1])
        return [
            (int(self.utc_ns[begin]), int(self.utc_ns[end]))
            for begin, end in zip(begins, [*ends, len(self.utc_ns) - 1], strict=True)
        ]


def read_logs(recording: Path) -> list[CodeLog]:
    """The logs of a recording's folder, those without any code left out; lines that are torn or odd are skipped."""
    logs = [_read(path) for path in sorted((recording / CODES).glob("*.jsonl"))]
    return [log for log in logs if log is not None]


def holder(logs: Sequence[CodeLog], utc_ns: int) -> CodeLog | None:
    """The log of the page that drew a code of this time."""
    return next((log for log in logs if log.number(utc_ns) is not None), None)


def joined(logs: Sequence[CodeLog], times_ns: Sequence[int]) -> CodeLog | None:
    """The one page that drew codes of these times, or those that did so one after another, as a page loaded again."""
    counts = [(sum(log.number(utc_ns) is not None for utc_ns in times_ns), log) for log in logs]
    parts: list[CodeLog] = []
    for count, log in sorted(counts, key=lambda counted: -counted[0]):
        if count and all(log.utc_ns[0] > part.utc_ns[-1] or log.utc_ns[-1] < part.utc_ns[0] for part in parts):
            parts.append(log)
    parts.sort(key=lambda part: int(part.utc_ns[0]))
    if len(parts) < 2:
        return parts[0] if parts else None
    utc_ns, sequence = (np.concatenate([getattr(part, name) for part in parts]) for name in ("utc_ns", "sequence"))
    bound_ns = max(part.offset_bound_ns for part in parts)
    return CodeLog(parts[0].page, parts[0].user_agent, bound_ns, utc_ns, sequence)


def _read(path: Path) -> CodeLog | None:
    posts = list(_posts(path))
    draws = {int(tenths): int(sequence) for post in posts for sequence, tenths in post["draws"]}
    if not draws:
        return None
    bounds = [post["offset_bound_ms"] for post in posts if isinstance(post.get("offset_bound_ms"), int | float)]
    tenths_ms = sorted(draws)
    return CodeLog(
        page=path.stem,
        user_agent=str(posts[-1].get("user_agent", "")),
        offset_bound_ns=round(max(bounds, default=0.0) * NS_PER_MS),
        utc_ns=np.array(tenths_ms, dtype=np.int64) * TICK_NS,
        sequence=np.array([draws[tenths] for tenths in tenths_ms], dtype=np.int64),
    )


def _posts(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            post = json.loads(line)
            if all(len(draw) == 2 and all(isinstance(part, int) for part in draw) for draw in post["draws"]):
                yield post
        except (ValueError, TypeError, KeyError):
            continue
