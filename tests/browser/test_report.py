"""The report in a real browser, without any network: it shows, it is used by keys, it speaks two languages."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

import parsePhotos
from rig.clock import NS_PER_S, iso_utc
from rig.photo import photos
from rig.photo.photos import Photo
from tests.albums import picture
from tests.browser.chromium import CAR, await_true, complaints
from tests.browser.site import a_site
from tests.test_parse_photos import BEGIN_NS, log_positions

INSTANTS = [BEGIN_NS + 500_000_000 * number for number in range(1, 31)]
EVIL = "</script><script>window.broken = true</script>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording's report: two cameras, a gap, a calibration, losses, a hostile name."""
    folder = tmp_path_factory.mktemp("report")
    times = [BEGIN_NS + 100_000_000 * n for n in range(200) if not 80 < n < 130]
    log_positions(folder / "positions" / "positions.csv", times)
    rows = []
    for number, utc_ns in enumerate(INSTANTS):
        camera = ("left", "right")[number % 2]
        path = folder / "photos" / camera / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
        rows.append(
            Photo(
                photo=f"photos/{camera}/{number}.jpg",
                camera=camera,
                utc=iso_utc(utc_ns),
                time_error_ms=4.0,
                sharpness=100.0 + 20 * number,
                flags="dark" if number == 3 else "",
            )
        )
    photos.write_table(folder, rows)
    anchors = [{"utc_ns": INSTANTS[n], "half_width_ns": 1_500_000, "codes": 100} for n in (0, -1)]
    clock = {
        "source": "qr",
        "rate_ppm": -3.2,
        "error_ms": {"middle": 4.0},
        "residuals_ms": [0.4, -0.4],
        "anchors": anchors,
    }
    (folder / "calibration.json").write_text(json.dumps({"left": clock}))
    manifest = {
        "id": "x",
        "mode": "video",
        "state": "finished",
        "started": iso_utc(BEGIN_NS),
        "name": EVIL,
        "warnings": [EVIL],
    }
    (folder / "recording.json").write_text(json.dumps(manifest))
    (folder / "videos" / "left").mkdir(parents=True)
    index = "pts_90khz,arrival_monotonic_ns,byte_offset,key,continuity_errors\n0,1000,0,1,0\n3003,2000,9,0,2\n"
    (folder / "videos" / "left" / "stream-001.idx").write_text(index)
    assert parsePhotos.main([str(folder)]) == 0
    return folder / "report.html"


@pytest.fixture(params=[(390, 844, "light", "en-GB"), (1280, 900, "dark", "fr-FR")], ids=["phone", "desktop"])
def page(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[tuple[Page, list[str]]]:
    width, height, scheme, locale = request.param
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, locale=locale, offline=True
    )
    opened = context.new_page()
    found = complaints(opened)
    opened.goto(report.as_uri())
    yield opened, found
    context.close()


def test_it_shows_everything_without_a_complaint(page: tuple[Page, list[str]]) -> None:
    opened, found = page
    assert opened.locator(".figure").count() == 8
    assert opened.locator(".strip img").count() == 30
    assert not opened.evaluate("window.broken")
    assert "</script>" in opened.inner_text("h1")
    assert opened.locator("#clock circle").count() == 2
    assert opened.locator("#sharp rect").count() > 3
    assert opened.locator("#gaps tr").count() == 2
    assert opened.locator("#losses td").all_inner_texts() == ["left", "2", "1", "2"]
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    painted = """id => {
        const canvas = document.getElementById(id);
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return new Set(Array.from(data).filter((_, i) => i % 4 !== 3)).size;
    }"""
    assert opened.evaluate(painted, "map") > 20
    assert opened.evaluate(painted, "times") > 10
    assert found == []


def test_it_is_walked_through_by_keys_and_buttons(page: tuple[Page, list[str]]) -> None:
    opened, found = page
    assert opened.inner_text("#which") == "1 / 30"
    opened.focus("#map")
    opened.keyboard.press("ArrowRight")
    opened.click("#after")
    assert opened.inner_text("#which") == "3 / 30"
    opened.locator(".strip button").nth(9).click()
    assert opened.inner_text("#which") == "10 / 30"
    expect(opened.locator("#shot")).to_have_attribute("src", re.compile("^file:.*/photos/right/9.jpg"))
    assert opened.get_attribute("#shot", "alt") == "photos/right/9.jpg"
    assert found == []


def test_flags_are_words_of_the_language(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    opened.locator(".strip button").nth(3).click()
    words = {"en": ("Notes", "dark"), "fr": ("Remarques", "sombre")}
    name, value = words[opened.get_attribute("html", "lang") or ""]
    assert opened.locator(f"#facts dt:text-is('{name}') + dd").inner_text() == value


def test_photos_lie_on_the_side_that_their_camera_sees(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    aside = """direction => {
        view.scale = 6;
        const canvas = document.getElementById('map');
        const [, across] = placeOnMap(canvas, {x: 0, y: 0, heading: 90, direction, camera: 0});
        return Math.sign(across - toMap(canvas, 0, 0)[1]);
    }"""
    assert opened.evaluate(aside, 180) == 1, "to the right of a car that drives east lies south: lower on the page"
    assert opened.evaluate(aside, 0) == -1


def test_it_changes_its_language(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    words = {"en": "Time and position errors", "fr": "Erreurs de temps et de position"}
    first = opened.get_attribute("html", "lang") or ""
    assert opened.inner_text(".chart h2") == words[first]
    opened.click("#language")
    second = opened.get_attribute("html", "lang") or ""
    assert {first, second} == {"en", "fr"}
    assert opened.inner_text(".chart h2") == words[second]


def test_both_languages_say_the_same_things(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    english, french = opened.evaluate("[Object.keys(WORDS.en).sort(), Object.keys(WORDS.fr).sort()]")
    assert english == french


def test_what_is_wrong_is_told_in_words(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    opened.evaluate("document.documentElement.lang === 'fr' && document.getElementById('language').click()")
    notes = opened.inner_text("#notes").replace("\N{NO-BREAK SPACE}", " ")
    missing = sum(BEGIN_NS + 9 * NS_PER_S < utc_ns < BEGIN_NS + 12 * NS_PER_S for utc_ns in INSTANTS)
    assert f"{missing} photos have no fix within 1 s" in notes
    assert "The receiver said nothing for 5.0 s" in notes
    assert "1 photo is dark" in notes


def test_the_server_shows_it_with_the_photos_themselves(tmp_path: Path, browser: Browser, report: Path) -> None:
    (tmp_path / "pin").write_text("271828\n")
    shutil.copytree(report.parent, tmp_path / "output" / "2026-11-22_12-00-00")
    with a_site(tmp_path / "output", pin_file=str(tmp_path / "pin")) as site:
        page = browser.new_page()
        page.goto(site.url("/", CAR))
        page.evaluate("fetch('/api/session', {method: 'POST', body: JSON.stringify({pin: '271828'})})")
        found = complaints(page)
        page.goto(site.url("/api/recordings/2026-11-22_12-00-00/files/report.html", CAR))
        await_true(page, "document.getElementById('shot').src.endsWith('width=1280')")  # without a token
        assert found == []
        page.close()
