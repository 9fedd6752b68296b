"""A camera's settings: what may be changed when, and the refusals a GoPro answers with."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from simulator.hero import models
from simulator.hero.models import Model
from simulator.hero.sensor import Rate

NOT_AVAILABLE, UNKNOWN_SETTING, OPTION_NOT_AVAILABLE, UNKNOWN_OPTION = 1, 2, 3, 4
LCD_BRIGHTNESS_PERCENT = range(10, 101)
EASY_CONTROL = 0
ONLY_IN_PRO_CONTROL = frozenset({models.RESOLUTION, models.FRAMES_PER_SECOND, models.FRAME_RATE})
SHORTEST_LAPSE = "0.5 Seconds"
IN_50_HZ = {30: 25, 60: 50, 120: 100, 240: 200}
EXACT_RATES = (25, 50, 100, 200)  # the others run at 1000/1001 of their names


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a setting was not changed, with the options that would have been taken."""

    error: int
    options: Mapping[int, str]


class Settings:
    """The options of one camera."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._options = model.factory_settings()

    def get(self, setting: int) -> int | None:
        """The option of a setting, None when the model does not have it."""
        return self._options.get(setting)

    def all(self) -> dict[int, int]:
        """The option of each setting."""
        return dict(self._options)

    def change(self, setting: int, option: int, is_busy: bool, is_webcam_off: bool) -> Refusal | None:
        """Change a setting, or say why not."""
        refusal = self._refusal(setting, option, is_busy, is_webcam_off)
        if refusal is None:
            for twin in (models.FRAMES_PER_SECOND, models.FRAME_RATE):
                if twin in self._options and setting in (models.FRAMES_PER_SECOND, models.FRAME_RATE):
                    self._options[twin] = option
            self._options[setting] = option
        return refusal

    def _refusal(self, setting: int, option: int, is_busy: bool, is_webcam_off: bool) -> Refusal | None:
        entry = self._model.settings.get(setting)
        if entry is None:
            return Refusal(UNKNOWN_SETTING, {})
        in_easy_control = self._options.get(models.CONTROL_MODE) == EASY_CONTROL
        locked = (setting in ONLY_IN_PRO_CONTROL and in_easy_control) or (
            setting == models.HYPERSMOOTH and not is_webcam_off
        )
        if is_busy or locked:
            return Refusal(NOT_AVAILABLE, {})
        if option in entry.options or (not entry.options and _is_in_range(setting, option)):
            return None
        exists = option in (models.known_options(setting) or {})
        return Refusal(OPTION_NOT_AVAILABLE if exists else UNKNOWN_OPTION, entry.options)

    @property
    def is_50_hz(self) -> bool:
        """Whether anti-flicker is set to 50 Hz (PAL on a HERO13)."""
        name = self._model.settings[models.ANTI_FLICKER].options[self._options[models.ANTI_FLICKER]]
        return "50" in name or "PAL" in name

    def choose_50_hz(self) -> None:
        """Set anti-flicker to 50 Hz, as in a menu."""
        options = self._model.settings[models.ANTI_FLICKER].options
        self._options[models.ANTI_FLICKER] = next(o for o, name in options.items() if "50" in name or "PAL" in name)

    @property
    def webcam_rate(self) -> Rate:
        """30 or 25 frames a second."""
        return _rate(30, self.is_50_hz)

    def lapse_rate(self, setting: int) -> Rate:
        """Pictures per second of a time lapse, as a setting of its interval says: `0.5 Seconds`, `2 Minutes`."""
        entry = self._model.settings.get(setting)
        number, unit = (SHORTEST_LAPSE if entry is None else entry.options[self._options[setting]]).split()
        seconds = Fraction(number) * (60 if unit.startswith("Minute") else 1)
        return Rate(seconds.denominator, seconds.numerator)

    @property
    def video_rate(self) -> Rate:
        """Of a recording."""
        option = self._options[models.FRAMES_PER_SECOND]
        return _rate(round(float(self._model.settings[models.FRAMES_PER_SECOND].options[option])), self.is_50_hz)


def _is_in_range(setting: int, option: int) -> bool:
    return option in LCD_BRIGHTNESS_PERCENT if setting == models.LCD_BRIGHTNESS else option >= 0


def _rate(nominal: int, is_50_hz: bool) -> Rate:
    nominal = IN_50_HZ.get(nominal, nominal) if is_50_hz else nominal
    return Rate(nominal, 1) if nominal in EXACT_RATES else Rate(nominal * 1000, 1001)
