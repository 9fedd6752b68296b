"""docs/reliability.md says truly of each of its 26 faults what is expected, how it is tested and what was measured."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs/reliability.md").read_text(encoding="utf-8")
ROWS = [row.split(" | ") for row in re.findall(r"^\| (\d+ \| .*) \|$", PAGE, re.MULTILINE)]
FAULTS = 26


def module(name: str) -> Path:
    """The file of tests that the page calls `test_disk`, or `tests/test_album.py`."""
    found = [TESTS.parent / name] if "/" in name else [TESTS / "faults" / f"{name}.py", TESTS / f"{name}.py"]
    return next((path for path in found if path.exists()), found[-1])


def test_the_table_has_each_fault_and_all_of_it() -> None:
    assert [row[0] for row in ROWS] == [str(number) for number in range(1, FAULTS + 1)]
    assert all(len(row) == 5 and all(cell.strip() for cell in row) for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_the_tests_that_a_row_names_are_there(row: list[str]) -> None:
    number, _, _, tests, figure = row
    named = re.findall(r"`(?:tests/)?((?:\w+/)*test_\w+)(?:\.py)?`", tests)
    assert named or tests.startswith("part of "), number
    for name in named:
        assert "\ndef test_" in module(name).read_text(encoding="utf-8"), name
    for short, long in re.findall(r"short (\d+), long ([\d,]+)", tests):
        counts = rf"\[{short}, pytest\.param\({int(long.replace(',', '')):_},"
        assert any(re.search(counts, module(name).read_text(encoding="utf-8")) for name in named), (short, long)
    for link in re.findall(r"docs/\w+\.md|benchmarks/\w+\.py", tests + figure):
        assert (TESTS.parent / link).exists(), link


def test_each_file_of_faults_is_in_the_table() -> None:
    named = {name for row in ROWS for name in re.findall(r"`(test_\w+)`", row[3])}
    assert {path.stem for path in TESTS.glob("faults/test_*.py")} - named == {Path(__file__).stem}
