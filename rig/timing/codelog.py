"""What the page with the time code says that it drew, and when: the recording's `codes/<page>.jsonl`, a line each post.

A line is `{"page", "user_agent", "refresh_hz", "offset_bound_ms", "missed", "draws": [[sequence, tenths_of_ms], ...]}`,
and `pi_offset_ns`, UTC minus CLOCK_MONOTONIC as the Pi had it then.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rig.arrays import Int64
from rig.clock import NS_PER_MS, NS_PER_S, ClockCurve
from rig.recordings import CODES
from rig.timing.qrtime import TICK_NS

PI_STEP_NS = 5 * NS_PER_MS  # the Pi was further off: its receiver had told it no time yet, or a wrong one
PAUSE_NS = 5 * NS_PER_S  # a page that drew nothing for longer was not on the screen


@dataclass(frozen=True, slots=True)
class CodeLog:
    """The codes that one page drew, in the order of their time, each once."""

    page: str
    user_agent: str
    offset_bound_ns: int  # the largest error of the page's idea of the Pi's clock that it admitted
    utc_ns: Int64
    sequence: Int64
    pi_offset_ns: Int64  # UTC minus CLOCK_MONOTONIC as the Pi had it, 0 where nobody noted it

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


def corrected(logs: Sequence[CodeLog], utc: ClockCurve) -> tuple[tuple[CodeLog, ...], dict[int, int]]:
    """The logs in the time that the receiver told in the end, and the true time of each code that held another one."""
    true_times: dict[int, int] = {}
    right = []
    for log in logs:
        true_ns = utc.utc_ns(log.utc_ns - log.pi_offset_ns)
        moved = (log.pi_offset_ns != 0) & (np.abs(true_ns - log.utc_ns) > PI_STEP_NS)
        true_times |= zip(log.utc_ns[moved].tolist(), true_ns[moved].tolist(), strict=True)
        true_ns = np.where(moved, true_ns, log.utc_ns)
        order = np.argsort(true_ns, kind="stable")
        sequence, offset_ns = log.sequence[order], log.pi_offset_ns[order]
        right.append(replace(log, utc_ns=true_ns[order], sequence=sequence, pi_offset_ns=offset_ns))
    return tuple(right), true_times


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
    names = ("utc_ns", "sequence", "pi_offset_ns")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return replace(parts[0], offset_bound_ns=max(part.offset_bound_ns for part in parts), **arrays)


def _read(path: Path) -> CodeLog | None:
    posts = list(_posts(path))
    draws = {tenths: (sequence, offset_ns) for sequence, tenths, offset_ns in _draws(posts)}
    if not draws:
        return None
    bounds = [post["offset_bound_ms"] for post in posts if isinstance(post.get("offset_bound_ms"), int | float)]
    tenths_ms = sorted(draws)
    sequence, pi_offset_ns = np.array([draws[tenths] for tenths in tenths_ms], dtype=np.int64).T
    return CodeLog(
        page=path.stem,
        user_agent=str(posts[-1].get("user_agent", "")),
        offset_bound_ns=round(max(bounds, default=0.0) * NS_PER_MS),
        utc_ns=np.array(tenths_ms, dtype=np.int64) * TICK_NS,
        sequence=sequence,
        pi_offset_ns=pi_offset_ns,
    )


def _draws(posts: Sequence[dict[str, Any]]) -> Iterator[tuple[int, int, int]]:
    """Sequence, tenths of ms, and the Pi's offset; of those around a step of its clock nobody knows which side."""
    before_ns = None
    for post in posts:
        said = post.get("pi_offset_ns")
        offset_ns = said if isinstance(said, int) and 0 < said < 1 << 62 else 0
        if before_ns is None or abs(offset_ns - before_ns) <= PI_STEP_NS:
            for sequence, tenths in post["draws"]:
                yield int(sequence), int(tenths), offset_ns
        before_ns = offset_ns


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
