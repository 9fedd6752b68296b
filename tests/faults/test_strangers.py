"""Hostile paths, headers and bodies to every route of the real server: refused, nothing outside its folder touched.

Each file that any of its processes opens, lists, moves or deletes is told by an audit hook of Python.
"""

import http.client
import json
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.rig import PROJECT, SERIALS, Server, wait_for

PIN, SECRET = "271828", "nobody may read this"
CREW, STRANGER = "127.0.0.1", "127.0.0.2"
PATIENCE_S = 60.0
MOST_BYTES = 1 << 20
LASTING = ("/api/calibrate", "/api/display-latency")  # what is valid takes up to a minute there
REFUSALS = (502, 503, 507)  # of a device, of the server's own limits, of the disk: only where a route documents them
THE_SYSTEMS = ("/proc/", "/sys/", "/dev/", "/usr/", "/etc/", "/lib", "/run/")
# Ports and who uses them are looked for, a job makes itself small.
HARMLESS = ("r /dev", "r /proc", "w /dev/null", "w /proc/self/oom_score_adj")
NOBODYS = ("/etc/passwd", "/etc/shadow", "/etc/hostname")

# Written into the server's environment: it says what each process does with files.
HOOK = """
import os, sys
told = os.open(os.environ["TOUCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
CHANGES = ["os." + name for name in "remove rename mkdir rmdir link symlink truncate chmod utime".split()]
def tell(event, args):
    if event == "open":
        paths = args[:1]
        changes = (isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) != 0
    elif event in CHANGES:
        paths, changes = args[:2] if event in ("os.rename", "os.link", "os.symlink") else args[:1], True
    elif event in ("os.listdir", "os.scandir"):
        paths, changes = args[:1], False
    else:
        return
    beside = args[-1] if event in CHANGES and event != "os.truncate" else None  # a folder's descriptor
    for path in paths:
        if isinstance(path, (str, bytes)):
            where = os.fsdecode(path)
            if isinstance(beside, int) and beside >= 0:
                where = os.path.join(os.readlink(f"/proc/self/fd/{beside}"), where)
            os.write(told, f"{'w' if changes else 'r'} {os.path.abspath(where)}\\n".encode(errors="replace"))
sys.addaudithook(tell)
"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as bytes, and who sends it."""

    sent: bytes
    crew: bool
    path: str


@dataclass(frozen=True, slots=True)
class Fort:
    """A server with a PIN, and what is to be found out of reach around its folder."""

    server: Server
    recording: str
    receiver: str
    touched: Path
    operations: Mapping[tuple[str, str], Any]


@pytest.fixture
def fort(stopped_server: Server, port: Path, tmp_path: Path) -> Iterator[Fort]:
    server, output = stopped_server, tmp_path / "output"
    for name in ("secret", "pin", "elsewhere/recording.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(PIN if name == "pin" else SECRET)
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    touched = tmp_path / "touched"
    server._settings = {**server._settings, "EDENCAR_PIN_FILE": str(tmp_path / "pin")}
    server.start({"PYTHONPATH": str(tmp_path / "hook"), "TOUCHED": str(touched)})
    server.ready(2)
    recording = str(crew(server, "POST", "/api/start")["recording"]["id"])
    wait_for(lambda: server.status["state"] == "recording")
    crew(server, "POST", "/api/stop")
    folder = output / recording
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "photos").mkdir()
    (folder / "photos" / "link.jpg").symlink_to(tmp_path / "secret")
    (folder / "away").symlink_to(tmp_path)
    (output / "secret").symlink_to(tmp_path)
    (output / "2026-01-01_00-00-00").symlink_to(tmp_path / "elsewhere")
    described = server.call("GET", "/api/openapi.json")["paths"]
    operations = {
        (method.upper(), path): told for path, methods in described.items() for method, told in methods.items()
    }
    yield Fort(server, recording, str(port), touched, operations)
    assert server.end() == 0


def crew(server: Server, method: str, path: str) -> Any:
    """What somebody with the PIN gets."""
    asked = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {PIN}\r\nConnection: close\r\n\r\n"
    status, _, body = send(server, Asked(asked.encode(), True, path))
    assert status < 300, body
    return json.loads(body)


