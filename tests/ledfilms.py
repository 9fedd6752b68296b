"""Films of an LED beside a time code: what a camera would have seen of them, and drawn and encoded ones."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from configs import Settings
from rig.clock import NS_PER_MS, NS_PER_S
from rig.timing import led, ledfilm, vernier
from rig.timing.codefilm import CodeFilm
from rig.timing.interval import Observation
from rig.timing.led import LatencyResult, LedLog
from rig.timing.qrtime import decode
from rig.timing.vernier import Sighting
from simulator.film import Film
from simulator.led import Led
from simulator.phone import MASK, MODULES, Phone
from simulator.screen import BEZEL, FULL_ROWS, PAGE_HEIGHT, PHONE_TOP
from simulator.world import Street, World

BEGIN_NS = 1_795_356_192_000_000_000
NTSC = Fraction(30000, 1001)
CLOCK_HZ = 90_000
CODE_HEIGHT = 280 / FULL_ROWS
CODE_DOWN = (PHONE_TOP + BEZEL + PAGE_HEIGHT / 2) / FULL_ROWS  # of the code's centre in rendered pictures
CENTRE = 0.5  # where the code's centre is on the page

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One film: camera, screen and LED."""

    fps: Fraction = Fraction(25)
    refresh_hz: float = 60.02
    latency_ms: float = 38.0
    phase_ns: int = 0
    seconds: float = 10.0
    seed: int = 1
    exposure_ms: float = 8.0
    read_out_ms: float = 15.0
    rate_ppm: float = 0.0
    led_down: float = 0.46
    led_gain: float = 0.8  # linear light; above 1 the sensor is saturated
    tone: float = 1.0  # power by which the sensor's light differs from what it is taken for
    noise: float = 0.01

    @property
    def phone(self) -> Phone:
        """The screen of the scene."""
        return Phone(
            refresh_hz=self.refresh_hz,
            phase_ns=BEGIN_NS + self.phase_ns,
            latency_ms=self.latency_ms,
            shown=((BEGIN_NS, None),),
        )

    @property
    def truth_ms(self) -> float:
        """The latency in the row of the code's centre."""
        return self.latency_ms + CENTRE * self.phone.scan_out_ms

    @property
    def log(self) -> LedLog:
        """When the LED was switched."""
        begin = BEGIN_NS + NS_PER_S
        plan = led.pattern(self.seed, self.seconds)
        return LedLog(self.seed, tuple((begin + at, number % 2 == 0) for number, at in enumerate(plan)), 50_000)

    @property
    def pts_ns(self) -> npt.NDArray[np.int64]:
        """PTS of the pictures: from a second before the LED until half a second after."""
        count = round(float((self.seconds + 1.5) * self.fps))
        return np.array([round(round(n * CLOCK_HZ / self.fps) * NS_PER_S / CLOCK_HZ) for n in range(count)], np.int64)


def any_scene(rng: np.random.Generator, fps: Fraction, refresh_hz: float) -> Scene:
    """A scene with what nobody knows drawn by lot."""
    return Scene(
        fps=fps,
        refresh_hz=refresh_hz * (1 + rng.uniform(-1e-3, 1e-3)),
        latency_ms=rng.uniform(20, 60),
        phase_ns=int(rng.uniform(0, 50 * NS_PER_MS)),
        seed=int(rng.integers(1 << 32)),
        exposure_ms=rng.uniform(4, 12),
        read_out_ms=rng.uniform(12, 18),
        rate_ppm=rng.uniform(-50, 50),
        led_down=CODE_DOWN + rng.uniform(-0.08, 0.08),
        led_gain=rng.choice([0.1, 0.5, 0.8, 3.0]),
        tone=rng.uniform(0.7, 1.4),
    )


def simulate(scene: Scene, rng: np.random.Generator) -> LatencyResult:
    """The latency that is found in a film of a scene, without drawing it. Raises NoCalibrationError."""
    pts_ns = scene.pts_ns
    true_ns = BEGIN_NS + np.rint(pts_ns * (1 + scene.rate_ppm * 1e-6)).astype(np.int64)
    light = _led_light(scene, true_ns, rng)
    base = int(true_ns[0] - pts_ns[0])
    near = base + int(rng.uniform(-6, 6) * NS_PER_MS)
    inside = (true_ns > scene.log.edges[0][0] - 200_000_000) & (true_ns < scene.log.edges[-1][0] + 200_000_000)
    pts, seen = pts_ns[inside], light[inside]
    lit = ledfilm.fit(pts, seen, scene.log, near, (0.25, scene.led_down))
    codes = _codes(scene, pts_ns, true_ns, rng)
    return ledfilm.compare(codes, lit, (int(pts[0]), int(pts[-1])), scene.log, Settings(), ())


