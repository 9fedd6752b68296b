"""Fixtures that more than one test module uses."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from configs import ENVIRONMENT_PREFIX, FILE_NAME

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def pytest_sessionstart() -> None:
    """Tests take the settings as they come; a file of the user's own would change what they see."""
    if Path(FILE_NAME).exists():
        pytest.exit(f"move {FILE_NAME} out of this folder: the tests are about the usual settings", returncode=2)


@pytest.fixture(scope="session", autouse=True)
def _usual_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Variables of the user, and the cameras' names that a demo left in the output folder, are nothing to the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]:
            patch.delenv(name)
        patch.setenv(f"{ENVIRONMENT_PREFIX}OUTPUT", str(tmp_path_factory.mktemp("output")))
        yield


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
