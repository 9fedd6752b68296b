"""The QR clock in a real browser: what it draws is right, holds the Pi's time, and says so when it cannot."""

import base64
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import segno
import segno.encoder
import zxingcpp

from rig.timing.qrtime import decode, encode

pytest.importorskip("playwright", reason="the page needs a browser: pip install -r requirements-dev.txt")

from playwright.sync_api import Browser, CDPSession, Page

from tests.browser.chromium import CAR, await_true, complaints
from tests.browser.timeserver import TimeServer, serving

PAGE = Path(__file__).parent.parent / "v1" / "QRCodeDatTimeGenerator.html"
ODD_OFFSET_NS = -3 * 86_400_000_000_000 + 123_456_789
ENGLISH_PHONE: Any = {"locale": "en-GB", "viewport": {"width": 390, "height": 844}}
DRAWN = "document.body.classList.contains('drawn')"
LIGHT_MS = 40  # time stamp of an animation frame to its picture, at most
SIZES = ((320, 568, 2), (390, 844, 3), (844, 390, 2), (568, 320, 1.5), (768, 1024, 1), (1024, 768, 1), (1200, 900, 1))
CAMERAS = [
    {"serial": "C1", "label": "left", "calibration": {"codes": 43, "error_ms": 2.13, "done": True}},
    {"serial": "C2", "label": None, "calibration": {"codes": 0, "problem": "too_small"}},
    {"serial": "C3", "calibration": {}},
    {"serial": "C4", "calibration": None},
]
GEOMETRY = """() => {
    const sides = ({ left, top, right, bottom }) => [left, top, right, bottom];
    const box = (id) => sides($(id).getBoundingClientRect());
    const tooWide = ({ scrollWidth, clientWidth }) => scrollWidth > clientWidth;
    return { code: box('code'), stage: box('stage'), panel: box('panel'), pixels: canvas.width,
             overflow: [document.documentElement, $('panel')].some(tooWide) };
}"""
LABS_COMMANDS = (
    ("Europe/Paris", "2026-07-01T12:13:14.567Z", "oT260701141314.567oTD1oTZ1"),
    ("Europe/Paris", "2026-11-22T23:30:00.005Z", "oT261123003000.005oTD0oTZ1"),
    ("America/Los_Angeles", "2026-07-01T12:13:14.567Z", "oT260701051314.567oTD1oTZ-8"),
    ("Asia/Kolkata", "2026-07-01T12:13:14.567Z", "oT260701174314.567oTD0oTZ330"),
    ("Australia/Sydney", "2026-01-01T12:13:14.567Z", "oT260101231314.567oTD1oTZ10"),
)


@pytest.fixture(scope="module")
def shown(browser: Browser) -> Iterator[Page]:
    """The page opened as a file."""
    with browser.new_context(locale="fr-FR", viewport={"width": 390, "height": 844}) as context:
        page = context.new_page()
        page.goto(PAGE.as_uri())
        await_true(page, DRAWN)
        yield page


@pytest.fixture(scope="module")
def tools(shown: Page) -> CDPSession:
    """What emulates other screens and zones for `shown`."""
    return shown.context.new_cdp_session(shown)


