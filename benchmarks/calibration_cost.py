"""What exact time costs: CPU of dating a two hours' drive, beside that of making its photos, in the same run.

A file of two hours is made of a minute of street, encoded once and repeated, with the time code for four seconds at the
start, in the middle and at the end. Three cases: the recording knows when its page was open; a file from anywhere, of
which the ends are searched; a file without any code, all of which has to be searched: that has no limit, as hardly
anything else is done with such a file.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from configs import Settings
from rig.clock import NS_PER_S
from rig.errors import NoCalibrationError
from rig.footage import video
from rig.photo.making import Wish, parse_videos
from rig.photo.spacing import Every
from rig.recordings import CODES
from rig.timing import calibration
from rig.timing.calibration import Context
from simulator.film import Film
from simulator.phone import Phone
from simulator.world import Street, World

BEGIN_NS = 1_795_356_192_000_000_000
CLOCK_HZ, FPS, GROUP = 90_000, 25, 15
CODE_S, PIECE_S = 4, 60
MOST_SHARE = 0.05
Units = list[tuple[bytes, bool]]


def main() -> int:
    """Print the figures; fails when dating a drive that shows the code adds more than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=7200, help="length of the drive, whole minutes")
    parser.add_argument("--size", type=int, choices=(1080, 720, 360), default=1080, help="rows of a picture")
    parser.add_argument("--megabits", type=float, default=4.0)
    options = parser.parse_args()
    python = sys.version.split()[0]
    print(f"machine: {platform.machine()}, {os.cpu_count()} CPUs, Linux {platform.release()}, Python {python}")
    command = f"--seconds {options.seconds} --size {options.size} --megabits {options.megabits:g}"
    print(f"command: python -m benchmarks.calibration_cost {command}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        return _measure(Path(name), options)


def _measure(folder: Path, options: argparse.Namespace) -> int:
    phone = Phone(phase_ns=BEGIN_NS, shown=((BEGIN_NS, None),))
    starts = (0, options.seconds // 2 // PIECE_S * PIECE_S, options.seconds - PIECE_S)
    recording, plain = folder / "recording", folder / "plain.mp4"
    coded = recording / "videos" / "left" / "GX010001.MP4"
    coded.parent.mkdir(parents=True)
    scene = _Scene(options.size, options.megabits)
    scene.write(coded, options.seconds, starts, phone)
    print(f"{coded.stat().st_size / 1e9:.1f} GB, {options.seconds * FPS} pictures", flush=True)
    _write_log(recording, phone, starts)
    settings, context = Settings(output=folder), Context.of(recording)
    (item,) = video.find_videos([coded], "left")
    cases = [("with the page's log", context), ("a file from anywhere", Context())]
    costs = [_cost(name, item, context, settings) for name, context in cases]
    known = folder / "known.json"
    clock = calibration.camera_clock(item, context, settings)
    known.write_text(json.dumps(calibration.table([(item, clock)], ())))
    wish = Wish(every=Every(0.5), sharpest_of=3, min_sharpness=0.0, quality=92, calibration=known)
    begin = time.process_time()
    photos = parse_videos([recording], folder / "photos", settings, wish).photos
    photos_s = time.process_time() - begin
    print(f"{photos} photos, their time known: {photos_s:.0f} s of CPU", flush=True)
    coded.unlink()
    scene.write(plain, options.seconds, (), phone)
    (item,) = video.find_videos([plain])
    name, search_s = _cost("a file without any code", item, Context(), settings)
    for known_name, cost_s in costs:
        verdict = "pass" if cost_s <= MOST_SHARE * photos_s else "FAIL"
        print(f"{known_name:24} adds {cost_s / photos_s:6.1%} <= {MOST_SHARE:.0%}  {verdict}")
    print(f"{name:24} adds {search_s / photos_s:6.1%}")
    return int(max(cost_s for _, cost_s in costs) > MOST_SHARE * photos_s)


def _cost(name: str, item: video.Video, context: Context, settings: Settings) -> tuple[str, float]:
    """CPU of finding a video's clock, and what was found, in words."""
    begin = time.process_time()
    try:
        clock = calibration.camera_clock(item, context, settings)
        ends = np.array([item.first_ns, (item.first_ns + item.last_ns) // 2, item.last_ns], dtype=np.int64)
        bars = ", ".join(f"{bar / 1e6:.1f}" for bar in clock.error_ns(ends, constants=False))
        found = f"{len(clock.anchors)} films of the code, {bars} ms at start, middle and end without constants"
    except NoCalibrationError as error:
        found = str(error)
    cost_s = time.process_time() - begin
    print(f"{name}: {cost_s:.1f} s of CPU ({found})", flush=True)
    return name, cost_s


class _Scene:
    """Pieces of a minute, each encoded once."""

    def __init__(self, rows: int, megabits: float) -> None:
        self._film = Film(World(BEGIN_NS, 0), Street(1, BEGIN_NS), "left", rows * 16 // 9, rows)
        self._megabits = megabits
        self._street: Units = []

    def write(self, path: Path, seconds: int, starts: Sequence[int], phone: Phone) -> None:
        """A file in which the code is shown in the first seconds of the minutes that begin at `starts`."""
        self._street = self._street or self._encoded(0, None)
        with av.open(str(path), "w") as container:
            stream = self._stream(container)
            for start in range(0, seconds, PIECE_S):
                units = self._encoded(start, phone) if start in starts else self._street
                for number, (data, is_key) in enumerate(units):
                    packet = av.Packet(data)
                    packet.stream, packet.time_base = stream, Fraction(1, CLOCK_HZ)
                    packet.pts = packet.dts = (start * FPS + number) * CLOCK_HZ // FPS
                    packet.duration, packet.is_keyframe = CLOCK_HZ // FPS, is_key
                    container.mux(packet)

    def _encoded(self, start: int, phone: Phone | None) -> Units:
        with av.open(os.devnull, "w", format="mp4") as container:
            stream = self._stream(container)
            units: Units = []
            for number in range(PIECE_S * FPS):
                since = start * FPS + number
                shown = phone if number < CODE_S * FPS else None
                picture = self._film.picture(BEGIN_NS + since * NS_PER_S // FPS, since, shown)
                picture.pts, picture.time_base = number * CLOCK_HZ // FPS, Fraction(1, CLOCK_HZ)
                units += [(bytes(packet), packet.is_keyframe) for packet in stream.encode(picture)]
            return units + [(bytes(packet), packet.is_keyframe) for packet in stream.encode(None)]

    def _stream(self, container: av.container.OutputContainer) -> av.VideoStream:
        stream = container.add_stream("libx264", rate=FPS)
        stream.options = {"preset": "ultrafast", "g": str(GROUP), "bf": "0", "x264-params": "repeat-headers=1"}
        stream.width, stream.height, stream.pix_fmt = self._film.width, self._film.height, "yuv420p"
        stream.bit_rate = round(self._megabits * 1e6)
        stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        stream.codec_context.open()
        return stream


def _write_log(recording: Path, phone: Phone, starts: Sequence[int]) -> None:
    """What the page says that it drew, as the server keeps it."""
    (recording / CODES).mkdir()
    with (recording / CODES / "a1.jsonl").open("w") as file:
        for start in starts:
            begin = BEGIN_NS + start * NS_PER_S
            drawn = phone.drawn(begin - NS_PER_S, begin + (CODE_S + 1) * NS_PER_S)
            draws = [[int(code.payload[14]), int(code.payload[:14])] for code in drawn]
            file.write(json.dumps({"page": "a1", "offset_bound_ms": 0.4, "draws": draws}) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
