"""The page's draw log, as the server keeps it and a power cut leaves it."""

import json
from pathlib import Path

import pytest

from rig.clock import NS_PER_S
from rig.timing import codelog
from rig.timing.qrtime import TICK_NS

TENTHS = 17_953_561_920_000


def write(folder: Path, *lines: str, page: str = "p1") -> None:
    (folder / "codes").mkdir(exist_ok=True)
    (folder / "codes" / f"{page}.jsonl").write_text("\n".join(lines))


def post(first: int, count: int, bound_ms: float | None = 0.4) -> str:
    draws = [[number, TENTHS + 167 * number] for number in range(first, first + count)]
    values = {"page": "p1", "user_agent": "Phone/1", "refresh_hz": 60.0, "offset_bound_ms": bound_ms, "missed": 0}
    return json.dumps({**values, "draws": draws})


def utc_ns(number: int) -> int:
    return (TENTHS + 167 * number) * TICK_NS


def test_posts_are_joined_and_a_code_sent_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, post(0, 30), post(20, 30, 0.9), post(50, 10, None))
    (log,) = codelog.read_logs(tmp_path)
    assert log.utc_ns.tolist() == [utc_ns(number) for number in range(60)]
    assert log.sequence.tolist() == list(range(60))
    assert (log.page, log.user_agent, log.offset_bound_ns) == ("p1", "Phone/1", 900_000)


def test_codes_around_a_step_of_the_pis_clock_are_left_out(tmp_path: Path) -> None:
    """What was drawn before a step is posted after it: by which of both clocks, nobody knows."""
    offsets = (5 * NS_PER_S, 5 * NS_PER_S, 6 * NS_PER_S, 6 * NS_PER_S)
    posts = [{**json.loads(post(30 * n, 30)), "pi_offset_ns": offset} for n, offset in enumerate(offsets)]
    write(tmp_path, *map(json.dumps, posts))
    (log,) = codelog.read_logs(tmp_path)
    assert log.sequence.tolist() == [*range(60), *range(90, 120)]
    assert log.pi_offset_ns.tolist() == [5 * NS_PER_S] * 60 + [6 * NS_PER_S] * 30


def test_the_next_code_is_the_one_really_drawn(tmp_path: Path) -> None:
    write(tmp_path, post(0, 10), post(12, 10))
    (log,) = codelog.read_logs(tmp_path)
    assert log.next_ns(utc_ns(3)) == utc_ns(4)
    assert log.next_ns(utc_ns(9)) == utc_ns(12)  # two refreshes were missed
    assert log.next_ns(utc_ns(21)) is None  # the last one: nobody knows
    assert log.next_ns(utc_ns(3) + TICK_NS) is None


def test_a_pause_ends_a_span(tmp_path: Path) -> None:
    write(tmp_path, post(0, 60), post(6000, 60))
    (log,) = codelog.read_logs(tmp_path)
    assert log.spans() == [(utc_ns(0), utc_ns(59)), (utc_ns(6000), utc_ns(6059))]
    assert log.next_ns(utc_ns(59)) is None


@pytest.mark.parametrize(
    "damage",
    ['{"page": "p1", "dra', "", "[]", "3", '{"draws": [[1]]}', '{"draws": [["a", 2]]}', '{"draws": 5}', "\0\0\0"],
)
def test_torn_and_odd_lines_are_skipped(tmp_path: Path, damage: str) -> None:
    write(tmp_path, post(0, 5), damage, post(5, 5), damage)
    (log,) = codelog.read_logs(tmp_path)
    assert len(log.utc_ns) == 10


def test_no_log_is_no_error(tmp_path: Path) -> None:
    assert codelog.read_logs(tmp_path) == []
    write(tmp_path, "nothing")
    assert codelog.read_logs(tmp_path) == []


def test_a_code_is_known_to_the_page_that_drew_it(tmp_path: Path) -> None:
    write(tmp_path, post(0, 5))
    write(tmp_path, post(100, 5), page="p2")
    logs = codelog.read_logs(tmp_path)
    found = codelog.holder(logs, utc_ns(102))
    assert found is not None
    assert found.page == "p2"
    assert codelog.holder(logs, utc_ns(50)) is None


def test_a_page_that_was_loaded_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path, post(0, 60), page="p1")
    write(tmp_path, post(200, 60, 0.9), page="p2")
    write(tmp_path, post(30, 200), page="p0")  # another phone, whose codes happen to be the same at times
    logs = codelog.read_logs(tmp_path)
    seen = [utc_ns(number) for number in (*range(5, 60, 4), *range(230, 260, 2))]
    log = codelog.joined(logs, seen)
    assert log is not None
    assert log.sequence.tolist() == [*range(60), *range(200, 260)]
    assert log.next_ns(utc_ns(59)) == utc_ns(200)
    assert log.offset_bound_ns == 900_000
    assert codelog.joined(logs, [utc_ns(250) + 1]) is None
    assert codelog.joined(logs, [utc_ns(255)]) is logs[2]
