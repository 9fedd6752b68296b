"""The state of a virtual GoPro: what its commands do to it, apart from how they are asked for."""

import math
import threading
import time
from dataclasses import dataclass, field

from simulator.hero import models
from simulator.hero.encoder import H264
from simulator.hero.media import Card
from simulator.hero.models import PRESETS, Model, Preset
from simulator.hero.recorder import Capture, Photo, PhotoLapse, Plan, Video
from simulator.hero.rtc import Rtc
from simulator.hero.settings import Refusal, Settings
from simulator.hero.telemetry import Maker
from simulator.hero.webcam import Outlet, Preview, Webcam

SETTLING_S = 0.3  # status 8 after a change of settings or preset
KEEP_ALIVE_S = 5.0  # one is due every 3 s; every 30 s was too seldom for a HERO11 (OpenGoPro issue 253)
AUTO_POWER_DOWN_S = {1: 60.0, 4: 300.0, 6: 900.0, 7: 1800.0, 11: 8.0, 12: 30.0}  # of setting 59
RESET_S = 3.0
RECORDING_BIT_RATE = 12_000_000
LAST_PRESETS = {93: models.VIDEO_GROUP, 94: models.PHOTO_GROUP, 95: models.TIMELAPSE_GROUP}  # status: preset group


@dataclass(frozen=True, slots=True)
class Absence:
    """Why nobody answers: how long (None: until somebody wakes the camera), and whether it goes off meanwhile."""

    seconds: float | None
    is_off: bool = True


SLEEP, RESET = Absence(None), Absence(RESET_S)


@dataclass(slots=True)
class Switches:
    """Flags that commands set and the state tells."""

    turbo_transfer: int = 0
    ui_controller: int = 0
    zoom_percent: int = 0
    wired_usb: int = 0
    preset: Preset = PRESETS[0]


@dataclass(slots=True)
class Timers:
    """When the camera was last asked for something (CLOCK_MONOTONIC, s)."""

    activity_s: float = field(default_factory=time.monotonic)
    keep_alive_s: float = field(default_factory=time.monotonic)
    settled_s: float = 0.0


