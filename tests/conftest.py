"""Fixtures that more than one test module uses."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real and made logs and films, which are not part of the project."""
    folder = Path(__file__).parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the test data beside the project (../shared/data) is not here")
    return folder


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A browser without a window, one for all tests of a module."""
    from tests.browser.chromium import browsing  # only where one is needed

    with browsing() as started:
        yield started
