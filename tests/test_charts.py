"""Charts are whole SVG, keep what is highest and lowest, and have round numbers at their axes."""

from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest

from measure.charts import MOST_POINTS, Series, chart, chart_file, ticks

SVG = "{http://www.w3.org/2000/svg}"


def wave(name: str = "wave", *, points: bool = False, count: int = 50) -> Series:
    x = np.linspace(0.0, 10.0, count)
    return Series(name, x, np.sin(x), points)


def places(path: str) -> list[tuple[float, float]]:
    pairs = (pair.split() for pair in path.removeprefix("M").split("L"))
    return [(float(x), float(y)) for x, y in pairs]


def curves(svg: str) -> list[list[tuple[float, float]]]:
    root = ElementTree.fromstring(svg)
    return [places(path.attrib["d"]) for path in root.iter(f"{SVG}path") if path.get("fill") == "none"]


def test_a_file_says_its_title_axes_and_series() -> None:
    svg = chart_file("Errors & bars", "hours", "ms", [wave("first <code>"), wave("dots", points=True)])
    words = [text.strip() for text in ElementTree.fromstring(svg).itertext() if text.strip()]
    assert {"Errors & bars", "hours", "ms", "first <code>", "dots"} <= set(words)
    assert svg.count("<circle") == 50


def test_a_figure_for_a_page_has_the_same_drawing() -> None:
    figure = chart("Errors", "hours", "ms", [wave()])
    assert figure.startswith("<figure>")
    assert figure.count("<svg") == 1


def test_values_that_are_none_leave_a_gap_and_nothing_gives_no_chart() -> None:
    x = np.array([0.0, 1.0, np.nan, 3.0])
    svg = chart_file("t", "x", "y", [Series("s", x, np.array([1.0, np.inf, 2.0, 3.0]))])
    assert len(curves(svg)[0]) == 2
    nothing = Series("s", np.array([np.nan]), np.array([1.0]))
    assert chart("t", "x", "y", [nothing]) == ""
    with pytest.raises(ValueError, match="no values"):
        chart_file("t", "x", "y", [nothing])


def test_of_a_long_series_the_highest_and_the_lowest_are_kept() -> None:
    x = np.arange(100_000.0)
    y = np.zeros(100_000)
    y[12_345], y[77_777] = 9.0, -9.0
    (drawn,) = curves(chart_file("t", "x", "y", [Series("s", x, y)]))
    assert len(drawn) <= MOST_POINTS
    heights = [height for _, height in drawn]
    assert sorted(heights)[0] < heights[0] < sorted(heights)[-1]


def test_a_level_series_is_drawn_in_the_middle() -> None:
    (drawn,) = curves(chart_file("t", "x", "y", [Series("s", np.arange(3.0), np.full(3, 5.0))]))
    assert len({height for _, height in drawn}) == 1


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 17.9), (1e-6, 2e-6), (0.0, 7200.0)])
def test_ticks_are_round_numbers_within_the_range(low: float, high: float) -> None:
    found = ticks(low, high, 5)
    assert 2 <= len(found) <= 6
    assert low - 1e-12 <= found[0] < found[-1] <= high + 1e-12
    (step,) = {round(b - a, 9) for a, b in pairwise(found)}
    assert f"{step:.0e}"[0] in "125"
