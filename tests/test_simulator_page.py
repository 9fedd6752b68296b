"""What the simulated phone's page tells the server: every code that it drew, once, as the recording's log keeps it."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from rig.timing.codelog import read_logs
from simulator.page import LEAD_NS, ROUTE, Page
from simulator.phone import Phone

Posts = list[dict[str, Any]]


@pytest.fixture
def server() -> Iterator[tuple[str, Posts]]:
    """Keeps what is posted to the route of the log."""
    posts: Posts = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == ROUTE
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}/api/time", posts
        listener.shutdown()


def test_a_page_tells_all_that_it_drew(server: tuple[str, Posts], tmp_path: Path) -> None:
    url, posts = server
    begin_ns = time.time_ns()
    phone = Phone(phase_ns=begin_ns - 10**9, skip_share=0.1, to_pi_ns=2_700_000_000)
    page = Page(url, phone, 400_000, time.time_ns, "simulated1")
    deadline = time.monotonic() + 30.0
    while len(posts) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    page.close()
    assert len(posts) >= 3  # the last one when it was closed
    (tmp_path / "codes").mkdir()
    (tmp_path / "codes" / "simulated1.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    [log] = read_logs(tmp_path)
    drawn = phone.drawn(begin_ns - LEAD_NS, int(log.utc_ns[-1]) - phone.to_pi_ns + 100_000)
    assert log.utc_ns.tolist() == [int(code.payload[:14]) * 100_000 for code in drawn][-len(log.utc_ns) :]
    assert len(drawn) - len(log.utc_ns) <= 12  # those between the two looks at the clock
    assert posts[-1]["missed"] > 0
    assert log.offset_bound_ns == 400_000


def test_a_server_that_is_gone_stops_no_page() -> None:
    page = Page("http://127.0.0.1:9/api/time", Phone(), 0, time.time_ns, "simulated1")
    page.close()
