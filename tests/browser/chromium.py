"""Debian's Chromium under Playwright, started once for a module's tests."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Error, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
CAR = "edencar.lan"  # a name that is no loopback: browsers give such pages on plain http fewer rights
WAIT_S = 15.0
POLL_MS = 20
ARGUMENTS = ("--no-sandbox", "--disable-dev-shm-usage", f"--host-resolver-rules=MAP {CAR} 127.0.0.1")


@contextmanager
def browsing() -> Iterator[Browser]:
    """A browser without a window; the test is skipped where none is installed or none starts."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser here: install one of {', '.join(NAMES)}")
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        except Error as error:
            pytest.skip(f"{program} does not start: {error.message.splitlines()[0]}")
        try:
            yield browser
        finally:
            browser.close()


def complaints(page: Page) -> list[str]:
    """What a page writes to its console as a warning or an error from now on; it grows."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type in ("warning", "error") else None)
    page.on("pageerror", lambda error: found.append(str(error)))
    return found


def await_true(page: Page, expression: str) -> None:
    """Wait until a JavaScript expression is true; unlike Playwright's own, under a policy that forbids eval too."""
    deadline_s = time.monotonic() + WAIT_S
    while not page.evaluate(expression):
        assert time.monotonic() < deadline_s, f"not within {WAIT_S} s: {expression}"
        page.wait_for_timeout(POLL_MS)
