"""A stream's arrivals tell how the camera's clock ran, whatever its crystal did."""

from pathlib import Path

import numpy as np
import pytest

from rig.clock import NS_PER_S
from rig.footage.video import find_videos
from rig.timing import arrival
from rig.timing.cameraclock import Anchor, CameraClock
from tests.films import steady, write_film, write_index


def clock_at(pts_ns: int) -> CameraClock:
    return CameraClock("qr", 0, 0.0, 50.0, (), (Anchor(pts_ns, pts_ns, 500_000, 70, 0),))


@pytest.mark.parametrize("rate_ppm", [-50.0, 0.0, 50.0])
def test_the_drift_of_a_warming_crystal_is_followed(rate_ppm: float) -> None:
    rng = np.random.default_rng(1)
    pts = np.arange(0, 3600 * NS_PER_S, NS_PER_S // 25, dtype=np.int64)
    gained = pts * rate_ppm * 1e-6 + 2e-6 * 600e9 * (1 - np.exp(-pts / 600e9))
    came = np.asarray(pts + gained + 230e6 + rng.exponential(5e6, len(pts)), dtype=np.int64)
    edge = arrival.envelope(pts, came - pts)
    assert edge is not None
    clock = arrival.along(clock_at(int(pts[75])), edge, 20.0, (0, int(pts[-1])))
    errors = clock.utc_ns(pts) - pts - (gained - gained[75])
    assert np.abs(errors).max() < 1_500_000
    assert (np.abs(errors) <= clock.error_ns(pts)).all()
    assert clock.source == "qr+arrival"


@pytest.mark.parametrize("seconds", [300, 1800])
@pytest.mark.parametrize("step_ms", [33, -16])
def test_a_way_that_becomes_longer_is_in_the_bar(step_ms: int, seconds: int) -> None:
    """No crystal steps: the camera's encoder holds a picture more from then on, or counted one too few."""
    pts = np.arange(0, seconds * NS_PER_S, NS_PER_S // 5, dtype=np.int64)
    delay = 230_000_000 + np.where(pts > seconds * NS_PER_S // 2, step_ms * 1_000_000, 0)
    edge = arrival.envelope(pts, delay)
    assert edge is not None
    clock = arrival.along(clock_at(0), edge, 20.0, (0, int(pts[-1])))
    assert (np.abs(clock.utc_ns(pts) - pts) <= clock.error_ns(pts)).all()
    assert "a code at the end tells why" in clock.warnings[0]


def test_too_short_a_stream_tells_no_drift() -> None:
    pts = np.arange(0, 60 * NS_PER_S, NS_PER_S // 25, dtype=np.int64)
    assert arrival.envelope(pts, pts * 0) is None


def test_a_stream_without_an_index_keeps_its_clock(tmp_path: Path) -> None:
    write_film(tmp_path / "stream-001.ts", steady(5))
    (item,) = find_videos([tmp_path / "stream-001.ts"])
    clock = clock_at(0)
    assert arrival.bent(clock, item, None, 20.0) is clock


def test_arrivals_come_with_the_pts_of_the_video_and_without_the_torn_line(tmp_path: Path) -> None:
    write_film(tmp_path / "stream-001.ts", steady(5))
    write_index(tmp_path / "stream-001.ts", 7_000)
    (item,) = find_videos([tmp_path / "stream-001.ts"])
    pts, came = arrival.arrivals(item)
    assert pts.tolist() == item.clips[0].clock_ns.tolist()
    assert (came - pts).tolist() == pytest.approx([7_000] * 5, abs=1)


@pytest.mark.parametrize(
    "text", ["", "utc_ns,arrival_monotonic_ns\n", "a,b\n1,2\n", "utc_ns,arrival_monotonic_ns\n1,2\n3"]
)
def test_few_or_no_epochs_give_no_clock(tmp_path: Path, text: str) -> None:
    (tmp_path / "positions.csv").write_text(text)
    assert arrival.receiver_clock(tmp_path / "positions.csv", 0, 0) is None
    assert arrival.receiver_clock(tmp_path / "missing.csv", 0, 0) is None
