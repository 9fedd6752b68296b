"""`python -m simulator VERB ...`: one device, or the whole car, that knows the truth."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = {
    "camera": "a GoPro: HTTP, live streams by UDP, recordings",
    "receiver": "a GNSS receiver: NMEA on a pseudo terminal",
    "car": "the whole rig: cameras, receiver, phone",
    "demo": "a recording of a simulated car by edenCar, and how well it did",
    "measure": "a measurement (./edencar measure) of a simulated car",
}
USAGE = "usage: python -m simulator VERB [--help] ...\n\n" + "\n".join(
    f"  {verb:10}{text}" for verb, text in VERBS.items()
)


def main(argv: Sequence[str]) -> int:
    """Run a verb; the exit code is its own, 2 for an unknown one."""
    if argv[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if not argv or argv[0] not in VERBS:
        print(USAGE, file=sys.stderr)
        return 2
    # Before numpy is loaded, here and in child processes: its threads wait by spinning, which costs real time here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Imported only now: each verb needs other packages, and some need many.
    code: int = import_module(f"simulator.{argv[0]}").main(argv[1:])
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
