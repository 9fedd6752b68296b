"""Until when a simulated device runs: SIGTERM, Ctrl-C, or what else tells it to end."""

import signal
from queue import SimpleQueue


class Ending:
    """Takes SIGTERM and SIGINT from its making on, and lets the main thread wait for the first of them."""

    def __init__(self) -> None:
        # Not an Event: a signal may come while `wait` holds its lock, and a handler runs on top of what it interrupts.
        self._told: SimpleQueue[None] = SimpleQueue()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.tell)

    def tell(self, *_signal: object) -> None:
        """Let `wait` return; may be called by a signal's handler and by any thread."""
        self._told.put(None)

    def wait(self) -> None:
        """Return once somebody has told; at once if that was before."""
        self._told.get()
