"""Which lens and resolution reads characters best: the chart filmed at each, the smallest row read, pixels a degree."""

import argparse
import math
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import zxingcpp

from configs import CHOICES, Settings
from configs import load as load_settings
from measure import chart
from measure.report import Said, Table, Verdict, in_words, write_csv, write_report
from measure.session import USUAL_OUTPUT, chosen, find_cameras, output_folder, tell
from measure.stalls import open_camera
from measure.words import phrase
from rig import cli
from rig.arrays import Float64, Luma
from rig.camera.finding import FoundCamera
from rig.errors import EdencarError, UnreadableError, UsageError
from rig.footage.pixels import luma, pictures
from rig.footage.video import Video, videos_of

QR = zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode)
CORNERS = ("top_left", "top_right", "bottom_right", "bottom_left")
LENSES = CHOICES["webcam_lens"]
RESOLUTIONS = ("1080", "720")
FILM_S = 4.0
SETTLE_S = 1.0  # exposure and focus of the first pictures are not yet right
PICTURES = 15  # of a film that are read, evenly spaced, key frames first
FILM_SHARE = 0.5  # of the pictures in which half of a row's codes must be read
MIDDLE_MM = np.array([[chart.WIDTH_MM / 2, chart.HEIGHT_MM / 2]])
MIN_CODES = 4  # for a scale
ENOUGH_CODES = 10  # to tell how a lens bends, too
STRENGTHS = np.array([0.0, *np.linspace(-0.1, 0.7, 81)])  # of that: share of its way that a point at the edge goes out
STREET_M, STREET_MPS = 5.0, 50 / 3.6  # the facade beside a car in town
OCR = "tesseract"
OCR_S = 30.0


@dataclass(frozen=True, slots=True)
class Sharpness:
    """What one setting of one camera showed of the chart."""

    camera: str
    setting: str
    pictures: int
    picture_rows: int  # as they came
    smallest_code_row: int | None  # of measure.chart; None: not even the largest
    smallest_module_mm: float | None
    smallest_letter_mm: float | None  # None without Tesseract, or nothing read
    px_per_mm: float
    px_per_degree: float | None  # in the middle of the chart; None without a distance
    bend_px: float  # how far codes lie off a flat chart's places: distortion over what the chart fills
    chart_share: float  # of the picture's width that the chart fills
    blur_px_per_ms: float | None  # at 50 km/h, 5 m from the facade, for each ms of exposure

    @property
    def rank(self) -> tuple[float, float]:
        """Better settings first."""
        module = math.inf if self.smallest_module_mm is None else self.smallest_module_mm
        return module, -self.px_per_mm


@dataclass(frozen=True, slots=True)
class Seen:
    """The chart in one picture: the codes that were read, by row and column, with their centres in pixels."""

    width: int
    height: int
    centres: dict[tuple[int, int], tuple[float, float]]

    def rows(self) -> set[int]:
        """The rows of which at least half of the codes were read."""
        counts = [sum(row == at for row, _ in self.centres) for at in range(len(chart.MODULES_MM))]
        return {row for row, count in enumerate(counts) if 2 * count >= chart.CODES_IN_ROW}


def look(picture: Luma) -> Seen:
    """The codes of the chart in a picture."""
    centres = {}
    for found in zxingcpp.read_barcodes(picture, formats=QR):
        place = chart.read_place(found.text)
        if place is not None:
            corners = [getattr(found.position, name) for name in CORNERS]
            centres[place] = (sum(corner.x for corner in corners) / 4, sum(corner.y for corner in corners) / 4)
    return Seen(picture.shape[1], picture.shape[0], centres)


def judge(camera: str, setting: str, films: Sequence[Luma], distance_m: float | None) -> Sharpness:
    """From pictures of the chart with one setting. Raises UnreadableError when it is in none of them."""
    seen = [view for view in map(look, films) if len(view.centres) >= MIN_CODES]
    fits = [fit for fit in map(_fit, seen) if fit]
    if not fits:
        raise UnreadableError("the chart is in no picture", cure="show /chart on a screen or on paper, well lit")
    read = [
        row
        for row in range(len(chart.MODULES_MM))
        if sum(row in view.rows() for view in seen) >= FILM_SHARE * len(films)
    ]
    smallest = max(read, default=None)
    px_per_mm, bend_px = (median(values) for values in zip(*fits, strict=True))
    px_per_radian = None if distance_m is None else px_per_mm * 1000 * distance_m
    text_row = _smallest_text(films)
    return Sharpness(
        camera=camera,
        setting=setting,
        pictures=len(films),
        picture_rows=seen[0].height,
        smallest_code_row=smallest,
        smallest_module_mm=None if smallest is None else chart.MODULES_MM[smallest],
        smallest_letter_mm=None if text_row is None else chart.letters()[text_row].height_mm,
        px_per_mm=round(px_per_mm, 3),
        px_per_degree=None if px_per_radian is None else round(px_per_radian * math.pi / 180, 2),
        bend_px=round(bend_px, 2),
        chart_share=round(px_per_mm * chart.WIDTH_MM / seen[0].width, 3),
        blur_px_per_ms=None if px_per_radian is None else round(px_per_radian * STREET_MPS / STREET_M / 1000, 2),
    )


