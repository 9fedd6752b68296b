"""The page on the simulated phone, as far as the Pi hears of it: twice a second it says which codes it has drawn."""

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urljoin

import requests

from simulator.phone import Phone

ROUTE = "/api/qrcode/log"
USER_AGENT = "Mozilla/5.0 (simulated phone) edenCar-simulator"
INTERVAL_S = 0.5
ANSWER_S = 3.0
LEAD_NS = 100_000_000  # the page runs before the screen is turned to the cameras: what they see first was drawn then
DIGITS_OF_TIME = 14


class Page:
    """Uploads the draw log of a phone from its creation until `close`; `utc_ns` tells the true time."""

    def __init__(self, clock_url: str, phone: Phone, bound_ns: int, utc_ns: Callable[[], int], name: str) -> None:
        self._url = urljoin(clock_url, ROUTE)
        self._phone, self._bound_ns, self._utc_ns, self._name = phone, bound_ns, utc_ns, name
        self._told_ns = utc_ns() - LEAD_NS
        self._missed = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Draw no more, and say what was drawn last."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            while not self._closing.wait(INTERVAL_S):
                self._post(session)
            self._post(session)

    def _post(self, session: requests.Session) -> None:
        with suppress(requests.RequestException):  # a server that is gone or older hears nothing, as in the car
            session.post(self._url, json=self._log(self._utc_ns()), timeout=ANSWER_S)

    def _log(self, until_ns: int) -> dict[str, Any]:
        drawn = self._phone.drawn(self._told_ns, until_ns)
        self._missed += drawn[-1].refresh - drawn[0].refresh + 1 - len(drawn) if drawn else 0
        self._told_ns = until_ns
        return {
            "page": self._name,
            "user_agent": USER_AGENT,
            "refresh_hz": self._phone.refresh_hz,
            "offset_bound_ms": self._bound_ns / 1e6,
            "missed": self._missed,
            "draws": [[int(code.payload[DIGITS_OF_TIME]), int(code.payload[:DIGITS_OF_TIME])] for code in drawn],
        }
