"""A phone's size, and pictures of what it shows, kept where SHOTS_FOLDER says."""

import os
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page

WIDTH, HEIGHT = 390, 844
FOLDER = "SHOTS_FOLDER"  # not EDENCAR_...: the tests set those of the user aside

Shots = Callable[[Page, str], None]


def phone_context(
    browser: Browser, language: str = "fr-FR", theme: str = "light", width: int = WIDTH
) -> BrowserContext:
    """A browser's profile of its own, as on a phone."""
    return browser.new_context(
        viewport={"width": width, "height": HEIGHT},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
        locale=language,
        color_scheme="dark" if theme == "dark" else "light",
    )


def keeper(folder: Path) -> Shots:
    """What keeps pictures of pages in a folder."""
    chosen = Path(os.environ.get(FOLDER) or folder)
    chosen.mkdir(parents=True, exist_ok=True)

    def keep(page: Page, name: str) -> None:
        page.screenshot(path=chosen / f"{name}.png")

    return keep