@pytest.fixture
def pi() -> Iterator[TimeServer]:
    with serving(PAGE, ODD_OFFSET_NS) as server:
        yield server


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page not yet opened."""
    with browser.new_context(**ENGLISH_PHONE) as context:
        yield context.new_page()


@dataclass(frozen=True, slots=True)
class Drive:
    """The page on a phone in the car, all it asked for and all it complained of."""

    page: Page
    pi: TimeServer
    asked: list[str]
    complaints: list[str]


@pytest.fixture(scope="module")
def drive(browser: Browser) -> Iterator[Drive]:
    with serving(PAGE, ODD_OFFSET_NS) as pi, browser.new_context(**ENGLISH_PHONE) as context:
        page = context.new_page()
        drive = Drive(page, pi, [], complaints(page))
        page.on("request", lambda request: drive.asked.append(request.url))
        open_page(page, pi)
        yield drive


def open_page(page: Page, pi: TimeServer) -> None:
    page.goto(f"http://{CAR}:{pi.server_port}/qrcode")
    await_true(page, DRAWN)


def await_headline(page: Page, text: str) -> None:
    await_true(page, f"document.querySelector('#headline').textContent === {text!r}")


def luma_of(picture: bytes) -> Any:
    return cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_GRAYSCALE)


def read(picture: bytes) -> str | None:
    """The text of the one code in a PNG."""
    codes = zxingcpp.read_barcodes(luma_of(picture))
    return str(codes[0].text) if codes else None


def read_utc_ns(picture: bytes) -> int:
    code = decode(read(picture) or "")
    assert code is not None
    return code.utc_ns


def modules(code: Any) -> list[int]:
    return [int(dark) for row in code.matrix for dark in row]


def film(page: Page, milliseconds: int) -> list[tuple[float, bytes]]:
    """Pictures of the screen, each with the wall clock in s at which the browser composed it."""
    frames: list[dict[str, Any]] = []
    session = page.context.new_cdp_session(page)

    def take(frame: dict[str, Any]) -> None:
        frames.append(frame)
        session.send("Page.screencastFrameAck", {"sessionId": frame["sessionId"]})

    session.on("Page.screencastFrame", take)
    session.send("Page.startScreencast", {"format": "png"})
    page.wait_for_timeout(milliseconds)
    session.send("Page.stopScreencast")
    page.wait_for_timeout(100)
    session.detach()
    return [(frame["metadata"]["timestamp"], base64.b64decode(frame["data"])) for frame in frames]


# What is drawn


def test_time_code_is_that_of_an_independent_encoder(shown: Page) -> None:
    chance = random.Random(1)
    texts = [f"{chance.randrange(10**17):017d}" for _ in range(300)] + ["0" * 17, "9" * 17]
    drawn = shown.evaluate("texts => texts.map((text) => Array.from(encodeDigits(text)))", texts)
    for text, ours in zip(texts, drawn, strict=True):
        theirs = segno.make_qr(text, error="h", version=1, mode="numeric", mask=3, boost_error=False)
        assert ours == modules(theirs), text


def test_labs_code_is_that_of_an_independent_encoder(shown: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    # segno adds eight padding bits to a stream that already ends at a byte, which the standard (7.4.10) does not.
    monkeypatch.setattr(segno.encoder, "write_padding_bits", lambda buff, _, length: buff.extend([0] * (-length % 8)))
    chance = random.Random(2)
    texts = [
        "".join(chance.choices("oTDZ0123456789.-", k=chance.randint(1, 42))) for _ in range(100)
    ]  # 42 fill the code
    drawn = shown.evaluate("texts => texts.map((text) => Array.from(encodeText(text)))", texts)
    for text, ours in zip(texts, drawn, strict=True):
        theirs = segno.make_qr(text, error="m", version=3, mode="byte", mask=3, boost_error=False)
        assert ours == modules(theirs), text


def test_payload_is_that_of_the_reader(shown: Page) -> None:
    chance = random.Random(3)
    draws = [[chance.randrange(10**13, 10**14), chance.randrange(10**6)] for _ in range(500)] + [[10**14 - 1, 9]]
    payloads = shown.evaluate("draws => draws.map(([tenths, sequence]) => payload(tenths, sequence))", draws)
    assert payloads == [encode(tenths * 100_000, sequence) for tenths, sequence in draws]


def test_a_code_takes_less_than_a_millisecond(shown: Page) -> None:
    encode_and_paint = """() => {
        const begun = performance.now();
        for (let i = 0; i < 300; i++) paint(encodeDigits(payload(17639382120000 + i, i)), TIME_CODE.size);
        return (performance.now() - begun) / 300;
    }"""
    assert min(shown.evaluate(encode_and_paint) for _ in range(3)) < 1


@pytest.mark.parametrize(("width", "height", "ratio"), SIZES)
def test_code_fills_the_short_side_with_whole_pixels(
    shown: Page, tools: CDPSession, width: int, height: int, ratio: float
) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": False}
    tools.send("Emulation.setDeviceMetricsOverride", metrics)
    await_true(shown, f"arranged === '{width} {height} {ratio}' && canvas.dataset.place")
    found = shown.evaluate(GEOMETRY)
    picture = base64.b64decode(tools.send("Page.captureScreenshot")["data"])
    edges = np.array(found["code"]) * ratio
    left, top, right, bottom = edges.round().astype(int)
    assert edges == pytest.approx([left, top, right, bottom], abs=0.1)  # the browser keeps 1/64 of its own pixels
    assert right - left == bottom - top == found["pixels"]
    assert found["pixels"] % 29 == 0
    assert set(np.unique(luma_of(picture)[top:bottom, left:right])) == {0, 255}, "edges of modules are blurred"
    room = min(width, height, max(width, height) - (232 if width > height else 190)) * ratio
    assert room - 29 < found["pixels"] <= room
    stage, panel = found["stage"], found["panel"]
    assert panel[0] >= stage[2] or panel[1] >= stage[3], "words lie in the quiet zone"
    assert not found["overflow"]
    assert decode(read(picture) or "")
    tools.send("Emulation.clearDeviceMetricsOverride")


# A file


def test_file_shows_its_own_clock_and_says_so(page: Page) -> None:
    found = complaints(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(PAGE.as_uri())
    await_headline(page, "This device’s own clock")
    await_true(page, DRAWN)
    before_ns = time.time_ns()
    utc_ns = read_utc_ns(page.screenshot())
    assert before_ns - LIGHT_MS * 1e6 < utc_ns < time.time_ns() + 1e6
    assert page.evaluate("parseFloat(getComputedStyle($('headline')).fontSize)") >= 32
    page.wait_for_timeout(600)
    assert (found, asked) == ([], [PAGE.as_uri()])


def test_both_languages_say_the_same(shown: Page) -> None:
    text = shown.evaluate("TEXT")
    assert list(text["fr"]) == list(text["en"])
    for key, words in text["fr"].items():
        assert set(re.findall(r"\{\w+\}", words)) == set(re.findall(r"\{\w+\}", text["en"][key])), key
    shown.click("button[lang=en]")
    assert shown.text_content("#headline") == text["en"]["own"]
    assert shown.evaluate("document.documentElement.lang") == "en"
    shown.click("button[lang=fr]")
    assert shown.text_content("#headline") == text["fr"]["own"]


@pytest.mark.parametrize(("zone", "utc", "command"), LABS_COMMANDS)
def test_labs_command_is_local_time(shown: Page, tools: CDPSession, zone: str, utc: str, command: str) -> None:
    tools.send("Emulation.setTimezoneOverride", {"timezoneId": zone})
    assert shown.evaluate("utc => labsCommand(Date.parse(utc))", utc) == command
    tools.send("Emulation.setTimezoneOverride", {"timezoneId": ""})


def test_labs_view_warns_and_shows_a_command(shown: Page) -> None:
    shown.click("#switch")
    assert "avant l’enregistrement" in (shown.text_content("#labs") or "")
    shown.wait_for_timeout(100)
    text = read(shown.screenshot()) or ""
    assert re.fullmatch(r"oT\d{12}\.\d{3}oTD[01]oTZ-?\d{1,3}", text)
    shown.click("#switch")
    shown.wait_for_timeout(100)
    assert decode(read(shown.screenshot()) or "")
    assert shown.is_hidden("#labs")


# Served by the Pi


def test_pictures_hold_the_pis_time(drive: Drive) -> None:
    page, pi = drive.page, drive.pi
    assert pi.asked.count("/api/time") >= 40
    before_ns = [pi.utc_ns()]
    utc_ns = []
    for _ in range(5):
        utc_ns.append(read_utc_ns(page.screenshot()))
        before_ns.append(pi.utc_ns())
    assert all(utc < after for utc, after in zip(utc_ns, before_ns[1:], strict=True))
    assert np.median(np.subtract(before_ns[:-1], utc_ns)) < LIGHT_MS * 1e6
    late_ms = [(pi.utc_ns(wall_s) - read_utc_ns(picture)) / 1e6 for wall_s, picture in film(page, 600)]
    assert len(late_ms) >= 10
    assert min(late_ms) >= 0
    assert np.median(late_ms) <= LIGHT_MS  # a busy machine misses refreshes: the old code then stays


def test_offset_is_known_and_said(drive: Drive) -> None:
    page, pi = drive.page, drive.pi
    await_headline(page, "The Pi’s time")
    offset_ms, bound_ms, own_ms = page.evaluate("[clock.fit.offset, boundAt(performance.now()), exactWallOffset()]")
    error_ms = offset_ms - own_ms - ODD_OFFSET_NS / 1e6
    assert abs(error_ms) <= bound_ms + 0.3  # so well can a page read its own clock
    assert bound_ms < 10
    assert (page.text_content("#offset"), page.text_content("#piclock")) == ("3\u00a0d ahead", "GNSS, ±5.8\u00a0ms")
    pi.source = "system"
    await_headline(page, "The Pi’s time, no GNSS")
    pi.source = "gnss"
    await_headline(page, "The Pi’s time")


def test_draw_log_tells_what_was_drawn(drive: Drive) -> None:
    page, pi = drive.page, drive.pi
    pictures = film(page, 500)
    page.wait_for_timeout(700)
    draws = [draw for log in pi.logs for draw in log["draws"]]
    assert [sequence for sequence, _ in draws] == list(range(len(draws)))
    assert all(earlier < later for (_, earlier), (_, later) in pairwise(draws))
    drawn = {encode(tenths * 100_000, sequence) for sequence, tenths in draws}
    assert {read(picture) for _, picture in pictures} <= drawn
    assert len({log["page"] for log in pi.logs}) == 1
    last = pi.logs[-1]
    assert set(last) == {"page", "user_agent", "refresh_hz", "offset_bound_ms", "missed", "draws"}
    assert last["refresh_hz"] == pytest.approx(60, abs=3)
    assert 0 < last["offset_bound_ms"] < 20


def test_missed_refreshes_are_counted(drive: Drive) -> None:
    page = drive.page
    await_true(page, "screenState.hz !== null")
    page.evaluate("() => { const begun = performance.now(); while (performance.now() - begun < 1500); }")
    page.wait_for_timeout(1100)
    assert page.evaluate("countMissed()") >= 80, "90, and those that a busy machine adds"
    assert re.fullmatch(r"pictures missed in 10\xa0s: \d+", page.text_content("#missed") or "")
    assert drive.pi.logs[-1]["missed"] >= 80


def test_cameras_are_described(drive: Drive) -> None:
    drive.pi.status = {"state": "idle", "cameras": CAMERAS}
    await_true(drive.page, "document.querySelectorAll('#cameras li').length === 3")
    assert drive.page.locator("#cameras li").all_text_contents() == [
        "✓ left: code read, 43 codes, ±2.1\u00a0ms, done",
        "C2: code not readtoo small: come closer",
        "C3: code not read",
    ]
    drive.pi.status = {}
    await_true(drive.page, "document.querySelectorAll('#cameras li').length === 0")


def test_tap_fills_the_screen_and_keeps_it_on(drive: Drive) -> None:
    page = drive.page
    assert page.evaluate("[isSecureContext, 'wakeLock' in navigator]") == [False, False]
    await_true(page, "!document.querySelector('#awake').paused")
    page.click("#stage")
    await_true(page, "document.fullscreenElement")
    page.click("#stage")
    await_true(page, "!document.fullscreenElement")


def test_nothing_leaves_the_car_and_nothing_fails(drive: Drive) -> None:
    assert {urlsplit(url).netloc for url in drive.asked} == {f"{CAR}:{drive.pi.server_port}"}
    assert drive.complaints == []


def test_pi_that_vanishes_is_missed_aloud(drive: Drive) -> None:
    page, pi = drive.page, drive.pi
    pi.alive = False
    page.evaluate("pi.answered -= 3500")
    await_headline(page, "The Pi no longer answers")
    assert page.get_attribute("#verdict", "data-level") == "warn"
    bound = page.evaluate("boundAt(performance.now())")
    page.evaluate("() => { pi.answered -= 27e3; clock.fit.at -= 27e3; }")  # 30 s in all
    await_true(page, "document.querySelector('#verdict.loud')")
    assert page.get_attribute("#verdict", "data-level") == "bad"
    assert re.match(r"Since \d\d:\d\d:\d\d UTC \(3\d\xa0s\)", page.text_content("#because") or "")
    assert page.evaluate("boundAt(performance.now())") >= bound + 27e3 * 20e-6
    assert abs(read_utc_ns(page.screenshot()) - pi.utc_ns()) < 1e9, "the last offset is kept"
    pi.alive = True
    await_headline(page, "The Pi’s time")
    drive.complaints.clear()  # the browser's, of requests that failed


def test_older_server_without_log_is_asked_once(page: Page, pi: TimeServer) -> None:
    pi.missing = {"/api/qrcode/log", "/api/status"}
    open_page(page, pi)
    page.wait_for_timeout(1200)
    assert (pi.asked.count("/api/qrcode/log"), pi.asked.count("/api/status")) == (1, 1)
    assert page.is_visible("#journal")


def test_server_without_time_means_own_clock(page: Page, pi: TimeServer) -> None:
    pi.missing = {"/api/time"}
    open_page(page, pi)
    await_headline(page, "This device’s own clock")
    assert abs(read_utc_ns(page.screenshot()) - time.time_ns()) < 1e9
    page.wait_for_timeout(600)
    assert (pi.asked.count("/api/time"), pi.logs) == (1, [])


def test_no_code_before_the_pi_has_answered(page: Page, pi: TimeServer) -> None:
    page.route("**/api/time", lambda route: route.abort())
    page.goto(f"http://{CAR}:{pi.server_port}/qrcode")
    page.evaluate("pi.answered = -3e3")
    await_headline(page, "The Pi does not answer")
    assert read(page.screenshot()) is None


def test_clock_that_jumps_is_never_mixed_with_the_old_one(page: Page, pi: TimeServer) -> None:
    open_page(page, pi)
    year_ns = 365 * 86_400 * 10**9
    pi.offset_ns += year_ns
    await_true(page, f"!{DRAWN}")
    await_true(page, DRAWN)
    page.wait_for_timeout(700)
    draws = [tenths * 100_000 for log in pi.logs for _, tenths in log["draws"]]
    off_ns = [min(abs(pi.utc_ns() - back - utc_ns) for back in (0, year_ns)) for utc_ns in draws]
    assert max(off_ns) < 20e9
    assert abs(read_utc_ns(page.screenshot()) - pi.utc_ns()) < 1e9
    page.evaluate("() => { const now = Date.now; Date.now = () => now() + 5000; }")  # as after a sleep
    await_true(page, f"!{DRAWN}")


@pytest.mark.parametrize("ppm", [0, 20])
def test_offset_over_jittery_wifi_is_inside_its_bound(shown: Page, ppm: int) -> None:
    # The WiFi of facts: 1 ms each way, exponential with mean 5 ms, 5 % of 30 ms more.
    chance = np.random.default_rng(4)
    films, exchanges = (100, 120) if ppm else (200, 40)
    ways = 1 + chance.exponential(5, (2, films, exchanges)) + 30 * (chance.random((2, films, exchanges)) < 0.05)
    at = np.arange(exchanges) * (250 if ppm else 50)
    drifted = ppm * 1e-6 * (at - at[-1])
    samples = [
        [{"up": u, "down": d, "at": int(t)} for u, d, t in zip(up + drifted, down - drifted, at, strict=True)]
        for up, down in zip(*ways, strict=True)
    ]
    fits = shown.evaluate("([films, now]) => films.map((samples) => fitOffset(samples, now))", [samples, int(at[-1])])
    errors = np.array([fit["offset"] for fit in fits])
    assert np.quantile(np.abs(errors), 0.95) <= 0.5
    assert (np.abs(errors) <= [fit["bound"] for fit in fits]).mean() >= 0.99
