"""The recordings of a fleet, in folders and in an S3 store."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.parts import NAMES, s3_server, write_recording
from tests.cluster.stores import fill


@pytest.fixture(scope="package")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of two cars; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("cars")
    first = write_recording(folder / "car1")
    for name in NAMES[1:]:
        shutil.copytree(first, folder / name)
    return folder


@pytest.fixture(scope="package")
def s3(cars: Path) -> Iterator[dict[str, str]]:
    """An S3 server that has them in a bucket."""
    with s3_server() as environment:
        fill("s3://fleet/in", cars, environment)
        yield environment
