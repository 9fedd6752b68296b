"""A virtual GoPro on the network: HTTP, live streams by UDP, recordings on its card; it knows the truth of each frame.

It is written from GoPro's OpenAPI document and from what users logged, not from edenCar's client.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from simulator import camera_control, camera_faults
from simulator.camera_faults import Faults
from simulator.ending import Ending
from simulator.hero import api, models
from simulator.hero.device import Absence, Device
from simulator.hero.encoder import H264, HEVC
from simulator.hero.httpd import Answer, Request, Server
from simulator.hero.mdns import Announcement
from simulator.hero.rtc import Rtc
from simulator.hero.sensor import Sensor, Size, Truth
from simulator.hero.stream import Counts, Latency
from simulator.hero.webcam import Outlet
from simulator.lamp import Lamp
from simulator.led import Led
from simulator.phone import Phone
from simulator.world import Crystal, Street, World

DEFAULT_UDP_PORT = 8554
DEFAULT_LATENCY_MS = 230.0  # GoPro: at least 210
DEFAULT_SERIAL = "C3501324500711"
DEFAULT_MODEL = "HERO12 Black"
TYPICAL_RATE_PPM, TYPICAL_OFFSET_S = 20.0, 3.0  # of crystals and of clocks that somebody has set
WATCH_S = 0.2


class Camera:
    """A camera that is plugged in between `start` and `stop`; a context manager does both.

    `crystal` stamps the frames, None is a typical one; `size` is the height of the largest picture it can draw.
    `truth` is a folder that gets `frames-<serial>.csv`. `phone`, `led`, `lamp`, `faults` may be changed while it runs.
    Raises ValueError for an unknown model, FaultError for an unknown fault, OSError when the port is taken.
    """

    def __init__(
        self,
        *,
        world: World,
        street: Street,
        host: str = "127.0.0.1",
        http_port: int = 0,
        udp_port: int = DEFAULT_UDP_PORT,
        serial: str = DEFAULT_SERIAL,
        model: str = DEFAULT_MODEL,
        firmware: str | None = None,
        side: str = "left",
        crystal: Crystal | None = None,
        latency_ms: float = DEFAULT_LATENCY_MS,
        latency_growth_ms_per_h: float = 0.0,
        chart_m: float | None = None,
        size: int = 1080,
        anti_flicker_hz: int = 60,
        clock_offset_s: float | None = None,
        chapter_bytes: int | None = None,
        hevc: bool = False,
        mdns: bool = False,
        seed: int = 1,
        phone: Phone | None = None,
        truth: Path | None = None,
        faults: Mapping[str, float] | None = None,
    ) -> None:
        dice = random.Random(f"{seed} {serial}")
        now_ns = world.utc_ns()
        self.serial, self.model = serial, model
        self.faults = Faults(faults or {})
        self.counts = Counts()
        kind = models.load(model, firmware)
        self._truth = Truth(truth, serial)
        crystal = crystal or Crystal(dice.gauss(0, TYPICAL_RATE_PPM), 0.0, now_ns)
        self._sensor = Sensor(world, street, side, crystal, seed, self._truth)
        self._sensor.phone, self._sensor.chart_m = phone, chart_m
        self._size = Size.of_height(size)
        offset_s = dice.gauss(0, TYPICAL_OFFSET_S) if clock_offset_s is None else clock_offset_s
        rtc = Rtc(offset_s, dice.gauss(0, TYPICAL_RATE_PPM), now_ns, self.faults)
        latency = Latency(latency_ms, latency_growth_ms_per_h, now_ns)
        outlet = Outlet(self._sensor, self.faults, dice, self.counts, self._size, udp_port, latency)
        self._device = Device(kind, serial, rtc, outlet, HEVC if hevc else H264, chapter_bytes)
        if anti_flicker_hz == 50:
            self._device.settings.choose_50_hz()
        self._host, self._mdns = host, mdns
        self._announcement: Announcement | None = None
        self._server = Server(host, http_port, self._handle)
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="camera power", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Draw the street, then answer."""
        self._sensor.load(self._size)
        self._serve()
        self._watcher.start()

    def stop(self) -> None:
        """Pull the plug: no thread, socket or file is left."""
        self._stopping.set()
        if self._watcher.is_alive():
            self._watcher.join()
        self._leave_network()
        self._device.close()
        self._truth.close()

    @property
    def address(self) -> str:
        """HOST:PORT of its HTTP interface."""
        return f"{self._host}:{self._server.port}"

    @property
    def phone(self) -> Phone | None:
        """The phone that is held before the lens."""
        return self._sensor.phone

    @phone.setter
    def phone(self, phone: Phone | None) -> None:
        self._sensor.phone = phone

    @property
    def led(self) -> Led | None:
        """The LED that lies beside the phone."""
        return self._sensor.led

    @led.setter
    def led(self, led: Led | None) -> None:
        self._sensor.led = led

    @property
    def lamp(self) -> Lamp | None:
        """The lamp over all that it sees."""
        return self._sensor.lamp

    @lamp.setter
    def lamp(self, lamp: Lamp | None) -> None:
        self._sensor.lamp = lamp

    def press_shutter(self) -> None:
        """Somebody presses the button on the camera: it begins to record, or ends it."""
        with self._device.lock:
            if self._device.is_encoding:
                self._device.release_shutter()
            else:
                self._device.press_shutter()

    def cycle_power(self, off_s: float) -> None:
        """Somebody takes battery and cable out, and puts them in after so long; that also wakes a sleeping camera."""
        self._device.absence = Absence(off_s)

    def unplug(self, for_s: float) -> None:
        """Somebody pulls the cable out and puts it in again after so long; the battery keeps the camera going."""
        self._device.absence = Absence(for_s, is_off=False)

    def _handle(self, request: Request) -> Answer:
        return api.handle(self._device, request)

    def _watch(self) -> None:
        while not self._stopping.wait(WATCH_S):
            absence = self._device.tick()
            if absence is not None:
                self._stopping.wait(WATCH_S)  # the command is answered first
                self._be_absent(absence)

    def _serve(self) -> None:
        self._server.start()
        if self._mdns:
            self._announcement = Announcement(self.serial, self._host, self._server.port)

    def _leave_network(self) -> None:
        announcement, self._announcement = self._announcement, None
        if announcement is not None:
            announcement.close()
        self._server.close()

    def _be_absent(self, absence: Absence) -> None:
        self._leave_network()
        (self._device.power_off if absence.is_off else self._device.lose_network)()
        if absence.seconds is not None and not self._stopping.wait(absence.seconds):
            self._device.power_on()
            self._server = Server(self._host, self._server.port, self._handle)
            self._serve()


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; one JSON line on stdout says that the camera answers."""
    options = vars(_parser().parse_args(argv))
    control_port = options.pop("control_port")
    ending = Ending()  # before the card's folder is made, which is removed in the end
    try:
        camera = _build(**options)
        control = camera_control.serve(camera, options["host"], control_port)
    except (ValueError, OSError) as error:
        print(f"camera: {error}", file=sys.stderr)
        return 2
    with camera, closing(control):
        control.start()
        ready = {"serial": camera.serial, "model": camera.model, "address": camera.address}
        print(json.dumps(ready | {"control": f"http://{options['host']}:{control.port}"}), flush=True)
        ending.wait()
    return 0


def _build(rate_ppm: float | None, faults: Sequence[str], seed: int, **options: Any) -> Camera:
    now_ns = time.time_ns()
    return Camera(
        world=World(epoch_utc_ns=now_ns, epoch_monotonic_ns=time.monotonic_ns()),
        street=Street(seed=seed, start_utc_ns=now_ns),
        crystal=None if rate_ppm is None else Crystal(rate_ppm, 0.0, now_ns),
        faults=dict(map(camera_faults.parse, faults)),
        seed=seed,
        **options,
    )


def _parser() -> argparse.ArgumentParser:
    faults = "\n".join(f"  {name:24}{text} ({usual:g})" for name, (usual, text) in camera_faults.FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="python -m simulator camera",
        description="A virtual GoPro; it says {serial, model, address, control} in one line of JSON when it answers.",
        epilog=f"faults, with the value each has when none is given:\n{faults}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address it listens on")
    add("--http-port", type=int, default=0, help="0 takes a free one (default)")
    add(
        "--control-port",
        type=int,
        default=0,
        help="of docs/simulator.md; 0 takes a free one",
    )
    add("--udp-port", type=int, default=DEFAULT_UDP_PORT, help="where streams go when the request names no port")
    add("--serial", default=DEFAULT_SERIAL, help="default %(default)s")
    add("--model", default=DEFAULT_MODEL, help=f"one of {', '.join(models.names())}")
    add("--firmware", metavar="NN.NN.NN", help="default by model")
    add("--side", choices=("left", "right"), default="left", help="side of the car it looks at")
    add("--size", type=int, choices=(1080, 720, 360, 180), default=1080, help="height of the largest picture")
    add(
        "--anti-flicker",
        dest="anti_flicker_hz",
        type=int,
        choices=(60, 50),
        default=60,
        help="50 Hz: 25 frames a second",
    )
    add("--latency-ms", type=float, default=DEFAULT_LATENCY_MS, help="from a frame to its datagrams")
    add("--rate-ppm", type=float, help="how much too fast the camera's crystal is; default by --seed")
    add(
        "--clock-offset",
        dest="clock_offset_s",
        type=float,
        metavar="S",
        help="how wrong its date is; default by --seed",
    )
    add("--chapter-bytes", type=int, help="a video goes on in the next file once one has so many; default by model")
    add(
        "--hevc",
        action="store_true",
        help="record in HEVC, as newer models do: 5 times the work",
    )
    add("--mdns", action="store_true", help="announce it as _gopro-web._tcp, which not all firmware does")
    add("--seed", type=int, default=1, help="of all that is random")
    add("--truth", type=Path, metavar="DIR", help="folder for frames-<serial>.csv")
    add("--fault", dest="faults", action="append", default=[], metavar="NAME[=VALUE]", help="may be repeated")
    return parser
