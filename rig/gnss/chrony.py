"""The receiver's time for chronyd, by its SOCK reference clock: the Pi's own clock becomes right (docs/chrony.md)."""

import socket
import struct
from contextlib import suppress

from rig.clock import NS_PER_S

# struct sock_sample of chrony's refclock_sock.c on 64-bit Linux: struct timeval, double offset, int pulse, int leap,
# int of padding, int magic; native byte order.
SAMPLE = struct.Struct("@qqdiiii")
MAGIC = 0x534F434B  # "SOCK"
NO_PULSE, NO_LEAP = 0, 0


def tell_chrony(path: str, realtime_ns: int, utc_ns: int) -> None:
    """Say on chronyd's socket that CLOCK_REALTIME was `realtime_ns` when it was `utc_ns` in truth.

    A chronyd that is not there is no error.
    """
    seconds, rest_ns = divmod(realtime_ns, NS_PER_S)
    offset_s = (utc_ns - realtime_ns) / NS_PER_S
    sample = SAMPLE.pack(seconds, rest_ns // 1000, offset_s, NO_PULSE, NO_LEAP, 0, MAGIC)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender, suppress(OSError):
        sender.sendto(sample, path)
