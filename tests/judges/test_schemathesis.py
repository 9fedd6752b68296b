"""Schemathesis, which makes requests out of the description of the API, breaks nothing: open, with the PIN, without it.

EDENCAR_SCHEMATHESIS names another program, EDENCAR_EXAMPLES how many requests for each route and kind.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.site import Site, a_site, add_recording
from tests.test_server import work

ROOT = Path(__file__).parents[2]
JUDGES = Path(os.environ.get("JUDGES_VENV", ROOT / ".venv-judges"))
FUZZER = os.environ.get("EDENCAR_SCHEMATHESIS") or shutil.which("schemathesis", path=JUDGES / "bin")
EXAMPLES = os.environ.get("EDENCAR_EXAMPLES", "15")
PIN = "271828"
LASTING = ("api_calibrate", "api_measure_latency", "api_follow_status")  # they take as long as they are told to
# A device that does not answer is the device's, not the server's error; no schema can say what is a log of positions.
CONFIGURATION = """{headers}
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 502, 503, 507]
[parameters]
recording_id = "{id}"
serial = "C1"
[[operations]]
include-operation-id = "api_geotag"
checks.positive_data_acceptance.enabled = false
"""

pytestmark = [
    pytest.mark.timeout(0),
    pytest.mark.skipif(FUZZER is None, reason=f"schemathesis is not installed in {JUDGES.name}: see README.md here"),
]


@pytest.fixture(params=["open", "with the PIN", "without the PIN"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Site, str]]:
    """A server, and the header that is sent with each request."""
    (tmp_path / "pin").write_text(f"{PIN}\n")
    for number in range(2):
        add_recording(tmp_path / "output", number, seconds=5)
    settings = {} if request.param == "open" else {"pin_file": str(tmp_path / "pin")}
    with a_site(tmp_path / "output", "C1", work=work, **settings) as site:
        yield site, f'headers = {{ Authorization = "Bearer {PIN}" }}' if request.param == "with the PIN" else ""


def test_a_fuzzer_breaks_nothing(site: tuple[Site, str], tmp_path: Path) -> None:
    served, headers = site
    configuration = CONFIGURATION.format(headers=headers, id=served.car.recordings.list()[-1].id)
    (tmp_path / "schemathesis.toml").write_text(configuration)
    command = [str(FUZZER), "--config-file", "schemathesis.toml", "run", served.url("/api/openapi.json")]
    command += [part for name in LASTING for part in ("--exclude-operation-id", name)]
    command += ["--max-examples", EXAMPLES, "--seed", "1", "--no-color"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    print(*[line for line in done.stdout.splitlines() if "cases" in line or "generated" in line], sep="\n")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