class Device:
    """A camera without its network. Commands come one after another: callers hold `lock`."""

    def __init__(
        self,
        model: Model,
        serial: str,
        rtc: Rtc,
        outlet: Outlet,
        codec: str = H264,
        chapter_bytes: int | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.model, self.serial, self.rtc = model, serial, rtc
        self.sensor, self.faults = outlet.sensor, outlet.faults
        self.settings = Settings(model)
        self.switches = Switches()
        self.timers = Timers()
        self.absence: Absence | None = None
        self._is_on = True
        self._hot_since_s: float | None = None
        self.webcam = Webcam(outlet, model.traits)
        self.preview = Preview(outlet, model.traits)
        self.capture: Capture | None = None
        self.card = Card(outlet.dice)
        self._largest, self._codec = outlet.largest, codec
        self._chapter_bytes = chapter_bytes or model.traits.chapter_bytes
        self._last_presets = {preset.group: preset for preset in reversed(PRESETS)}

    def close(self) -> None:
        """End streams and recordings; the card is gone with all that is on it."""
        self.power_off()
        self.card.close()

    def power_off(self) -> None:
        """End streams and recordings and forget all flags; the card and the settings stay."""
        with self.lock:
            self._is_on = False
            self.switches = Switches()
            self.faults.heal()
            self._rest()
            if self.capture is not None:
                self.capture.join()

    def power_on(self) -> None:
        """Be there again."""
        with self.lock:
            if not self._is_on:
                self._is_on, self.timers = True, Timers()

    def lose_network(self) -> None:
        """End all streams: they have nowhere to go. A recording goes on."""
        with self.lock:
            self.webcam.exit()
            self.preview.stop()

    def _rest(self) -> None:
        """End all streams and recordings."""
        self.lose_network()
        if self.capture is not None:
            self.capture.stop()

    @property
    def is_encoding(self) -> bool:
        """Status 10."""
        return self.capture is not None and self.capture.is_encoding

    @property
    def is_writing(self) -> bool:
        """Whether a file is not closed yet."""
        return self.is_encoding or (self.capture is not None and self.capture.is_busy)

    @property
    def is_busy(self) -> bool:
        """Status 8."""
        closing = self.capture is not None and self.capture.is_busy
        return closing or time.monotonic() < self.timers.settled_s

    def check_timers(self) -> bool:
        """Whether both timers have run out: auto power down, which work starts again, and keep-alive."""
        patience_s = AUTO_POWER_DOWN_S.get(self.settings.get(models.AUTO_POWER_DOWN) or 0)
        if self.is_writing or self.webcam.is_on or self.preview.streamer is not None:
            self._touch()
        now = time.monotonic()
        if patience_s is None or now - self.timers.activity_s < patience_s:
            return False
        return now - self.timers.keep_alive_s > KEEP_ALIVE_S

    def tick(self) -> Absence | None:
        """Let time pass: what ends by itself, and whether the camera leaves the network now."""
        with self.lock:
            if self._is_on:
                if self.video is not None and self._recording_fails(self.video):
                    self.video.stop()
                if self.check_timers() or self._keep_alive_missed() or self._overheated():
                    self.absence = self.absence or SLEEP
            absence, self.absence = self.absence, None
            return absence

    def _recording_fails(self, video: Video) -> bool:
        return self.faults.get("card_status", 0.0) > 0 or video.elapsed_s > self.faults.get(
            "recording_stops_s", math.inf
        )

    def _keep_alive_missed(self) -> bool:
        return time.monotonic() - self.timers.keep_alive_s > self.faults.get("sleeps_s", math.inf)

    def _overheated(self) -> bool:
        """First the work ends, then the camera goes off."""
        patience_s = self.faults.get("overheating")
        if patience_s is None:
            self._hot_since_s = None
            return False
        self._hot_since_s = self._hot_since_s or time.monotonic()
        hot_s = time.monotonic() - self._hot_since_s
        if hot_s > patience_s:
            self._rest()
        return hot_s > 2 * patience_s

    def change_setting(self, setting: int, option: int) -> Refusal | None:
        """Change a setting, or say why not."""
        refusal = self.settings.change(setting, option, self.is_writing, self.webcam.status == 0)
        if refusal is None:
            self._settle()
        return refusal

    def choose_group(self, group: int) -> bool:
        """Change to the preset a group was last in; False when there is none, or not now."""
        return group in self._last_presets and self.choose_preset(self._last_presets[group].number)

    def choose_preset(self, number: int) -> bool:
        """Change to a preset; False when there is none, or not now."""
        preset = next((preset for preset in PRESETS if preset.number == number), None)
        if preset is None or self.is_writing:
            return False
        self.switches.preset = self._last_presets[preset.group] = preset
        self._settle()
        return True

    def press_shutter(self) -> bool:
        """Take a photo or begin a video; False while the camera does something else."""
        if self.is_writing or self.webcam.is_on or self.faults.get("card_status"):
            return False
        self.preview.die()
        self.capture = self._make_capture()
        self.capture.start()
        self._touch()
        if "usb_vanishes_s" in self.faults:
            self.absence = Absence(self.faults["usb_vanishes_s"], is_off=False)
        return True

    def release_shutter(self) -> None:
        """End a video or a series; nothing happens without one."""
        if self.capture is not None and not isinstance(self.capture, Photo):
            self.capture.stop()
        self._touch()

    @property
    def video(self) -> Video | None:
        """The video that is being recorded."""
        return self.capture if isinstance(self.capture, Video) and self.is_encoding else None

    def local_s(self) -> int:
        """What the camera's clock shows, as `Rtc.local_s`."""
        return self.rtc.local_s(self.sensor.world.utc_ns())

    def keep_alive(self) -> None:
        """Start the second timer again."""
        self.timers.keep_alive_s = time.monotonic()

    def statuses(self) -> dict[int, int | str]:
        """All statuses that the model tells."""
        known = self.model.status_template()
        now = self._power_statuses() | self._work_statuses()
        now |= self.card.statuses(is_stuck="media_list_404" in self.faults)
        return known | {number: value for number, value in now.items() if number in known}

    def _power_statuses(self) -> dict[int, int]:
        has_battery, card_errors = "no_battery" not in self.faults, int(self.faults.get("card_errors", 0))
        return {
            1: int(has_battery),
            2: 4 if has_battery else 0,
            6: int("overheating" in self.faults),
            33: int(self.faults.get("card_status", 0)),
            70: int(self.faults.get("battery_percent", 87)) if has_battery else 0,
            75: self.switches.zoom_percent,
            111: int(card_errors > 0),
            112: card_errors,
            113: self.switches.turbo_transfer,
            114: self.switches.ui_controller,
            116: self.switches.wired_usb,
        }

    def _work_statuses(self) -> dict[int, int]:
        preset, video = self.switches.preset, self.video
        hilights_ms = video.hilights_ms if video is not None else ()
        return {number: self._last_presets[group].number for number, group in LAST_PRESETS.items()} | {
            8: int(self.is_busy),
            10: int(self.is_encoding),
            13: int(video.elapsed_s) if video is not None else 0,
            32: int(self.preview.is_on),
            55: int(not self.is_writing),
            58: len(hilights_ms),
            59: round(video.elapsed_s * 1000) - hilights_ms[-1] if video is not None and hilights_ms else 0,
            82: int(not self.is_busy),
            89: preset.flat_mode,
            96: preset.group,
            97: preset.number,
        }

    def _settle(self) -> None:
        self.timers.settled_s = time.monotonic() + SETTLING_S
        self._touch()

    def _touch(self) -> None:
        self.timers.activity_s = time.monotonic()

    def _make_capture(self) -> Capture:
        mode = self.switches.preset.flat_mode
        kind = {models.PHOTO_MODE: Photo, models.TIMELAPSE_PHOTO_MODE: PhotoLapse}.get(mode, Video)
        lapse = {
            models.TIMELAPSE_PHOTO_MODE: models.PHOTO_LAPSE_RATE,
            models.TIMELAPSE_VIDEO_MODE: models.VIDEO_LAPSE_RATE,
        }.get(mode)
        has_gps_on = self.settings.get(models.GPS) != 0
        plan = Plan(
            maker=Maker(self.model.name, self.serial, self.model.firmware, self.sensor.side, has_gps_on),
            size=self._largest,
            rate=self.settings.video_rate if mode == models.VIDEO_MODE else self.settings.webcam_rate,
            bit_rate=RECORDING_BIT_RATE,
            chapter_bytes=self._chapter_bytes,
            filled_up_to_bytes=int(self.faults.get("large_files_bytes", 0)),
            interval=None if lapse is None else self.settings.lapse_rate(lapse),
            codec=self._codec,
        )
        return kind(self.sensor, self.card, self.rtc, plan)
