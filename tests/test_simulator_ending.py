import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from simulator.ending import Ending


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("step", range(8))
def test_a_signal_at_any_step_into_the_wait_ends_it(step: int) -> None:
    # With an Event it hangs at one of them: the handler sets it while the wait below it holds its lock.
    ending = Ending()
    steps = iter(range(step + 1))

    def interrupt(_frame: FrameType, _event: str, _argument: object) -> None:
        if next(steps, None) == step:
            signal.raise_signal(signal.SIGTERM)

    late = threading.Timer(0.2, ending.tell)  # where the wait has fewer steps
    late.start()
    sys.setprofile(interrupt)
    try:
        ending.wait()
    finally:
        sys.setprofile(None)
        late.cancel()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_wait_is_not_lost(number: signal.Signals) -> None:
    ending = Ending()
    signal.raise_signal(number)
    ending.wait()


def test_a_signal_wakes_a_wait_that_is_long_asleep() -> None:
    ending = Ending()
    late = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM))
    late.start()
    ending.wait()
    late.cancel()
