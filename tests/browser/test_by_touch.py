"""A survey by touch alone: a real browser of a phone's size, plain http under a LAN name, a simulated car."""

import io
import socket
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from simulator.stage import Api, real_server, show_phone, simulated_car
from tests.browser.chromium import CAR, complaints
from tests.browser.shots import Shots, phone_context

PATIENCE_MS = 60_000  # this machine is shared
HOLD_MS = 1300


@dataclass(frozen=True, slots=True)
class Rig:
    """The server with its simulated car."""

    api: Api
    control: str

    @property
    def page_url(self) -> str:
        return f"http://{CAR}:{urlsplit(self.api.url).port}"


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    scratch = tmp_path_factory.mktemp("car")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with (
        (scratch / "log").open("w") as log,
        simulated_car(1, 720, scratch, log) as car,
        real_server(car, scratch / "output", port, log) as api,
    ):
        yield Rig(api, car["control"])


def hold(context: BrowserContext, page: Page, selector: str, ms: int) -> None:
    """A finger on an element for so long."""
    box = page.locator(selector).bounding_box()
    assert box is not None
    finger = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    touch = context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [finger]})
    page.wait_for_timeout(ms)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    touch.detach()


def wait_for_job(rig: Rig, done: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + PATIENCE_MS / 1000
    while not done() or any(job["finished"] is None for job in rig.api.call("GET", "/api/jobs")["jobs"]):
        assert time.monotonic() < deadline_s
        time.sleep(0.2)


@pytest.mark.timeout(240)
def test_a_survey_from_start_to_undo(rig: Rig, browser: Browser, shots: Shots, tmp_path: Path) -> None:
    first, second = phone_context(browser, "fr-FR"), phone_context(browser, "en-GB")
    page, other = first.new_page(), second.new_page()
    page.set_default_timeout(PATIENCE_MS)
    expect.set_options(timeout=PATIENCE_MS)
    errors, asked = complaints(page), []
    errors_there = complaints(other)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(rig.page_url)
    other.goto(rig.page_url)
    assert page.evaluate("isSecureContext") is False
    expect(page.locator("#state")).to_have_text("Prêt")
    shots(page, "touch-1-ready")

    # Start: the list of the day, then the code until the tick
    page.tap("#main")
    for check in page.locator("#guide .checks label").all():
        check.tap()
    shots(page, "touch-2-list")
    page.tap("#guide .big")
    expect(page.locator("#guide-title")).to_contain_text("code")
    expect(page.locator("#guide-ticks li img")).to_have_count(1)
    show_phone(rig.control, f"{rig.api.url}/api/time")
    expect(page.locator("#guide-ticks li[data-level=ok]")).to_have_count(1)
    shots(page, "touch-3-code-read")
    show_phone(rig.control, None)
    page.tap("#guide-drive")
    expect(page.locator("#state")).to_have_text("Enregistre")
    expect(page.locator("#pictures img")).to_be_visible()
    shots(page, "touch-4-driving")
    expect(other.locator("#state")).to_have_text("Recording")  # two phones see the same
    expect(other.locator("#main")).to_have_attribute("data-does", "stop")

    # A short touch does not stop; a second's hold does
    hold(first, page, "#main", 200)
    expect(page.locator("#state")).to_have_text("Enregistre")
    hold(first, page, "#main", HOLD_MS)
    expect(page.locator("#state")).to_have_text("Prêt")
    expect(other.locator("#state")).to_have_text("Ready")
    page.locator("#toast button").tap()

    # Process, look
    expect(page.locator("#process")).to_be_enabled()
    recording = page.url.rsplit("/", 1)[1]
    page.tap("#process")
    expect(page.locator("#jobs .word").first).to_be_visible()
    shots(page, "touch-5-work")
    wait_for_job(rig, lambda: rig.api.call("GET", f"/api/recordings/{recording}")["recording"]["photos"])
    expect(page.locator("#photos-section")).to_be_visible()
    shots(page, "touch-6-recording")
    page.locator("#photos").scroll_into_view_if_needed()
    page.locator("#photos button").first.tap()
    expect(page.locator("#viewer img")).to_have_js_property("complete", True)
    assert page.locator("#viewer img").evaluate("image => image.naturalWidth") == 1280
    page.locator("#viewer footer button").nth(1).tap()
    expect(page.locator("#viewer-title")).to_contain_text("2 /")
    shots(page, "touch-7-photo")
    page.locator("#viewer .close").tap()

    # Name, an own file of positions, download
    page.locator("#names summary").tap()
    page.locator("#name").fill("rue Haute")
    page.locator("#texts-form button").tap()
    expect(page.locator("#title")).to_have_text("rue Haute")
    log = tmp_path / "log.csv"
    log.write_bytes(
        rig.api._session.get(f"{rig.api.url}/api/recordings/{recording}/files/positions/positions.csv").content
    )
    page.set_input_files("#upload", log)
    wait_for_job(rig, lambda: len(rig.api.call("GET", "/api/jobs")["jobs"]) == 2)
    assert {job["state"] for job in rig.api.call("GET", "/api/jobs")["jobs"]} == {"done"}
    expect(page.locator("#download")).to_be_visible()
    with page.expect_download() as download:
        page.tap("#download")
    with zipfile.ZipFile(io.BytesIO(download.value.path().read_bytes())) as archive:
        assert archive.testzip() is None
        assert f"{recording}/photos.csv" in archive.namelist()

    # Delete, undo
    page.tap("#delete")
    expect(page.locator("#toast button")).to_have_text("Remettre")
    shots(page, "touch-8-deleted")
    assert recording in rig.api.call("GET", "/api/recordings")["trash"]
    page.locator("#toast button").tap()
    expect(page.locator("#recordings .title").first).to_have_text("rue Haute")
    shots(page, "touch-9-back")
    assert recording not in rig.api.call("GET", "/api/recordings")["trash"]
    page.goto(f"{rig.page_url}/settings")
    expect(page.locator("#cameras select").first).to_be_visible()
    shots(page, "touch-10-settings")
    assert {urlsplit(url).hostname for url in asked if not url.startswith(("blob:", "data:"))} == {CAR}
    assert errors == errors_there == []
    first.close()
    second.close()
