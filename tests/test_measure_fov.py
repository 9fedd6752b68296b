"""The chart filmed through known lenses: scale, distortion and the best lens come out as they were put in."""

import json
import math
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from measure import chart, fov
from measure.fov import judge, look
from rig.errors import UnreadableError
from simulator.lens import WEBCAM_LENSES, Lens, focal_px, view_chart
from tests.gopros import SERIAL, running

ROOT = Path(__file__).parent.parent
WIDE, NARROW, SUPERVIEW, LINEAR = (WEBCAM_LENSES[number] for number in (0, 2, 3, 4))


def seen_through(lens: Lens, distance_m: float = 0.4, width: int = 1920) -> fov.Sharpness:
    picture = view_chart(lens, width, width * 9 // 16, distance_m).y
    return judge("left", f"{lens.name} {width}", [picture, picture], distance_m)


def test_the_file_is_the_chart() -> None:
    """Letters may differ: OpenCV 4 and 5 write with another font."""
    stored = cv2.imread(str(chart.PICTURE), cv2.IMREAD_GRAYSCALE)
    assert stored is not None
    drawn = chart.draw()
    assert stored.shape == drawn.shape
    for code in chart.codes():
        side = round(12 * chart.MODULES_MM[code.row] * chart.PX_PER_MM)
        x, y = round(code.x_mm * chart.PX_PER_MM), round(code.y_mm * chart.PX_PER_MM)
        place = slice(y - side, y + side), slice(x - side, x + side)
        assert np.array_equal(stored[place], drawn[place]), code
    assert len(look(np.asarray(stored, dtype=np.uint8)).centres) == len(chart.codes()), (
        "every code can be read where nothing blurs it"
    )


@pytest.mark.parametrize("lens", WEBCAM_LENSES.values(), ids=lambda lens: lens.name)
@pytest.mark.parametrize("width", [1920, 1280])
def test_pixels_a_degree_are_those_of_the_lens(lens: Lens, width: int) -> None:
    found = seen_through(lens, width=width)
    assert found.picture_rows == width * 9 // 16
    assert found.px_per_degree == pytest.approx(focal_px(lens, width) * math.pi / 180, rel=0.006)
    assert found.blur_px_per_ms == pytest.approx(focal_px(lens, width) * 50 / 3.6 / 5 / 1000, rel=0.01)


@pytest.mark.parametrize(("distance_m", "width"), [(0.3, 1920), (0.3, 1280), (0.4, 1920), (0.4, 1280)])
def test_the_order_of_the_lenses_is_that_of_the_truth(distance_m: float, width: int) -> None:
    """Wide and linear, too, with 16.27 and 16.18 pixels a degree."""
    films = (seen_through(lens, distance_m, width) for lens in WEBCAM_LENSES.values())
    found = [item.setting for item in sorted(films, key=lambda item: item.rank)]
    truth = sorted(WEBCAM_LENSES.values(), key=lambda lens: -focal_px(lens, width))
    assert found == [f"{lens.name} {width}" for lens in truth]


def test_a_few_codes_tell_a_scale_and_no_bend() -> None:
    places = {(code.row, code.column): (4 * code.x_mm, 4 * code.y_mm) for code in chart.codes()}
    for count in (8, 9, 10, len(places)):
        found = fov._fit(fov.Seen(1280, 720, dict([*places.items()][:count])))
        assert found == pytest.approx((4.0, 0.0), abs=1e-3)
    assert fov._fit(fov.Seen(1280, 720, dict([*places.items()][:7]))) is None, "a row and one more"


def test_a_fish_eye_bends_and_a_straight_lens_does_not() -> None:
    assert seen_through(WIDE, 0.25).bend_px > 5
    assert seen_through(LINEAR, 0.25).bend_px < 2


def test_nearer_charts_show_smaller_rows() -> None:
    modules = [seen_through(LINEAR, distance_m).smallest_module_mm for distance_m in (0.8, 0.4, 0.25)]
    assert modules == sorted(modules, key=lambda size: -(size or 99))
    assert len(set(modules)) == 3


def test_a_picture_without_the_chart_is_refused() -> None:
    with pytest.raises(UnreadableError, match="in no picture"):
        judge("left", "wide", [np.full((720, 1280), 128, np.uint8)], 0.4)


@pytest.mark.parametrize("payload", ["", "99", "9999990000000000", "20261122140312345", "99070000000000000"])
def test_what_is_not_of_the_chart_has_no_place(payload: str) -> None:
    assert chart.read_place(payload) is None


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--lenses", "wide,fisheye"], 2, "no such lens: fisheye"),
        (["--resolutions", ""], 2, "none named"),
        (["--distance-m", "0"], 2, "no distance"),
        (["--address", "127.0.0.1:9"], 6, "no camera answers"),
    ],
)
def test_bad_input_is_told_in_one_line(
    argv: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fov.main([*argv, "--json"]) == code
    printed = capsys.readouterr()
    assert words in json.loads(printed.out)["error"]
    assert len([line for line in printed.err.splitlines() if "fov: " in line]) == 1


def test_a_lens_that_a_camera_refuses_is_one_failed_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--lenses", "narrow,linear", "--resolutions", "720", "--output", str(tmp_path / "report"), "--json"]
    with running(size=720, chart_m=0.4, faults={"lens_refused": 2}) as camera:
        assert fov.main([*argv, "--address", camera.address]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [item["setting"] for item in result["settings"]] == ["linear 720"]
    assert [(item["camera"], item["setting"]) for item in result["failures"]] == [(SERIAL, "narrow 720")]
    assert "webcam" in result["failures"][0]["reason"]
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "<td>narrow 720</td><td>failed</td>" in page
    assert "linear 720 reads best" in page


def test_a_camera_that_refuses_all_lenses_is_an_error_with_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["--lenses", "narrow", "--resolutions", "720", "--output", str(tmp_path / "report"), "--json"]
    with running(size=720, chart_m=0.4, faults={"lens_refused": 2}) as camera:
        assert fov.main([*argv, "--address", camera.address]) == 3
    assert "no setting could be filmed" in json.loads(capsys.readouterr().out)["error"]
    assert "<td>failed</td>" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_the_command_ranks_the_lenses_of_a_simulated_camera(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "measure", "--cameras", "1", "--keep", str(tmp_path / "output")]
    command += ["fov", "--lenses", "narrow,superview", "--resolutions", "720", "--json"]
    command += ["--output", str(tmp_path / "report")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    best, worst = result["settings"]
    assert (best["setting"], worst["setting"]) == ("narrow 720", "superview 720")
    assert best["px_per_degree"] == pytest.approx(focal_px(NARROW, 1280) * math.pi / 180, rel=0.006)
    assert worst["px_per_degree"] == pytest.approx(focal_px(SUPERVIEW, 1280) * math.pi / 180, rel=0.006)
    heading, *rows = (tmp_path / "report" / "fov.csv").read_text(encoding="utf-8").splitlines()
    assert heading.startswith("camera,setting,pictures,picture_rows,smallest_code_row")
    assert [row.split(",")[1] for row in rows] == ["narrow 720", "superview 720"]
    assert "narrow 720 reads best" in Path(result["report"]).read_text(encoding="utf-8")
