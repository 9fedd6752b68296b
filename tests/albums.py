"""Photos as a camera of its own would leave them on its card: its clock is wrong, some show the time code."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from rig.clock import iso_utc
from simulator.hero.exif import APP1, ASCII, Entry, Shot, _directories, _segment, with_tags
from simulator.hero.telemetry import Maker
from simulator.phone import Phone, draw_modules
from simulator.world import Pose

WIDTH, HEIGHT = 640, 360
SCREEN_PX = 8  # of a module
LATENCY_MS = 35.0


def picture(seed: int, payload: str = "") -> bytes:
    """A JPEG of nothing, with a time code in it when there is a payload."""
    pixels = np.random.default_rng(seed).integers(90, 160, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    image = cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    if payload:
        modules = np.pad(draw_modules(payload), 4)
        code = np.kron(np.where(modules, 20, 235), np.ones((SCREEN_PX, SCREEN_PX))).astype(np.uint8)
        image[40 : 40 + len(code), 180 : 180 + len(code)] = code[..., None]
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())


def payload_at(utc_ns: int) -> str:
    """What a phone's screen shows in the middle of an exposure."""
    phone = Phone(
        refresh_hz=60.0, latency_ms=LATENCY_MS, shown=((utc_ns - 10**10, None),), skip_share=0.0, scan_out_ms=0
    )
    return phone.lit(utc_ns, utc_ns + 1)[0].payload


def album(
    folder: Path,
    instants_ns: Sequence[int],
    *,
    clock_ahead_ns: int = 0,
    rate_ppm: float = 0.0,
    coded: Sequence[int] = (),
    serial: str = "C3501324500702",
    place: Pose | None = None,
) -> list[Path]:
    """GoPro photos taken at these instants of UTC, by a clock that is ahead and runs fast; `coded` ones show a code.

    With a `place` they have the UTC of the camera's GPS, too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, utc_ns in enumerate(instants_ns):
        drift_ns = round((utc_ns - instants_ns[0]) * rate_ppm * 1e-6)
        shot = Shot(
            local_ns=utc_ns + clock_ahead_ns + drift_ns,
            utc_ns=utc_ns,
            place=place,
            path=f"100GOPRO/GOPR{number:04d}.JPG",
            width=WIDTH,
            height=HEIGHT,
        )
        jpeg = picture(number, payload_at(utc_ns) if number in coded else "")
        data, _ = with_tags(jpeg, shot, Maker("HERO12 Black", serial, "H23.01.02.32.00", "left"))
        paths.append(folder / f"GOPR{number:04d}.JPG")
        paths[-1].write_bytes(data)
    return paths


def phone_photo(path: Path, utc_ns: int, zone_h: int) -> Path:
    """A photo of a phone, which says in which zone its clock is."""
    local = iso_utc(utc_ns + zone_h * 3600 * 10**9)
    exposure: list[Entry] = [
        (0x9003, ASCII, f"{local[:10].replace('-', ':')} {local[11:19]}"),
        (0x9011, ASCII, f"{zone_h:+03d}:00"),
        (0x9291, ASCII, local[20:23]),
    ]
    jpeg = picture(utc_ns % 1000)
    path.parent.mkdir(parents=True, exist_ok=True)
    tiff = _directories([(0x0110, ASCII, "Phone")], exposure, [])
    path.write_bytes(jpeg[:2] + _segment(APP1, b"Exif\0\0" + tiff) + jpeg[2:])
    return path