def _led_light(scene: Scene, true_ns: npt.NDArray[np.int64], rng: np.random.Generator) -> Doubles:
    exposure_ns = scene.exposure_ms * NS_PER_MS
    begin = (true_ns - BEGIN_NS) + (scene.led_down - 0.5) * scene.read_out_ms * NS_PER_MS - exposure_ns / 2
    share = Led(scene.log.edges).on_share(begin, exposure_ns, BEGIN_NS)
    seen = np.clip(scene.led_gain * share, 0, 1) ** scene.tone
    return np.asarray(0.05 + seen * 0.2 + rng.normal(0, scene.noise * 0.2, len(share)))


def _codes(
    scene: Scene, pts_ns: npt.NDArray[np.int64], true_ns: npt.NDArray[np.int64], rng: np.random.Generator
) -> CodeFilm:
    film = CodeFilm()
    place = (np.arange(MODULES) + 0.5) / MODULES - 0.5
    down = CODE_DOWN + 0.01 * np.sin(np.arange(len(pts_ns)) / 9.0)
    for pts, true, row in zip(pts_ns.tolist(), true_ns.tolist(), down.tolist(), strict=True):
        rows = row + place * CODE_HEIGHT
        begin = ((rows - 0.5) * scene.read_out_ms - scene.exposure_ms / 2) * NS_PER_MS
        scanned = (CENTRE + place * CODE_HEIGHT / (PAGE_HEIGHT / FULL_ROWS)) * scene.phone.scan_out_ms
        _look(scene, film, (pts, true, row), begin - scanned * NS_PER_MS, rng)
    return film


def _look(scene: Scene, film: CodeFilm, at: tuple[int, int, float], begin: Doubles, rng: np.random.Generator) -> None:
    """One picture of the code: `begin` of the exposures of its module rows, as if all were in the screen's top row."""
    pts, true, row = at
    exposure = scene.exposure_ms * NS_PER_MS
    lit = scene.phone.lit(true + int(begin.min()), true + int(begin.max() + exposure))
    shares = [
        np.clip(np.minimum(begin + exposure, c.dark_utc_ns - true) - np.maximum(begin, c.light_utc_ns - true), 0, None)
        / exposure
        for c in lit
    ]
    looks = 1.0 - vernier.modules([c.payload for c in lit], MASK)
    light = sum(share[:, None] * look for share, look in zip(shares, looks, strict=True))
    light = 0.02 + 0.8 * np.asarray(light) + rng.normal(0, 0.02, (MODULES, MODULES))
    newest = int(np.argmax([share.mean() for share in shares]))
    is_read = shares[newest].mean() > rng.uniform(0.52, 0.65) and rng.random() < 0.97
    code = decode(lit[newest].payload) if is_read else None
    if code is not None:
        film.observations.append(Observation(pts, code, row))
    film.sightings.append(Sighting(pts, code, MASK, light.astype(np.float32), row))


def write_film(
    path: Path, scene: Scene, *, height: int = 1080, bit_rate: int = 12_000_000, led_of: Led | None = None
) -> None:
    """Draw and encode a scene; exposure and read-out are the simulator's own, the camera's rate is exact."""
    film = Film(World(BEGIN_NS, 0), Street(1, BEGIN_NS), "left", height * 16 // 9, height)
    spot = led_of or Led(scene.log.edges, down=scene.led_down, light=scene.led_gain)
    options = {"preset": "superfast", "tune": "zerolatency"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=scene.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = film.width, film.height, "yuv420p"
        stream.bit_rate = bit_rate
        stream.codec_context.time_base = stream.time_base = Fraction(1, CLOCK_HZ)
        for number, pts_ns in enumerate(scene.pts_ns.tolist()):
            picture = film.picture(BEGIN_NS + pts_ns, number, scene.phone, spot)
            picture.pts, picture.time_base = round(pts_ns * CLOCK_HZ / NS_PER_S), Fraction(1, CLOCK_HZ)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
