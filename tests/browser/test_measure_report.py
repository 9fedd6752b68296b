"""The report of a measurement in a real browser, without any network: one language, nothing wider than a phone."""

from pathlib import Path

import numpy as np
from playwright.sync_api import expect

from measure.charts import Series
from measure.report import Chart, Table, Verdict, write_report
from measure.words import phrase
from tests.browser.chromium import browsing, complaints


def test_it_speaks_the_language_of_the_browser_until_another_is_chosen(tmp_path: Path) -> None:
    seconds = np.arange(90.0)
    text = "{held}: {kept:.1f} s cost nothing, the longest that was tried"
    verdict = Verdict(phrase(text, held=phrase("the disk does not answer"), kept=1.5), good=False)
    headings = ("library", "pictures", "missing", "lost after a pause of s", "kept s", "most late s", "what it did")
    table = Table(headings, (("OpenCV, overrun_nonfatal", *["123456"] * 5, phrase("gave up")),))
    curve = Chart("Memory", "minutes", "MB", [Series("left", seconds, seconds / 7)])
    about = phrase("recording {recording}; bars hold 99 %", recording="drive")
    told = write_report(tmp_path, "How long the buffers hold", about, [verdict], [table, curve])
    with browsing() as browser:
        context = browser.new_context(viewport={"width": 390, "height": 844}, locale="fr-FR", offline=True)
        page = context.new_page()
        found = complaints(page)
        page.goto(Path(told["report"]).as_uri())
        english, french = page.locator("main[lang=en]"), page.locator("main[lang=fr]")
        expect(french).to_be_visible()
        expect(english).to_be_hidden()
        expect(french.locator("h1")).to_have_text("Combien de temps les tampons tiennent")
        expect(french).to_contain_text("a abandonné")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click("#language")
        expect(english).to_be_visible()
        expect(french).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.reload()
        expect(english).to_be_visible()
        assert page.inner_text("#language") == "Français"
        assert found == []
        context.close()
