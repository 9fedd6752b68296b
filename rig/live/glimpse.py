"""Why no time code is read in a picture: what can be seen of a code that cannot be read."""

from typing import Any, cast

import cv2
import numpy as np
import zxingcpp

from rig.arrays import Float64, Luma
from rig.timing.qrtime import decode

# The page with the code knows these names and says them in its own words.
NONE_SEEN, TOO_SMALL, TOO_DARK, BLURRED, WRONG_SCREEN = "none_seen", "too_small", "too_dark", "blurred", "wrong_screen"
HINTS = {
    NONE_SEEN: "no code is seen: hold the screen in front of the lens, upright, 50 cm away",
    TOO_SMALL: "too small: hold the screen closer",
    TOO_DARK: "too dark: turn up the brightness of the screen",
    BLURRED: "blurred: hold the screen still, wipe the lens",
    WRONG_SCREEN: "wrong screen: a QR code is seen that is no time code",
}
MODULES = 21  # of our code's side
MIN_MODULE_PX = 3.0  # below this H.264 eats the modules
DARK_LUMA = 60  # the bright modules of a screen that is lit reach three times as much
NIGHT_LUMA = 24  # nothing is seen at all
MIN_ASPECT = 0.6  # windows and signs look like codes, too, but are seldom square


def why_unread(luma: Luma) -> str:
    """One of the names in HINTS for a picture (rows x columns, 8 bits) in which no time code was read."""
    found = zxingcpp.read_barcodes(luma, formats=zxingcpp.barcode_formats_from_str("QRCode"), return_errors=True)
    whole = [code for code in found if str(code.text)]
    if any(decode(code.text) is None for code in whole):
        return WRONG_SCREEN
    corners = _corners(found[0].position) if found else _detect(luma)
    if corners is None:
        return TOO_DARK if float(np.percentile(luma, 95)) < NIGHT_LUMA else NONE_SEEN
    side_px = float(np.ptp(corners, axis=0).max())
    if side_px < MODULES * MIN_MODULE_PX:
        return TOO_SMALL
    (left, top), (right, bottom) = np.maximum(corners.min(axis=0), 0).astype(int), corners.max(axis=0).astype(int) + 1
    bright = float(np.percentile(luma[top:bottom, left:right], 90))
    return TOO_DARK if bright < DARK_LUMA else BLURRED


def _corners(position: Any) -> Float64:
    points = (position.top_left, position.top_right, position.bottom_right, position.bottom_left)
    return np.array([(point.x, point.y) for point in points], dtype=np.float64)


def _detect(luma: Luma) -> Float64 | None:
    """A second opinion on whether there is a code at all: OpenCV finds some that are too blurred for zxing."""
    sharpened = cv2.addWeighted(luma, 3, cv2.GaussianBlur(luma, (0, 0), 3), -2, 0)
    for picture in (luma, sharpened):
        there, points = cv2.QRCodeDetector().detect(cast(Luma, picture))
        if there and points is not None:
            corners = np.asarray(points, dtype=np.float64).reshape(-1, 2)[:4]
            width, height = np.ptp(corners, axis=0)
            if min(width, height) > MODULES and MIN_ASPECT < width / height < 1 / MIN_ASPECT:
                return corners
    return None
