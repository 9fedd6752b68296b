"""What the Raspberry Pi says about its power and heat; nothing on other machines."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rig.status import WARNING, Problem

THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
# Bits of `vcgencmd get_throttled` (Raspberry Pi documentation): now, and since the boot at 16 places further left.
WEAK, CAPPED, THROTTLING, HOT = 1 << 0, 1 << 1, 1 << 2, 1 << 3
PAST = 16


def machine_problems(throttled: Path = THROTTLED) -> Iterator[Problem]:
    """What is wrong with the machine itself."""
    bits = 0
    with suppress(OSError, ValueError):
        bits = int(throttled.read_text(encoding="ascii"), 16)
    if bits & WEAK:
        yield Problem("machine", WARNING, "The Pi gets too little voltage", "Use a better supply and a shorter cable")
    elif bits & WEAK << PAST:
        text = "The Pi got too little voltage since it was switched on"
        yield Problem("machine", WARNING, text, "Use a better supply and a shorter cable")
    if bits & (CAPPED | THROTTLING | HOT):
        yield Problem("machine", WARNING, "The Pi is slowed down", "Give it air, or a better supply")
