"""The description of the API is valid, docs/api.md is made from it, its examples work."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import openapi_spec_validator
import pytest

from server import api_document
from tests.browser.site import Site, a_site, add_recording
from tests.test_server import work

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "api.md"
INTRODUCTION_END = "<!-- from here on made by: python server.py --api-document -->\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    output = tmp_path_factory.mktemp("api")
    for number in range(2):
        add_recording(output, number, seconds=5)
    with a_site(output, "C1", work=work) as site:
        yield site


def test_the_document_is_made_from_the_routes(site: Site) -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    made = api_document(site.app)
    assert written.partition(INTRODUCTION_END)[2].strip() == made.strip(), "put its new output below the mark"


def test_the_description_is_openapi(site: Site) -> None:
    openapi_spec_validator.validate(json.loads(site.app.test_client().get("/api/openapi.json").data))


def test_each_body_schema_is_a_schema(site: Site) -> None:
    described = json.loads(site.app.test_client().get("/api/openapi.json").data)
    for methods in described["paths"].values():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                jsonschema.Draft202012Validator.check_schema(content["schema"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed here")
def test_each_example_works(site: Site, tmp_path: Path) -> None:
    manifests = site.car.recordings.list()
    (tmp_path / "log.nmea").write_text("$GPGGA,120000.00,4710.2,N,00116.2,W,4,12,0.6,35.0,M,47.0,M,1.0,0000*63\n")
    examples = re.findall(r"```sh\n(curl .*)\n```", DOCUMENT.read_text(encoding="utf-8"))
    assert len(examples) > 15
    for example in examples:
        deleted = "DELETE" in example or "restore" in example
        known = {"ID": manifests[0 if deleted else -1].id, "SERIAL": "C1", "PIN": "0"}
        command = example.replace("http://edencar.local:5000", site.url(""))
        status, said = run(command.replace("curl ", "curl -sS -w '\n%{http_code}' ", 1), tmp_path, known)
        assert re.fullmatch("2..", status), f"{example}: {said}"
        for job in site.app.extensions["jobs"].list():
            site.app.extensions["jobs"].cancel(job.id)


def run(command: str, folder: Path, known: dict[str, str]) -> tuple[str, str]:
    """A shell command's last line, and the end of all it said."""
    environment = {**os.environ, **known}
    done = subprocess.run(
        ["sh", "-c", command], env=environment, cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout.rsplit("\n", 1)[-1], done.stdout[-300:] + done.stderr[-300:]


def test_the_command_prints_the_document(tmp_path: Path) -> None:
    command = [sys.executable, "server.py", "--api-document"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == DOCUMENT.read_text(encoding="utf-8").partition(INTRODUCTION_END)[2].strip()
