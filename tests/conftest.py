"""Fixtures that more than one test module uses."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real and made logs and films, which are not part of the project."""
    folder = Path(__file__).parents[1] / "../shared/data"
    if not folder.is_dir():
        pytest.skip("the test data beside the project (../shared/data) is not here")
    return folder
