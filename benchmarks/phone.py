"""The phone's pages and the API under a crowd: sizes, first paint, lists, status beside downloads and a job.

No peer serves such a page: the budgets are our own, printed beside the figures.
"""

import argparse
import http.client
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Browser

from tests.browser.chromium import CAR, await_true, browsing
from tests.browser.shots import phone_context
from tests.browser.site import Site, a_site, add_many_photos, add_recording, busy_job

RUNS = 5
WATCHERS, ASKED_S = 4, 20.0
SLOW_BYTES_PER_S = 50_000
THIN_LINE = {"offline": False, "latency": 80, "downloadThroughput": 1e6 / 8, "uploadThroughput": 1e6 / 8}


def main() -> int:
    """Measure all and print it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}, Python {platform.python_version()}")
    jpeg = bytes(cv2.imencode(".jpg", np.random.default_rng(1).integers(0, 255, (1080, 1920, 3), np.uint8))[1])
    with tempfile.TemporaryDirectory() as folder, browsing() as browser:
        _measure_first_page(Path(folder) / "a", browser)
        _measure_list(Path(folder) / "b")
        _measure_photos(Path(folder) / "c", browser, jpeg)
        _measure_crowd(Path(folder) / "d")
    return 0


def _measure_first_page(output: Path, browser: Browser) -> None:
    with a_site(output, "C1") as site:
        context = phone_context(browser)
        page = context.new_page()
        network = context.new_cdp_session(page)
        network.send("Network.enable")
        sizes: list[float] = []
        network.on("Network.loadingFinished", lambda event: sizes.append(event["encodedDataLength"]))
        page.goto(site.url("/", CAR))
        page.wait_for_timeout(700)
        _say("first page", f"{sum(sizes) / 1000:.1f} kB, {len(sizes)} requests", "60 kB, 8 requests")
        network.send("Network.emulateNetworkConditions", THIN_LINE)
        paints = []
        for _ in range(RUNS):
            network.send("Network.clearBrowserCache")
            page.goto(site.url("/", CAR))
            page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        _say(
            "first paint at 1 Mbit/s, 80 ms", f"{statistics.median(paints):.0f} ms (best {min(paints):.0f})", "1000 ms"
        )
        context.close()


def _measure_list(output: Path) -> None:
    for number in range(100):
        add_recording(output, number, seconds=60)
    with a_site(output, "C1") as site:
        while b'"summary": null' in _get(site, "/api/recordings"):
            time.sleep(0.2)
        site.app.extensions["digests"]._known.clear()  # as after a restart
        cold = _timed(lambda: _get(site, "/api/recordings"))
        warm = [_timed(lambda: _get(site, "/api/recordings")) for _ in range(RUNS)]
        _say("100 recordings", f"{cold:.0f} ms after a restart, then {statistics.median(warm):.0f} ms", "300 ms")


def _measure_photos(output: Path, browser: Browser, jpeg: bytes) -> None:
    recording = add_many_photos(output, 20_000, jpeg)
    with a_site(output, "C1") as site:
        context = phone_context(browser)
        page = context.new_page()

        def show() -> None:
            page.goto(site.url(f"/recordings/{recording}", CAR))
            await_true(page, "document.getElementById('photo-count').textContent.length > 4")

        opened = [_timed(show) for _ in range(RUNS)]
        _say("20,000 photos open", f"{statistics.median(opened):.0f} ms (best {min(opened):.0f})", "2000 ms")
        context.close()


def _measure_crowd(output: Path) -> None:
    recording = add_recording(output, 0, seconds=60)
    with (output / recording / "large.bin").open("wb") as file:
        file.truncate(1 << 30)
    with a_site(output, "C1", work=busy_job) as site:
        _ask("POST", site, f"/api/recordings/{add_recording(output, 1, seconds=5)}/process")
        spent: list[float] = []
        with _slow_download(site, f"/api/recordings/{recording}/files/large.bin"):
            threads = [threading.Thread(target=_watch, args=(site, spent)) for _ in range(WATCHERS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for job in site.app.extensions["jobs"].list():
            site.app.extensions["jobs"].cancel(job.id)
    p50, p99 = np.percentile(spent, [50, 99])
    _say(
        f"status, {WATCHERS} phones, a slow download, a job",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(spent)}",
        "50 ms",
    )


def _watch(site: Site, spent: list[float]) -> None:
    """Ask twice a second, as a page that is somewhat hasty."""
    until_s = time.monotonic() + ASKED_S
    while time.monotonic() < until_s:
        spent.append(_timed(lambda: _get(site, "/api/status")))
        time.sleep(0.5)


@contextmanager
def _slow_download(site: Site, path: str) -> Iterator[None]:
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    connection.request("GET", path)
    response = connection.getresponse()
    ending = threading.Event()

    def read() -> None:
        while not ending.is_set():
            response.read(SLOW_BYTES_PER_S // 10)
            ending.wait(0.1)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
        connection.close()


def _get(site: Site, path: str) -> bytes:
    return _ask("GET", site, path)


def _ask(method: str, site: Site, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", site.port)
    connection.request(method, path)
    data = connection.getresponse().read()
    connection.close()
    return data


def _timed(work: Callable[[], object]) -> float:
    begun_s = time.perf_counter()
    work()
    return (time.perf_counter() - begun_s) * 1000


def _say(what: str, figure: str, budget: str) -> None:
    print(f"{what:46} {figure:44} budget {budget}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