def send(server: Server, asked: Asked) -> tuple[int, str, bytes]:
    """Status, content type and the first bytes of what is answered."""
    where = urlsplit(server.url)
    source = (CREW if asked.crew else STRANGER, 0)
    with socket.create_connection((str(where.hostname), int(where.port or 0)), PATIENCE_S, source) as connection:
        with suppress(OSError):  # refused before all of it was sent
            connection.sendall(asked.sent)
            connection.shutdown(socket.SHUT_WR)
        with closing(http.client.HTTPResponse(connection)) as answer:
            answer.begin()
            kind = answer.getheader("Content-Type", "")
            return answer.status, kind, answer.read(100 if kind.startswith("text/event-stream") else MOST_BYTES)


HOSTILE_SEGMENTS = (
    "..", ".", "", "%2e%2e", "..%2f", "%2e%2e%2f%2e%2e%2fsecret", "..%5c..%5csecret", "%00", "secret%00.jpg",
    "%2fetc%2fpasswd", "%252e%252e%252fsecret", "..;", "~root", "C:%5cWindows", "%c0%ae%c0%ae%2f", "%ff%fe",
    "%e2%80%ae", "caf%c3%a9", "%0d%0aX-Evil:%201", "' OR 1=1--", "{{7*7}}", "%24%7bjndi%3a%7d", "a" * 300, "9" * 400,
    "-1", "link", "away", "photos/link.jpg", "secret", ".sessions.json", ".trash", ".lock", "elsewhere",
    "2026-01-01_00-00-00", "recording.json", "*",
)  # fmt: skip
# Where there would be something: beside the folder, or behind a link.
WAYS_OUT = (
    *("link", "away", "away/secret", "away/elsewhere/recording.json", "photos/link.jpg", "photos/../link", "./link"),
    *("../../secret", "..%2f..%2fsecret", "%2e%2e/%2e%2e/secret", "%2e%2e%2f%2e%2e%2fsecret", "..%5c..%5csecret"),
    *("../secret/secret", "photos/..%2f..%2f..%2fsecret", "/etc/passwd", "%2fetc%2fpasswd", "/////etc/passwd"),
    *("../2026-01-01_00-00-00/recording.json", "..%2f.sessions.json", "%00", "recording.json%00", "recording.json/.."),
)
HOSTILE_VALUES = (
    "", "\x00", "[", "null", "-1", "9" * 5000, "NaN", "\xff\xfe", "é", "%", "=", ",,,;q=x", "*", "../../secret",
    "bytes=0-", "bytes=9-1", "bytes=-0", "bytes=0-0,2-3", "bytes=99999999999999999999999-", "http://evil.example",
    "http://[", "file:///etc/passwd", "evil.example", "localhost@evil.example", "[::1", "localhost:99999999", "Basic",
    "Basic %", "Basic YTpi", "Bearer \x7f", "Digest username=x", "application/json; charset=utf-7",
    "application/json; charset=\x80", "multipart/form-data", "multipart/form-data; boundary=",
    "multipart/form-data; boundary=x", "text/plain", "gzip, deflate, br;q=-5", "100-continue", "chunked", "gzip",
    "W/\"", "Mon, 99 Foo 9999", "edencar=" + "0" * 32, "lang=../../secret; theme=<script>", "\"\\777\"", "a" * 3000,
)  # fmt: skip
HEADERS = (
    "Host", "Origin", "Range", "If-Range", "If-None-Match", "If-Modified-Since", "Content-Type", "Content-Length",
    "Transfer-Encoding", "Content-Encoding", "Authorization", "Cookie", "Accept", "Accept-Language", "Accept-Encoding",
    "Expect", "Connection", "Upgrade", "X-Forwarded-For", "X-Forwarded-Host", "X-HTTP-Method-Override",
    "Last-Event-ID", "Forwarded", "X" * 100,
)  # fmt: skip
ODD = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    st.sampled_from(HOSTILE_SEGMENTS),
    st.lists(st.integers() | st.text(max_size=5), max_size=20),
    st.sampled_from(["x" * 6000, {}, {"a": {"b": [None]}}, [["x"]] * 3000]),
)
NO_JSON = (
    b"", b"null", b"[]", b"0", b'"x"', b"{", b"\xff", b"{}garbage", b"[" * 60_000, b'{"a":' * 10_000, b"9" * 60_000,
    b'{"seconds": NaN}', b'{"seconds": 1e99999}', b'{"seconds": -Infinity}', b'{"name": "a", "name": "\\ud800"}',
    '{"pin": "1"}'.encode("utf-16"), b"\xef\xbb\xbf{}", b"a=b&c=d",
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><x>&y;</x>", bytes(70_000),
)  # fmt: skip
FORM = b'--x\r\nContent-Disposition: form-data; name="positions"; filename="%s"\r\n\r\n%s\r\n--x--\r\n'
FILES = (
    *(b"../../secret", b"/etc/passwd", b"a.nmea", b"a.nmea\x00.jpg", b"..", b"", b"a.exe", b'"; x="', "é.csv".encode()),
    b"n" * 3000 + b".gpx",
)
CONTENTS = (
    *(b"", b"$GPGGA,", bytes(1000), b"utc,latitude\n,,\n\x00", b"<gpx>"),
    b"<!DOCTYPE x [<!ENTITY y SYSTEM 'file:///etc/passwd'>]><gpx>&y;</gpx>",
)
KEYS = (
    *(
        "name",
        "note",
        "mode",
        "cameras",
        "allow",
        "every",
        "seconds",
        "label",
        "settings",
        "page",
        "draws",
        "positions",
    ),
    *("pin", "start_utc", "user_agent"),
)
QUERIES = (
    *("width=1e9", "width=320&width=1280", "wait", "lang=%00", "lang=../../x", "download=%0d%0a", "&&&", "%"),
    "a=" + "b" * 2000,
)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get", "\x00")
TAILS = ("/", "//", "/..", "/%2e%2e/secret", "%00", ".json", "/../../secret", "?" * 50)


