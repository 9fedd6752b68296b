"""Who may do what: the PIN, its tries, sessions; and what hostile requests get."""

import base64
import json
import logging
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.exceptions import Unauthorized

from configs import SettingError, Settings
from rig.http.access import TRIES, Gate, read_pin
from rig.http.contract import DOWNLOADING
from rig.recordings import Recordings
from tests.browser.site import add_recording
from tests.test_server import an_app, problem

PIN = "271828"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("access")
    (folder / "pin").write_text(f"{PIN}\n")
    add_recording(folder / "output", seconds=2)
    with an_app(folder / "output", "C1", pin_file=str(folder / "pin")) as (app, _):
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    app.extensions["gate"]._failures.clear()
    return app.test_client()


@pytest.fixture
def recording(app: Flask) -> str:
    return str(app.extensions["car"].recordings.list()[0].id)


def basic(secret: str, user: str = "edencar") -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()}


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_reading_is_open(client: FlaskClient, recording: str) -> None:
    where = f"/api/recordings/{recording}"
    for path in (
        "/",
        "/recordings",
        "/settings",
        f"/recordings/{recording}",
        "/metrics",
        "/healthz",
        "/api/openapi.json",
    ):
        assert client.get(path).status_code == 200, path
    for path in ("/api/status", "/api/recordings", where, f"{where}/photos", f"{where}/track", "/api/selftest"):
        assert client.get(path).status_code == 200, path
    assert client.get("/api/session").json == {"closed": True, "allowed": False}


def test_whatever_changes_downloads_or_deletes_wants_the_pin(app: Flask, client: FlaskClient, recording: str) -> None:
    values = {"recording_id": recording, "serial": "C1", "job_id": "0" * 12, "path": "recording.json"}
    tried = 0
    for rule in app.url_map.iter_rules():
        methods = (rule.methods or set()) - {"GET", "HEAD", "OPTIONS"}
        methods |= {"GET"} if rule.endpoint in DOWNLOADING else set()
        url = re.sub(r"<(?:[^:<>]+:)?(\w+)>", lambda match: values.get(match[1], "0"), rule.rule)
        for method in methods if rule.endpoint != "api.open_session" else ():
            assert "PIN" in problem(client.open(url, method=method), 401)["cure"]
            tried += 1
    assert tried >= 15
    assert app.extensions["car"].status().recording is None


def test_what_nobody_can_ask_is_no_question_of_the_pin(client: FlaskClient) -> None:
    assert "GET" in client.delete("/api/status").headers["Allow"]
    for method, path, status in (
        ("DELETE", "/api/status", 405),
        ("TRACE", "/settings", 405),
        ("POST", "/nowhere", 404),
    ):
        problem(client.open(path, method=method), status)


@pytest.mark.parametrize("headers", [bearer(PIN), basic(PIN), basic(PIN, "anyone")])
def test_curl_shows_the_pin(client: FlaskClient, recording: str, headers: dict[str, str]) -> None:
    assert client.get(f"/api/recordings/{recording}/files/recording.json", headers=headers).status_code == 200
    assert client.post("/api/stop", headers=headers).status_code == 200
    assert client.get("/api/session", headers=headers).json == {"closed": True, "allowed": True}


@pytest.mark.parametrize(
    "headers",
    [bearer("271829"), basic(""), bearer("2718281"), {"Authorization": "Digest x"}, {"Authorization": "Basic %"}],
)
def test_a_wrong_pin_does_nothing(client: FlaskClient, headers: dict[str, str]) -> None:
    problem(client.post("/api/stop", headers=headers), 401)


def test_the_page_gets_a_cookie_that_lasts_over_a_restart(app: Flask, client: FlaskClient) -> None:
    response = client.post("/api/session", json={"pin": PIN})
    cookie = response.headers["Set-Cookie"]
    token = str(response.json["token"])  # type: ignore[index]
    assert len(token) == 32  # 128 bits
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert client.post("/api/stop").status_code == 200
    assert app.test_client().post("/api/stop", headers=bearer(token)).status_code == 200
    gate = app.extensions["gate"]
    assert token not in gate._book.read_text()
    again, other = type(gate)(PIN, gate._book), type(gate)("314159", gate._book)
    with app.test_request_context(headers=bearer(token)):
        assert again.admits(request)
        with pytest.raises(Unauthorized):  # a new PIN asks everybody again
            other.admits(request)
    assert client.delete("/api/session").status_code == 204
    problem(app.test_client().post("/api/stop", headers=bearer(token)), 401)


@pytest.mark.parametrize("damaged", [b"", b"{", b'{"a": 1}', b'[1, null, {"x": "y"}]', b"\xff"])
def test_a_damaged_book_of_sessions_asks_everybody_again(tmp_path: Path, damaged: bytes) -> None:
    book = tmp_path / ".sessions.json"
    book.write_bytes(damaged)
    gate = Gate(PIN, book)
    token = gate.open_session(PIN, "192.168.4.7")
    assert json.loads(book.read_bytes()) == [gate._hash(token)]


