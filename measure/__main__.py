"""`./edencar measure`: which measurement, and its own command line."""

import sys
from importlib import import_module

VERBS = {
    "delay": "how late the stream comes over hours",
    "buffer": "how many seconds the buffers hold, and what is lost beyond",
    "drift": "how the cameras' clocks run apart",
    "fov": "which lens and resolution reads the smallest characters",
}


def main(argv: list[str]) -> int:
    """Hand over to one measurement; 2 for an unknown one."""
    if argv and argv[0] in VERBS:
        code: int = import_module(f"measure.{argv[0]}").main(argv[1:])
        return code
    help_wanted = not argv or argv[0] in ("-h", "--help")
    lines = [f"  {verb:8} {what}" for verb, what in VERBS.items()]
    print("usage: edencar measure VERB [OPTIONS]", "", *lines, sep="\n", file=sys.stdout if help_wanted else sys.stderr)
    return 0 if help_wanted else 2


raise SystemExit(main(sys.argv[1:]))
