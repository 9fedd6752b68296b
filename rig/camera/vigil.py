"""Beside a command that lasts: the camera is kept awake, and what goes wrong with it is told at once and remembered."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from rig.camera.goproanswers import CameraState
from rig.camera.opengopro import TROUBLE, GoPro
from rig.status import TOO_HOT

KEEP_ALIVE_S = 2.5  # GoPro's advice is 3
WATCH_S = 2.0
BEAT_TIMEOUTS_S = (1.0, 2.0)
STILL_POLLS = 2  # a recording camera that says so often that it does not is started again
STILL_PAUSE_POLLS = 5  # before the next try

log = logging.getLogger(__name__)


@contextmanager
def awake(address: str) -> Iterator[None]:
    """Keep the camera from sleeping meanwhile, from a thread and over connections of its own."""
    over = threading.Event()

    def beat() -> None:
        with closing(GoPro(address, BEAT_TIMEOUTS_S)) as camera:
            while True:
                with suppress(*TROUBLE):
                    camera.keep_alive()
                if over.wait(KEEP_ALIVE_S):
                    return

    heart = threading.Thread(target=beat, name=f"keep {address} awake", daemon=True)
    heart.start()
    try:
        yield
    finally:
        over.set()
        heart.join()


class Vigil:
    """What a camera says of itself while it works; `problems` are sentences, each told once."""

    def __init__(self, camera: GoPro) -> None:
        self.problems: list[str] = []
        self._camera = camera
        self._due_s = 0.0

    def look(self) -> CameraState | None:
        """Its state, when it is time to ask again and it answers."""
        if time.monotonic() < self._due_s:
            return None
        self._due_s = time.monotonic() + WATCH_S
        with suppress(*TROUBLE):
            state = self._camera.state()
            for problem in (TOO_HOT if state.hot else None, state.card_problem):
                self.note(problem)
            return state
        return None

    def note(self, problem: str | None) -> None:
        """Tell of a problem that is a new one."""
        if problem and problem not in self.problems:
            self.problems.append(problem)
            log.warning("%s", problem)


class Restarter:
    """Has a camera record again that stopped by itself: some do, after half an hour or when they are hot."""

    def __init__(self, camera: GoPro) -> None:
        self._camera = camera
        self._still = 0

    def watch(self, state: CameraState) -> str | None:
        """Called with each new state; what was done, when something was."""
        self._still = 0 if state.encoding else self._still + 1
        if self._still < STILL_POLLS:
            return None
        self._still, end = 0, "was started again"
        try:
            self._camera.start_recording()
        except TROUBLE as error:
            self._still, end = -STILL_PAUSE_POLLS, f"does not start again ({error})"
        return f"the camera stopped recording by itself and {end}"
