"""How a picture looks: how sharp it is, how light, what is wrong with it; and the picture as JPEG."""

from dataclasses import dataclass

import cv2
import numpy as np

from rig.arrays import Luma, Numbers, Uint8

DARK, BRIGHT = 20.0, 235.0  # mean luminance of a covered and of a blinded lens
GLARE, GLARING = 250.0, 0.5  # luminance without drawing, and the share of the picture that may have it
BLURRED = 0.42


@dataclass(frozen=True, slots=True)
class Look:
    """How a picture looks: sharpness, mean luminance (0 to 255), and the words for what is wrong with it."""

    sharpness: float
    luminance: float
    doubts: tuple[str, ...]


def sharpness(luma: Luma) -> float:
    """Variance of the Laplacian at half size, where noise counts less; compares pictures of one scene and camera."""
    return _sharpness(_half(luma))


def judge(luma: Luma, full_range: bool = True) -> Look:
    """Judge a picture by its luma plane; without `full_range` black is 16 and white 235 there."""
    half = _half(luma)
    scale, black = (1.0, 0.0) if full_range else (255 / 219, 16.0)
    luminance = (float(cv2.mean(half)[0]) - black) * scale
    glaring = cv2.countNonZero((half >= black + GLARE / scale).astype(np.uint8)) / half.size
    doubts = {
        "blurred": _fineness(half) < BLURRED,
        "dark": luminance < DARK,
        "bright": luminance > BRIGHT or glaring > GLARING,
    }
    words = tuple(word for word, applies in doubts.items() if applies)
    return Look(_sharpness(half) * scale**2, min(255.0, max(0.0, luminance)), words)


def _sharpness(half: Luma) -> float:
    return _deviation(cv2.Laplacian(half, cv2.CV_16S)) ** 2


def _fineness(half: Luma) -> float:
    """How strong differences between neighbours are beside those at twice the distance, in the worse direction.

    It hardly depends on the scene and on noise: 0.55 to 0.85 for sharp pictures, below 0.4 where 8 pixels of motion or
    a Gaussian of 2 pixels blur it (measured on a GoPro's and on simulated films of 480 to 2160 rows).
    """
    fine, coarse = half, _half(half)
    shares = []
    for x, y in ((1, 0), (0, 1)):
        strong = _deviation(cv2.Sobel(coarse, cv2.CV_16S, x, y, ksize=1))
        shares.append((_deviation(cv2.Sobel(fine, cv2.CV_16S, x, y, ksize=1)) / strong) ** 2 if strong else 1.0)
    return min(shares)


def _half(luma: Luma) -> Luma:
    return np.asarray(cv2.resize(luma, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _deviation(values: Numbers) -> float:  # no type of cv2: while another thread imports it, it has none yet
    _, deviation = cv2.meanStdDev(values)
    return float(deviation[0, 0])


def shrunk_jpeg(bgr: Uint8, width: int, quality: int) -> bytes:
    """A picture (rows x columns x 3) as JPEG, at most so many columns wide."""
    if bgr.shape[1] > width:
        height = max(1, round(bgr.shape[0] * width / bgr.shape[1]))
        bgr = np.asarray(cv2.resize(bgr, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return encode_jpeg(bgr, quality)


def encode_jpeg(bgr: Uint8, quality: int) -> bytes:
    """A picture (rows x columns x 3) as JPEG."""
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {bgr.shape}")
    return data.tobytes()