def _fit(view: Seen) -> tuple[float, float] | None:
    """Pixels a millimetre in the middle and the bend in pixels; None without two codes in each of two rows.

    The chart is flat: a homography takes it to the picture, and what that leaves is the lens's.
    """
    place = {(code.row, code.column): (code.x_mm, code.y_mm) for code in chart.codes()}
    paper, picture = np.array([place[key] for key in view.centres]), np.array([*view.centres.values()])
    if sum(count > 1 for count in Counter(row for row, _ in view.centres).values()) < 2:
        return None
    middle_px = np.array([view.width - 1, view.height - 1]) / 2
    away = (picture - middle_px) / (view.width / 2)
    # A fish-eye presses together what is further out: the scale of its middle is that of the picture made straight.
    strengths = STRENGTHS if len(picture) >= ENOUGH_CODES else STRENGTHS[:1]
    straight = (picture + (picture - middle_px) * (k * (away * away).sum(1))[:, None] for k in strengths)
    fits = [_flat(paper, places) for places in straight]
    return min(fits, key=lambda fit: fit[1])[0], fits[0][2]


def _flat(paper: Float64, picture: Float64) -> tuple[float, float, float]:
    """Of a flat chart in a picture: pixels a millimetre in its middle, how far its codes lie off: all, and most."""
    matrix = np.asarray(cv2.findHomography(paper, picture, 0)[0], dtype=np.float64)
    slopes = [(_project(matrix, MIDDLE_MM + step) - _project(matrix, MIDDLE_MM))[0] for step in np.eye(2)]
    away = np.hypot(*(_project(matrix, paper) - picture).T)
    return abs(float(np.linalg.det(np.array(slopes)))) ** 0.5, float((away * away).sum()), float(away.max())


def _project(matrix: Float64, places: Float64) -> Float64:
    lifted = np.column_stack([places, np.ones(len(places))]) @ matrix.T
    return np.asarray(lifted[:, :2] / lifted[:, 2:])


def _smallest_text(films: Sequence[Luma]) -> int | None:
    """The last row of letters that Tesseract reads without a fault in one of the pictures; None where it is absent."""
    program = shutil.which(OCR)
    if program is None:
        return None
    said = {word for picture in films[:3] for word in _read_text(program, picture).split()}
    rows = [line.row for line in chart.letters() if all(word in said for word in line.text.split())]
    return max(rows, default=None)


def _read_text(program: str, picture: Luma) -> str:
    image = cv2.imencode(".png", picture)[1].tobytes()
    command = [program, "stdin", "stdout", "--psm", "11"]
    try:
        return subprocess.run(command, input=image, capture_output=True, timeout=OCR_S, check=False).stdout.decode()
    except subprocess.TimeoutExpired:
        return ""


# --- filming ----------------------------------------------------------------------------------------------------------


def film(camera: FoundCamera, lens: str, resolution: str, folder: Path, settings: Settings) -> Video:
    """Some seconds of one camera's stream with one setting, in a folder of its own. Raises DeviceError."""
    place = folder / f"{camera.serial}-{lens}-{resolution}"
    place.mkdir(parents=True)
    with open_camera(camera.address, place, replace(settings, webcam_lens=lens, webcam_resolution=resolution)):
        time.sleep(SETTLE_S + FILM_S)
    return videos_of(place)[-1]


