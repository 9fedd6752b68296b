"""The webcam and the preview of a GoPro: which of them streams, where to, and the states it tells."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from simulator.camera_faults import Faults
from simulator.hero.encoder import H264
from simulator.hero.models import Traits
from simulator.hero.sensor import Rate, Sensor, Size
from simulator.hero.stream import Counts, Latency, Streamer, StreamPlan
from simulator.lens import WEBCAM_LENSES

OFF, IDLE, STREAMING, LOW_POWER_PREVIEW, UNAVAILABLE = range(5)  # webcam status
NO_ERROR, PRESET_ERROR, SHUTTER_ERROR, INVALID_PARAMETER, UNAVAILABLE_ERROR = 0, 1, 4, 6, 7  # webcam error

WEBCAM_BIT_RATE = 6_000_000
PREVIEW_BIT_RATE = 2_500_000
HEIGHTS = {4: 480, 7: 720, 12: 1080}  # of the parameter `res`
USUAL_RESOLUTION = 12
FIELDS_OF_VIEW = (0, 2, 3, 4)
UDP_PORTS = range(1, 65536)


@dataclass(frozen=True, slots=True)
class Outlet:
    """What all streams of a camera share."""

    sensor: Sensor
    faults: Faults
    dice: random.Random
    counts: Counts
    largest: Size
    default_port: int
    latency: Latency

    def open(
        self,
        name: str,
        client: str,
        port: int | None,
        height: int,
        rate: Rate,
        bit_rate: int,
        codec: str = H264,
        has_audio: bool = False,
    ) -> Streamer:
        """A stream that has begun; no picture is larger than the camera can draw in time."""
        size = min(Size.of_height(height), self.largest, key=lambda size: size.height)
        target = (client, self.default_port if port is None else port)
        plan = StreamPlan(name, target, size, rate, bit_rate, self.latency, codec, has_audio)
        streamer = Streamer(plan, self.sensor, self.faults, self.dice, self.counts)
        streamer.start()
        return streamer


@dataclass(frozen=True, slots=True)
class _Asked:
    height: int
    port: int | None
    protocol: str


class Webcam:
    """The state diagram of GoPro's webcam mode: off or idle, streaming, or in low-power preview."""

    def __init__(self, outlet: Outlet, traits: Traits) -> None:
        self.status = OFF
        self.error = NO_ERROR
        self.streamer: Streamer | None = None
        self._outlet, self._traits = outlet, traits

    @property
    def is_on(self) -> bool:
        """Whether pictures are sent, which excludes recording."""
        return self.status in (STREAMING, LOW_POWER_PREVIEW)

    @property
    def told_status(self) -> int:
        """The status that is told, which can be wrong after plugging in (GoPro's FAQ)."""
        return IDLE if self.status == OFF and "stale_idle" in self._outlet.faults else self.status

    def start(self, query: Mapping[str, str], client: str, rate: Rate, is_encoding: bool, is_wired: bool) -> None:
        """`webcam/start`: stream at full power; again, with other parameters, when it streams already."""
        if self._outlet.faults.get("webcam_unavailable", 0.0) > (0 if is_wired else 1):
            self._end(UNAVAILABLE)
            self.error = UNAVAILABLE_ERROR
            return
        asked = self._parameters(query)
        self.error = self._trouble(is_encoding) or (INVALID_PARAMETER if asked is None else NO_ERROR)
        if asked is not None and self.error == NO_ERROR:
            self._end(STREAMING)
            self._outlet.sensor.lens = WEBCAM_LENSES[int(query.get("fov", 0))]
            # RTSP is answered, but nobody serves it.
            if asked.protocol == "TS" and "stale_idle" not in self._outlet.faults:
                self.streamer = self._outlet.open(
                    "webcam",
                    client,
                    asked.port,
                    asked.height,
                    rate,
                    WEBCAM_BIT_RATE,
                    has_audio=self._traits.webcam_has_audio,
                )

    def _parameters(self, query: Mapping[str, str]) -> "_Asked | None":
        """What is asked for, None when the camera has no such thing. Models ignore parameters they do not have."""
        traits = self._traits
        protocol = query.get("protocol", "TS") if len(traits.webcam_protocols) > 1 else "TS"
        try:
            height = HEIGHTS[int(query.get("res", USUAL_RESOLUTION))]
            port = int(query["port"]) if "port" in query and traits.webcam_takes_port else None
            lens = int(query.get("fov", 0))
            is_known = lens in FIELDS_OF_VIEW and lens != self._outlet.faults.get("lens_refused")
            is_known = is_known and protocol in traits.webcam_protocols
            is_known = is_known and (height != 480 or traits.webcam_has_480)
        except (ValueError, KeyError):
            return None
        return _Asked(height, port, protocol) if is_known and (port is None or port in UDP_PORTS) else None

    def preview(self, client: str, rate: Rate, is_encoding: bool) -> None:
        """`webcam/preview`: a small stream that needs little power."""
        self.error = self._trouble(is_encoding)
        if self.error == NO_ERROR:
            self._end(LOW_POWER_PREVIEW)
            self.streamer = self._outlet.open("webcam", client, None, 480, rate, PREVIEW_BIT_RATE)

    def stop(self) -> None:
        """`webcam/stop`: no more pictures; still in webcam mode."""
        if self.is_on:
            self._outlet.faults.pop("stale_idle", None)
        self._end(IDLE)

    def exit(self) -> None:
        """`webcam/exit`: leave webcam mode."""
        self._end(OFF)

    def _trouble(self, is_encoding: bool) -> int:
        if is_encoding:
            return SHUTTER_ERROR
        return PRESET_ERROR if self._outlet.faults.take("webcam_error_once") else NO_ERROR

    def _end(self, status: int) -> None:
        previous, self.streamer = self.streamer, None
        if previous is not None:
            previous.stop()
        self.status = status
        self.error = NO_ERROR


class Preview:
    """`camera/stream`: the other live picture, which a recording ends (OpenGoPro issue 352)."""

    def __init__(self, outlet: Outlet, traits: Traits) -> None:
        self.streamer: Streamer | None = None
        self._outlet, self._traits = outlet, traits
        self._is_stuck = False

    @property
    def is_on(self) -> bool:
        """Status 32, which can be wrong after a recording (OpenGoPro issue 228)."""
        return self.streamer is not None or self._is_stuck

    def start(self, port: int | None, client: str, rate: Rate) -> bool:
        """Begin to stream; False when it streams already."""
        if self.is_on:
            return False
        traits = self._traits
        port = port if traits.preview_takes_port else None
        self.streamer = self._outlet.open(
            "preview", client, port, traits.preview_height, rate, PREVIEW_BIT_RATE, traits.preview_codec
        )
        return True

    def stop(self) -> bool:
        """End the stream; False when there is none."""
        was_on, self._is_stuck = self.is_on, False
        previous, self.streamer = self.streamer, None
        if previous is not None:
            previous.stop()
        return was_on

    def die(self) -> None:
        """A recording ends the stream, and the camera may not notice."""
        was_on = self.stop()
        self._is_stuck = was_on and "preview_stuck" in self._outlet.faults
