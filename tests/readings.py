"""What a camera reads off a screen with the code, without any picture: for films by the hundred."""

import numpy as np

from rig.clock import NS_PER_S
from rig.timing.interval import Observation
from rig.timing.qrtime import TICK_NS, TimeCode
from rig.timing.timeline import Terms

LATENCY_NS = 35_000_000
EXPOSURE_NS = 8_000_000
BEGIN_NS = 1_795_356_192 * NS_PER_S
TERMS = Terms(
    display_latency_ns=LATENCY_NS,
    display_latency_error_ns=25_000_000,
    clock_error_ns=5_000_000,
    refresh_ns=16_666_667,
    read_out_ns=15_000_000,
    read_out_error_ns=6_000_000,
    unknown_rate_ppm=50.0,
    max_rate_ppm=100.0,
)

Film = list[Observation]


def film(
    rng: np.random.Generator,
    *,
    first_pts_s: float = 3.0,
    seconds: float = 3.0,
    fps: float = 30000 / 1001,
    rate_ppm: float = 0.0,
    refresh_hz: float = 60.0,
    hiccups: float = 0.01,
    wrong: float = 0.002,
    row: float = 0.5,
) -> Film:
    """What a camera reads off a screen: frames at true times BEGIN + (1 + rate) PTS, mixed exposures, some faults."""
    refresh_ns = NS_PER_S / (refresh_hz * (1 + rng.uniform(-1e-3, 1e-3)))
    phase_ns = rng.uniform(0, refresh_ns)
    readings = []
    for pts_ns in (first_pts_s + np.arange(round(seconds * fps)) / fps) * 1e9:
        if rng.random() > 0.9:
            continue  # not every frame is read
        seen_ns = pts_ns * (1 + rate_ppm * 1e-6) + (row - 0.5) * TERMS.read_out_ns
        newest, begun = np.divmod(seen_ns + EXPOSURE_NS / 2 - LATENCY_NS - phase_ns, refresh_ns)
        share = begun / EXPOSURE_NS  # of the exposure in which the newest code was lit
        if 0.44 < share < 0.56 and rng.random() < 0.7:
            continue  # a mixture that is seldom read
        number = newest if share > rng.uniform(0.44, 0.56) else newest - 1
        if rng.random() < hiccups:
            number -= 1  # this refresh was missed: the code before still stands
        utc_ns = BEGIN_NS + int(phase_ns + number * refresh_ns)
        if rng.random() < wrong:
            utc_ns += int(rng.uniform(-1e13, 1e13))
        code = TimeCode(utc_ns // TICK_NS * TICK_NS, TICK_NS, int(number) % 10)
        readings.append(Observation(round(pts_ns), code, row))
    return readings
