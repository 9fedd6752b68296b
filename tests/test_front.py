"""What a stranger sends on the bare socket is refused before it costs disk, memory or a place."""

import http.client
import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from rig.errors import UsageError
from rig.http import front
from tests.browser.site import Site, a_site, add_recording
from tests.machine import wait_for
from tests.test_server import work

PIN = "271828"
LONG = 4 << 20
HUGE = 64 << 20  # more than all buffers of a connection take
HEAD = b"Host: localhost\r\nConnection: close\r\n"
CHUNKED = b"POST /api/start HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
QUICK_S = 5.0  # thousands of times what it takes where nothing else runs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("front")
    (folder / "pin").write_text(f"{PIN}\n")
    recording = add_recording(folder / "output", seconds=2)
    with (folder / "output" / recording / "huge.ts").open("wb") as file:
        file.truncate(HUGE)
    with a_site(folder / "output", "C1", work=work, pin_file=str(folder / "pin")) as site:
        yield site


def ask(site: Site, sent: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; status, headers and body of what comes back."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET http://[/ HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: [\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 403),  # called by no name
        (b"GET / HTTP/1.1\r\n" + HEAD + b"Host: evil.example\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + bytes([0]) + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD + b": nameless\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * front.HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * front.HEAD_BYTES + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 431),
        (b"get / HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n" + HEAD + b"\r\n", 400),
        (b"GET /..%2f..%2f..%2fetc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
        (b"GET ../../etc/passwd HTTP/1.1\r\n" + HEAD + b"\r\n", 404),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Origin: http://[\r\n\r\n", 403),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Origin: null\r\n\r\n", 403),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Content-Length: +1\r\n\r\n", 400),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Content-Length: " + b"9" * 15 + b"\r\n\r\n", 413),
        (b"POST /api/stop HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET /nowhere HTTP/1.1\r\n" + HEAD + b"Expect: 100-continue\r\n\r\n", 404),
        (CHUNKED + b"zz\r\n", 400),
        (CHUNKED + b"-5\r\n", 400),
        (CHUNKED + b"2\r\n{}garbage\r\n", 400),
        (CHUNKED + b"1;" + b"a" * (2 * front.CHUNK_LINE_BYTES), 400),
        (CHUNKED + b"0\r\n" + b"a" * (2 * front.CHUNK_LINE_BYTES), 400),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_what_is_no_request_is_refused_in_words(site: Site, sent: bytes, status: int) -> None:
    got, headers, body = ask(site, sent)
    assert got == status
    if "text/html" not in headers["content-type"]:
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(body)
        assert (problem["status"], bool(problem["title"] and problem["detail"] and problem["cure"])) == (status, True)
    assert headers["x-content-type-options"] == "nosniff"


def spooled() -> int:
    """Bytes in files without a name that this process holds: where waitress keeps long bodies."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()).endswith("(deleted)"):
                found += descriptor.stat().st_size
    return found


def form_of(site: Site, where: str, pin: str, chunked: bool) -> tuple[bytes, bytes, bytes]:
    """Head, body and end of a long upload."""
    (recording,) = site.car.recordings.list()
    shown = f"Authorization: Bearer {pin}\r\n" if pin else ""
    form = (
        b'--x\r\nContent-Disposition: form-data; name="positions"; filename="a.nmea"\r\n\r\n'
        + b"$" * LONG
        + b"\r\n--x--\r\n"
    )
    head = f"POST /api/recordings/{recording.id}/{where} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{shown}"
    head += "Content-Type: multipart/form-data; boundary=x\r\n"
    if not chunked:
        return f"{head}Content-Length: {len(form)}\r\n\r\n".encode(), form[:-10], form[-10:]
    begin = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(form):x}\r\n".encode()
    return begin, form[:-10], form[-10:] + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    ("where", "pin", "status"),
    [("geotag", "", 401), ("geotag", "271829", 401), ("process", PIN, 413), ("geotag", PIN, 202)],
)
def test_a_long_body_is_kept_only_of_who_may_send_it(
    site: Site, where: str, pin: str, status: int, chunked: bool
) -> None:
    site.app.extensions["gate"]._failures.clear()
    head, body, end = form_of(site, where, pin, chunked)
    before = spooled()
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(head + body)
        if status == 202:
            wait_for(lambda: spooled() - before > LONG // 2)
        else:
            time.sleep(0.2)  # would be enough
            assert spooled() - before < LONG // 2
        connection.sendall(end)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, answer.getheader("Content-Type") != "text/plain") == (status, True), answer.read()
    wait_for(lambda: spooled() <= before)
    for job in site.app.extensions["jobs"].list():
        site.app.extensions["jobs"].cancel(job.id)


def nowhere(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tempfile, "tempdir", "/nonexistent")
    patch.setattr(front, "free_bytes", lambda _path: 1 << 40)


def scarcely(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(front, "free_bytes", lambda _path: 0)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("have_room", [nowhere, scarcely])
def test_a_long_body_for_which_there_is_no_room_is_refused_in_words(
    site: Site, monkeypatch: pytest.MonkeyPatch, have_room: Callable[[pytest.MonkeyPatch], None], chunked: bool
) -> None:
    have_room(monkeypatch)
    before = spooled()
    status, headers, body = ask(site, b"".join(form_of(site, "geotag", PIN, chunked)))
    problem = json.loads(body)
    assert (status, headers["content-type"]) == (507, "application/problem+json")
    assert (problem["type"], problem["status"], problem["cure"]) == ("urn:edencar:no-space", 507, "delete recordings")
    assert spooled() <= before


def test_who_is_refused_in_mid_sentence_hears_why(site: Site) -> None:
    head = b"GET / HTTP/1.1\r\n" + HEAD + b"X: " + b"a" * LONG + b"\r\n\r\n"
    for _ in range(5):  # without it a reset overtakes the answer now and then
        assert ask(site, head)[0] == 431


def download(site: Site, what: str) -> bytes:
    (recording,) = site.car.recordings.list()
    return (
        f"GET /api/recordings/{recording.id}/{what} HTTP/1.1\r\nHost: localhost\r\nRange: bytes=7-\r\n"
        f"Authorization: Bearer {PIN}\r\n\r\n"
    ).encode()


def slow(stack: ExitStack, site: Site, sent: bytes) -> socket.socket:
    """One who asks and takes nothing of the answer but its beginning."""
    site.app.extensions["gate"]._failures.clear()
    connection = stack.enter_context(socket.socket())
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", site.port))
    connection.sendall(sent)
    assert connection.recv(12) == b"HTTP/1.1 206"
    return connection


def test_slow_downloads_take_neither_the_threads_nor_the_disk(site: Site) -> None:
    with ExitStack() as stack:
        before = spooled()
        for _ in range(3):
            slow(stack, site, download(site, "download"))
        for _ in range(front.THREADS):
            slow(stack, site, download(site, "files/huge.ts"))
        assert ask(site, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")[0] == 200
        assert spooled() <= before


def test_a_range_is_what_was_asked_for(site: Site) -> None:
    (recording,) = site.car.recordings.list()
    log = (site.car.recordings.folder(recording.id) / "positions" / "positions.csv").read_bytes()
    head = f"/api/recordings/{recording.id}/files/positions/positions.csv HTTP/1.1\r\nAuthorization: Bearer {PIN}\r\n"
    for wanted, part in (("7-30", log[7:31]), ("7-", log[7:]), ("-9", log[-9:])):
        sent = f"GET {head}Range: bytes={wanted}\r\n".encode() + HEAD + b"\r\n"
        assert ask(site, sent)[::2] == (206, part)


def test_who_takes_nothing_of_an_answer_is_cut_off(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_PATIENCE_S", 1)
    with ExitStack() as stack:
        before = len(vars(site.server)["active_channels"])
        for what in ("download", "files/huge.ts"):
            slow(stack, site, download(site, what))
        wait_for(lambda: len(vars(site.server)["active_channels"]) <= before)


def test_answers_that_nobody_takes_do_not_fill_the_memory(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST_WAITING_BYTES", 1 << 20)
    with ExitStack() as stack:
        first, *_others = [slow(stack, site, download(site, "download")) for _ in range(3)]
        taken = 0
        with suppress(ConnectionError):
            while data := first.recv(1 << 16):
                taken += len(data)
        assert taken < HUGE


def test_one_request_at_a_time_is_answered(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        answered = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert (answered.count(b"HTTP/1.1 200 OK"), answered.count(b"Connection: close")) == (1, 1)


def test_the_head_of_a_chunk_without_an_end_holds_up_nobody(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=30) as stranger:
        stranger.sendall(CHUNKED + b"1;")
        with suppress(OSError):  # refused in the midst of it
            for _ in range(1000):
                stranger.sendall(b"a" * (64 << 10))
        begun_s = time.monotonic()
        assert ask(site, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")[0] == 200
        assert time.monotonic() - begun_s < QUICK_S


def test_however_many_say_nothing_there_is_a_place(site: Site) -> None:
    with ExitStack() as stack:
        first = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=30))
        listener = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=30))
        listener.sendall(b"GET /api/events HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert listener.recv(15) == b"HTTP/1.1 200 OK"
        for number in range(2 * front.CONNECTIONS + 50):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=30))
            silent.sendall(b"GET /api/status HTTP/1.1\r\n"[: number % 25])
        begun_s = time.monotonic()
        assert ask(site, b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")[0] == 200
        assert time.monotonic() - begun_s < QUICK_S
        with suppress(ConnectionError):
            assert first.recv(1) == b""  # which has been silent longest
        while b"event: status" not in listener.recv(1 << 16):  # who is being answered stays
            pass


@pytest.mark.parametrize("host", ["nowhere.invalid", "192.0.2.1"])
def test_a_host_that_is_not_this_machine_is_no_port_in_use(host: str) -> None:
    with pytest.raises(UsageError, match=rf"^{host} is no address of this machine: "):
        front.listen(host, 0)