@st.composite
def requests_to(draw: st.DrawFn, fort: Fort) -> Asked:
    """A request to some route, of which one or more parts are hostile."""
    method, template = draw(st.sampled_from(sorted(fort.operations)))
    parts = draw(st.sets(st.sampled_from(["path", "method", "query", "header", "body"]), min_size=1, max_size=3))
    path = draw(paths(fort, template)) if "path" in parts else address(fort, template)
    if "query" in parts:
        path += "?" + draw(st.sampled_from(QUERIES))
    if "method" in parts:
        method = draw(st.sampled_from(METHODS))
    headers = {"Host": "localhost", "Connection": "close"}
    crew = draw(st.booleans())
    if crew:
        headers["Authorization"] = f"Bearer {PIN}"
    body = draw(bodies(headers)) if "body" in parts or template in LASTING else b""
    if body:
        headers["Content-Length"] = str(len(body))
    if "header" in parts:
        names = draw(st.sets(st.sampled_from(HEADERS), min_size=1, max_size=3)) - ({"Authorization"} if crew else set())
        headers |= {name: draw(st.sampled_from(HOSTILE_VALUES)) for name in sorted(names)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return Asked(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body, crew, template)


def address(fort: Fort, template: str, **hostile: str) -> str:
    """A route's path with what there is, or what is given, in its places."""
    known = {"recording_id": fort.recording, "serial": SERIALS[0], "path": "recording.json", "folder": "js"} | hostile
    return re.sub(r"{(\w+)}", lambda name: quote(known.get(name[1], "0"), safe="/%?#'*{}&=~;:"), template)


@st.composite
def paths(draw: st.DrawFn, fort: Fort, template: str) -> str:
    """A route's path with something hostile in its places, or behind it."""
    names = re.findall(r"{(\w+)}", template)
    if not names:
        return template + draw(st.sampled_from(TAILS))
    segments = st.lists(st.sampled_from(HOSTILE_SEGMENTS), min_size=1, max_size=5).map("/".join)
    segments |= st.sampled_from(WAYS_OUT)
    return address(fort, template, **{name: draw(segments) for name in names if draw(st.booleans())})


@st.composite
def bodies(draw: st.DrawFn, headers: dict[str, str]) -> bytes:
    """Something that is no JSON, JSON of wrong types, or a form with a file."""
    kind = draw(st.sampled_from(["none", "wrong", "form"]))
    if kind == "none":
        return draw(st.sampled_from(NO_JSON))
    if kind == "form":
        headers["Content-Type"] = "multipart/form-data; boundary=x"
        return FORM % (draw(st.sampled_from(FILES)), draw(st.sampled_from(CONTENTS)))
    value = draw(st.dictionaries(st.sampled_from(KEYS), ODD, min_size=1, max_size=4))
    if isinstance(value.get("seconds"), int | float):  # what is valid would take as long
        value["seconds"] = 1e99
    return json.dumps(value).encode()[:60_000]


def check(fort: Fort, asked: Asked) -> int:
    """It is answered, by no defect, and tells no secret; the status, 0 for none to what has no end."""
    try:
        status, kind, body = send(fort.server, asked)
    except http.client.RemoteDisconnected:
        assert re.search(rb"\r\n(Content-Length|Transfer-Encoding): ", asked.sent), asked
        return 0
    told = [told for (_, path), told in fort.operations.items() if path == asked.path]
    documented = {int(code) for one in told for code in one["responses"] if code.isdigit()}
    assert status < 500 or status in documented.intersection(REFUSALS), (status, body[:500])
    assert SECRET.encode() not in body
    assert b"Traceback" not in body
    if status >= 400 and kind != "text/html; charset=utf-8":
        assert kind == "application/problem+json"
        assert not body or json.loads(body)["status"] == status  # none to HEAD
    return status


def around(folder: Path) -> list[tuple[str, int, bytes]]:
    """What lies beside the server's folder."""
    names = ("secret", "pin", "elsewhere", "elsewhere/recording.json", "hook", "hook/sitecustomize.py")
    found = [folder / name for name in names]
    return [(path.name, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in found]


def touched_outside(fort: Fort, since: int) -> list[str]:
    """What the server's processes did with files that are none of theirs: `r` or `w`, and the path."""
    own, hook = str(fort.server.output), str(fort.touched.parent / "hook")
    code = (str(PROJECT), sys.prefix, sys.base_prefix, str(Path(sys.prefix).resolve()), hook)
    found = set()
    for line in fort.touched.read_bytes()[since:].decode(errors="replace").splitlines():
        change, _, path = line.partition(" ")
        inside = path == own or path.startswith(f"{own}/")
        read = change == "r" and path.startswith((*code, *THE_SYSTEMS)) and path not in NOBODYS
        receiver = path == fort.receiver  # it may be opened again at any time
        if not (inside or read or receiver or line in HARMLESS or "/__pycache__/" in path):
            found.add(line)
    return sorted(found)


def test_no_path_leads_out(fort: Fort) -> None:
    """Each place of each path in turn has something hostile in it; those who ask know the PIN."""
    since, asked = fort.touched.stat().st_size, 0
    for method, template in sorted(fort.operations):
        for name in re.findall(r"{(\w+)}", template) if template not in LASTING else ():
            for hostile in (*WAYS_OUT, *HOSTILE_SEGMENTS):
                path = address(fort, template, **{name: hostile})
                head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {PIN}\r\n"
                sent = f"{head}Content-Length: 1\r\nConnection: close\r\n\r\nx".encode("latin-1")
                check(fort, Asked(sent, True, template))
                asked += 1
    print(f"{asked} ways out tried")
    assert touched_outside(fort, since) == []
    assert "Traceback" not in fort.server.log


def test_a_long_upload_waits_on_the_disk_of_the_recordings(fort: Fort) -> None:
    """Not in /tmp, which may be memory."""
    where, body = urlsplit(fort.server.url), FORM % (b"a.nmea", bytes(MOST_BYTES))
    with socket.create_connection((str(where.hostname), int(where.port or 0)), PATIENCE_S) as connection:
        head = f"POST /api/recordings/{fort.recording}/geotag HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += f"Authorization: Bearer {PIN}\r\nContent-Type: multipart/form-data; boundary=x\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:-1])
        spooled = wait_for(lambda: nameless(fort.server.process.pid))
        assert all(path.startswith(f"{fort.server.output}/") for path in spooled)
        connection.sendall(body[-1:])
        with closing(http.client.HTTPResponse(connection)) as answer:
            answer.begin()
            assert answer.status == 202


def nameless(pid: int) -> list[str]:
    """Where the files lie that a process holds and that no folder names."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.append(str(descriptor.readlink()))
    return [path for path in found if path.startswith("/") and path.endswith("(deleted)")]


@pytest.mark.parametrize("count", [250, pytest.param(20_000, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_hostile_requests_to_all_routes_do_nothing(fort: Fort, count: int, tmp_path: Path) -> None:
    before, since = around(tmp_path), fort.touched.stat().st_size
    answered: Counter[int] = Counter()

    @settings(max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests_to(fort))
    def ask(asked: Asked) -> None:
        answered[check(fort, asked)] += 1

    ask()
    print(f"{count} hostile requests to {len(fort.operations)} routes: {dict(sorted(answered.items()))}")
    assert touched_outside(fort, since) == []
    assert around(tmp_path) == before
    assert "Traceback" not in fort.server.log
    crew(fort.server, "POST", "/api/stop")
    assert crew(fort.server, "GET", "/healthz") == {"alive": True}
    assert crew(fort.server, "POST", "/api/start")["recording"]["state"] == "recording"
    crew(fort.server, "POST", "/api/stop")