def read_film(item: Video) -> list[Luma]:
    """Pictures of a film, evenly spaced."""
    found: list[Luma] = []
    for clip in item.clips:
        wanted = np.linspace(0, len(clip.pts) - 1, min(PICTURES, len(clip.pts))).astype(int)
        found += [luma(picture) for _, picture in pictures(clip, wanted.tolist())]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """`./edencar measure fov`."""
    parser = argparse.ArgumentParser(
        prog="edencar measure fov",
        description="Film the page /chart at each lens and resolution and tell which reads the smallest characters.",
    )
    add = parser.add_argument
    add("--distance-m", type=float, help="from the lens to the chart: then pixels a degree are told, too")
    add("--lenses", default=",".join(LENSES), help="of these, separated by commas (%(default)s)")
    add("--resolutions", default=",".join(RESOLUTIONS), help="of these, separated by commas (%(default)s)")
    add("--address", action="append", help="HOST[:PORT] of a camera; may be given again (default: all that are found)")
    add("--output", type=Path, help=f"folder of the report (default: {USUAL_OUTPUT}/fov-TIME)")
    return cli.run(parser, _run, in_words, argv)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    lenses = chosen(options.lenses, LENSES, "lens")
    resolutions = chosen(options.resolutions, RESOLUTIONS, "resolution")
    if options.distance_m is not None and not 0.05 <= options.distance_m <= 100:
        raise UsageError(f"--distance-m {options.distance_m:g} is no distance", cure="give metres, for instance 0.5")
    settings = load_settings()
    cameras = find_cameras(options.address, settings)
    output = output_folder(options, "fov")
    tell("show the page /chart to each camera, or its print, and leave it there; the server must not use the cameras")
    found: list[Sharpness] = []
    failures: list[dict[str, str]] = []
    for camera, resolution, lens in product(cameras, resolutions, lenses):
        tell(f"filming with {camera.serial}: {lens}, {resolution}")
        setting = f"{lens} {resolution}"
        try:
            shown = read_film(film(camera, lens, resolution, output, settings))
            found.append(judge(camera.serial, setting, shown, options.distance_m))
        except EdencarError as error:  # a lens that this camera lacks, say: the others are to be had
            failures.append({"camera": camera.serial, "setting": setting, "reason": str(error)})
    output.mkdir(parents=True, exist_ok=True)
    failed = (Verdict(phrase("{camera}, {setting}: {reason}", **item), good=False) for item in failures)
    verdicts = [*_recommend(found), *failed]
    about = phrase(
        "{films} films; a row counts when half of its codes are read in half of the pictures", films=len(found)
    )
    ranked = sorted(found, key=lambda item: (item.camera, item.rank))
    write_csv(output / "fov.csv", [one.name for one in fields(Sharpness)], map(astuple, ranked))
    dashes = ["–"] * (len(COLUMNS) - 3)
    failed_rows = ((item["camera"], item["setting"], "failed", *dashes) for item in failures)
    table = Table(tuple(COLUMNS), (*Table.of(ranked, COLUMNS).rows, *failed_rows))
    told = write_report(output, "Which field of view reads characters best", about, verdicts, [table])
    if not found:
        raise UnreadableError(f"no setting could be filmed: {failures[0]['reason']}", cure=f"see {told['report']}")
    return told | {"settings": [asdict(item) for item in ranked], "failures": failures}


def _recommend(found: Sequence[Sharpness]) -> Iterator[Verdict]:
    for camera in dict.fromkeys(item.camera for item in found):
        best = min((item for item in found if item.camera == camera), key=lambda item: item.rank)
        if best.smallest_module_mm is None:
            yield Verdict(phrase("{camera}: no setting read any row; move the chart nearer", camera=camera), good=False)
        else:
            yield Verdict(
                phrase(
                    "{camera}: {setting} reads best: modules of {module:g} mm, letters of about {letter:.1f} mm at "
                    "this distance; wider lenses see more",
                    camera=camera,
                    setting=best.setting,
                    module=best.smallest_module_mm,
                    letter=chart.LETTER_MODULES * best.smallest_module_mm,
                ),
                good=True,
            )


def _or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"


COLUMNS: Mapping[str, Callable[[Sharpness], Said]] = {
    "camera": lambda item: item.camera,
    "setting": lambda item: item.setting,
    "rows of a picture": lambda item: str(item.picture_rows),
    "smallest code mm": lambda item: _or_dash(item.smallest_module_mm),
    "letters mm": lambda item: _or_dash(item.smallest_letter_mm),
    "px/mm": lambda item: f"{item.px_per_mm:g}",
    "px/degree": lambda item: _or_dash(item.px_per_degree),
    "bend px": lambda item: f"{item.bend_px:g}",
    "blur px/ms": lambda item: _or_dash(item.blur_px_per_ms),
}
