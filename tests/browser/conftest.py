"""Fixtures of the tests in a browser."""

import pytest

from tests.browser.shots import Shots, keeper


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Shots:
    """Keeps a picture of a page under a name."""
    return keeper(tmp_path_factory.mktemp("shots"))
