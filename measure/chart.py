"""The chart of falling sizes that the cameras film: rows of codes and of letters, drawn once into `web/chart.png`."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import segno

from rig.arrays import Luma

PICTURE = Path(__file__).resolve().parent.parent / "web" / "chart.png"
PX_PER_MM = 10
WIDTH_MM, HEIGHT_MM = 297, 210  # A4 across; on a screen all sizes shrink with its width
MODULES_MM = (1.6, 1.2, 0.8, 0.6, 0.4, 0.3, 0.2)  # of the codes, row by row
CODES_IN_ROW = 6
CODE_MODULES, QUIET_MODULES = 21, 4  # version 1, as the time code
LETTER_MODULES = 7  # a letter is as high as seven modules: the strokes of both are alike
LETTERS = "ACEFHJKLMNPRTUVWXY3479"  # none that is taken for another
GROUPS, GROUP_LETTERS = 4, 5
MARK = "99"  # begins no time
GAP_PX, MARGIN_PX = 26, 60
SEED = 7
WHITE, BLACK = 255, 0


@dataclass(frozen=True, slots=True)
class Code:
    """One code of the chart, by its row and column, and its centre from the chart's upper left corner."""

    row: int
    column: int
    x_mm: float
    y_mm: float

    @property
    def payload(self) -> str:
        """What it says: its place, filled up to the digits of a time code."""
        return f"{MARK}{self.row:02}{self.column:02}".ljust(17, "0")


@dataclass(frozen=True, slots=True)
class Letters:
    """One row of letters, from its upper edge on."""

    row: int
    y_mm: float
    height_mm: float
    text: str


def codes() -> tuple[Code, ...]:
    """All codes, the largest first."""
    return tuple(
        Code(row, column, _column_px(row, column) / PX_PER_MM, (top + _side_px(row) / 2) / PX_PER_MM)
        for row, top in enumerate(_tops_px())
        for column in range(CODES_IN_ROW)
    )


def letters() -> tuple[Letters, ...]:
    """All rows of letters, the highest first; what they say is always the same."""
    dice = np.random.default_rng(SEED)
    words = ["".join(dice.choice(list(LETTERS), GROUPS * GROUP_LETTERS)) for _ in MODULES_MM]
    return tuple(
        Letters(row, (top + _side_px(row)) / PX_PER_MM, LETTER_MODULES * MODULES_MM[row], _grouped(words[row]))
        for row, top in enumerate(_tops_px())
    )


def draw() -> Luma:
    """The chart as a picture of 10 pixels a millimetre."""
    paper = np.full((HEIGHT_MM * PX_PER_MM, WIDTH_MM * PX_PER_MM), WHITE, np.uint8)
    for code in codes():
        side = _side_px(code.row)
        left, top = round(code.x_mm * PX_PER_MM - side / 2), round(code.y_mm * PX_PER_MM - side / 2)
        paper[top : top + side, left : left + side] = (
            _modules(code.payload).repeat(_module_px(code.row), 0).repeat(_module_px(code.row), 1)
        )
    for line in letters():
        _write(paper, line)
    return paper


def read_place(payload: str) -> tuple[int, int] | None:
    """Row and column of a payload; None for what is not of this chart."""
    place = payload[len(MARK) : len(MARK) + 4]
    if not payload.startswith(MARK) or len(payload) != 17 or not place.isdigit():
        return None
    row, column = int(place[:2]), int(place[2:])
    return (row, column) if row < len(MODULES_MM) and column < CODES_IN_ROW else None


def _tops_px() -> list[int]:
    """Where each row of codes begins; its letters stand below it."""
    tops, y = [], MARGIN_PX // 2
    for row, _ in enumerate(MODULES_MM):
        tops.append(y)
        y += _side_px(row) + LETTER_MODULES * _module_px(row) + GAP_PX
    return tops


def _module_px(row: int) -> int:
    return round(MODULES_MM[row] * PX_PER_MM)


def _side_px(row: int) -> int:
    return (CODE_MODULES + 2 * QUIET_MODULES) * _module_px(row)


def _column_px(row: int, column: int) -> float:
    """The centres stand evenly from margin to margin."""
    first = MARGIN_PX + _side_px(row) / 2
    return first + column * (WIDTH_MM * PX_PER_MM - 2 * first) / (CODES_IN_ROW - 1)


def _modules(payload: str) -> Luma:
    code = segno.make(payload, version=1, error="h", mode="numeric", boost_error=False, micro=False)
    matrix = np.array([list(row) for row in code.matrix_iter(border=QUIET_MODULES)], np.uint8)
    return np.where(matrix > 0, BLACK, WHITE).astype(np.uint8)


def _grouped(word: str) -> str:
    return " ".join(word[at : at + GROUP_LETTERS] for at in range(0, len(word), GROUP_LETTERS))


def _write(paper: Luma, line: Letters) -> None:
    height_px = line.height_mm * PX_PER_MM
    thickness = max(1, round(height_px / LETTER_MODULES))
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = cv2.getFontScaleFromHeight(font, round(height_px - thickness), thickness)
    place = (MARGIN_PX, round(line.y_mm * PX_PER_MM + height_px))
    cv2.putText(paper, line.text, place, font, scale, (BLACK,), thickness, cv2.LINE_AA)


if __name__ == "__main__":
    cv2.imwrite(str(PICTURE), draw(), (cv2.IMWRITE_PNG_COMPRESSION, 9))