def test_five_tries_a_minute(app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    known = app.test_client()
    assert known.post("/api/stop", headers=bearer(PIN), environ_base={"REMOTE_ADDR": "192.168.4.7"}).status_code == 200
    with caplog.at_level(logging.WARNING):
        for number in range(TRIES):  # from many addresses
            problem(
                client.post(
                    "/api/stop", headers=bearer(str(number)), environ_base={"REMOTE_ADDR": f"192.168.4.{100 + number}"}
                ),
                401,
            )
    refused = client.post("/api/stop", headers=bearer(PIN), environ_base={"REMOTE_ADDR": "192.168.4.200"})
    problem(refused, 429)
    assert 0 < int(refused.headers["Retry-After"]) <= 61
    # Whoever has known it before is not locked out by strangers.
    assert known.post("/api/stop", headers=bearer(PIN), environ_base={"REMOTE_ADDR": "192.168.4.7"}).status_code == 200
    assert PIN not in caplog.text


def test_no_secret_is_told(app: Flask, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a log however talkative, not in an answer, not on the disk."""
    with caplog.at_level(logging.DEBUG):
        token = str(client.post("/api/session", json={"pin": PIN}).json["token"])  # type: ignore[index]
        guess = "271182"  # a mistyped PIN is nearly one
        client.post("/api/session", json={"pin": guess})
        client.post("/api/session", json={"pin": [PIN]})
        client.post("/api/stop", headers=bearer(guess))
        client.post(
            f"/api/start?pin={PIN}", json={"allow": "positions-only", "cameras": [], "pin": PIN}, headers=basic(PIN)
        )
        told = [client.get(path).text for path in ("/api/status", "/api/session", "/metrics", "/api/openapi.json", "/")]
        recording = client.post("/api/start", json={"allow": "positions-only", "cameras": []}, headers=bearer(token))
        told += [recording.text, client.post("/api/stop", headers=bearer(token)).text]
    folder = app.extensions["car"].recordings.output
    told += [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]
    for secret in (PIN, token, guess):
        assert not [text for text in (caplog.text, *told) if secret in text]


def test_a_pin_file_that_says_nothing_opens_nothing(tmp_path: Path) -> None:
    assert read_pin("") == ""
    (tmp_path / "empty").write_text("\n")
    for name in ("empty", "missing"):
        with pytest.raises(SettingError, match="pin_file"):
            read_pin(str(tmp_path / name))


def test_a_foreign_name_reads_nothing(client: FlaskClient) -> None:
    problem(client.get("/api/status", headers={"Host": "evil.example"}), 403)
    problem(client.get("/", headers={"Host": "evil.example", "Accept": "*/*"}), 403)
    for name in (socket.gethostname(), f"{socket.gethostname().split('.')[0]}.local:5000"):
        assert client.get("/api/status", headers={"Host": name}).status_code == 200


SECRET = "nobody may read this"
SEGMENTS = st.sampled_from(
    [
        "..",
        "%2e%2e",
        "..%2f",
        "%00",
        "\\",
        "//",
        "~",
        ".",
        "secret",
        "link",
        "recording.json",
        "\u202e",
        "' OR 1=1",
        "a" * 300,
        "%ff",
        "C:",
        "nul",
    ]
)
PATHS = st.lists(SEGMENTS, min_size=1, max_size=6).map("/".join)
PREFIXES = st.sampled_from(
    [
        "/",
        "/api/",
        "/web/x/js/",
        "/recordings/",
        "/api/recordings/",
        "/api/cameras/",
        "/api/jobs/",
        "/api/tiles/1/1/",
        "FILES",
        "THUMBS",
    ]
)
METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Range",
            "If-Range",
            "If-None-Match",
            "Origin",
            "Accept",
            "Accept-Language",
            "Cookie",
            "Authorization",
            "Content-Type",
            "Last-Event-ID",
            "Accept-Encoding",
        ]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60),
    max_size=4,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prefix=PREFIXES, path=PATHS, method=METHODS, headers=HEADERS, body=st.binary(max_size=200))
def test_hostile_requests_read_and_write_nothing(
    open_app: Flask, prefix: str, path: str, method: str, headers: dict[str, str], body: bytes
) -> None:
    recordings: Recordings = open_app.extensions["car"].recordings
    recording = f"/api/recordings/{recordings.list()[0].id}"
    url = prefix.replace("FILES", f"{recording}/files/").replace("THUMBS", f"{recording}/thumbnails/") + path
    outside = recordings.output.parent
    before = sorted(outside.iterdir())
    response = open_app.test_client().open(url, method=method, headers=headers, data=body)
    assert response.status_code < 500, response.text
    assert SECRET.encode() not in response.data
    assert sorted(outside.iterdir()) == before


@pytest.fixture(scope="module")
def open_app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    folder = tmp_path_factory.mktemp("open")
    (folder / "secret").write_text(SECRET)
    recording = add_recording(folder / "output", seconds=2)
    (folder / "output" / recording / "link").symlink_to(folder / "secret")
    (folder / "output" / "secret").symlink_to(folder)
    with an_app(folder / "output", "C1") as (app, _):
        yield app


def test_settings_know_the_pin_file() -> None:
    assert Settings().pin_file == ""
