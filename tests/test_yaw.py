"""The alarm from the drive, on drives whose clock error, lever arm and slip are known, and on what cannot tell."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rig.clock import NS_PER_S
from rig.footage.video import find_videos
from rig.gnss.positions import Track
from rig.timing.yaw import DriveCheck, Turning, check_drive, check_video, read_turning
from simulator.world import Street
from tests.test_simulator_telemetry import empty_film, film

START_NS = 1_795_000_000 * NS_PER_S
METRES_PER_DEGREE = 111_195.0
GYRO_HZ = 200
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Drive:
    """A made drive: the truth and what is measured of it."""

    seconds: float = 300.0
    rate_hz: float = 10.0
    noise_m: float = 0.015
    quality: int = 4
    lever_arm_m: float = 1.5
    slip: float = 0.003
    clock_error_s: float = 0.0
    sense: float = 1.0
    seed: int = 1
    straight: bool = False

    def heading(self, utc_ns: Integers) -> tuple[Floats, Floats, Floats]:
        """Course of the rear axle (radians, to the left), speed, and what the car's nose differs by for its slip."""
        street = Street(self.seed, START_NS)
        before, after = street.at_many(utc_ns - 5_000_000), street.at_many(utc_ns + 5_000_000)
        course = np.unwrap(np.radians(-street.at_many(utc_ns).heading_deg))
        rate = np.unwrap(np.radians(-np.stack([before.heading_deg, after.heading_deg])), axis=0)
        speed = street.at_many(utc_ns).speed_mps
        sideways = speed * (rate[1] - rate[0]) / 0.01
        return (np.zeros_like(course) if self.straight else course), speed, self.slip * sideways

    def gyro(self) -> Turning:
        dice = np.random.default_rng(self.seed)
        pts_ns = np.arange(round(self.seconds * GYRO_HZ), dtype=np.int64) * (NS_PER_S // GYRO_HZ)
        course, _, slip = self.heading(START_NS + pts_ns)
        rate = np.gradient(course + slip, 1 / GYRO_HZ)
        noise = math.radians(0.3) + dice.normal(0.0, math.radians(0.5), len(rate))
        return Turning(pts_ns, self.sense * rate + noise)

    def track(self) -> Track:
        dice = np.random.default_rng(self.seed + 1000)
        count = round(self.seconds * self.rate_hz)
        utc_ns = START_NS + np.rint(np.arange(count) * NS_PER_S / self.rate_hz).astype(np.int64)
        poses = Street(self.seed, START_NS).at_many(utc_ns)
        course, _, slip = self.heading(utc_ns)
        nose = course + slip  # from north, to the left
        noise = dice.normal(0.0, self.noise_m, (2, count))
        if self.straight:
            latitude = 47.0 + poses.distance_m / METRES_PER_DEGREE
            longitude = np.full(count, 2.0)
        else:
            latitude = poses.latitude + self.lever_arm_m * np.cos(nose) / METRES_PER_DEGREE
            east_m = -self.lever_arm_m * np.sin(nose)
            longitude = poses.longitude + east_m / METRES_PER_DEGREE / np.cos(np.radians(poses.latitude))
        nothing = np.zeros(count)
        return Track(
            utc_ns=utc_ns,
            latitude=latitude + noise[0] / METRES_PER_DEGREE,
            longitude=longitude + noise[1] / METRES_PER_DEGREE / math.cos(math.radians(47)),
            altitude_m=nothing,
            quality=np.full(count, self.quality, dtype=np.int64),
            satellites=np.full(count, 20, dtype=np.int64),
            hdop=nothing + 0.7,
            sigma_m=nothing + self.noise_m,
            speed_mps=poses.speed_mps,
            course_deg=poses.heading_deg,
            segment=np.zeros(count, dtype=np.int64),
        )

    def clock(self) -> Callable[[Integers], Integers]:
        return lambda pts_ns: START_NS + round(self.clock_error_s * NS_PER_S) + pts_ns

    def check(self) -> DriveCheck:
        return check_drive(self.gyro(), self.track(), self.clock())


def test_five_minutes_of_town_tell_the_offset() -> None:
    errors_ms = []
    for seed in range(1, 9):
        error_s = (-0.4, 0.0, 0.05, 1.9)[seed % 4]
        found = Drive(seed=seed, clock_error_s=error_s, sense=1.0 if seed % 2 else -1.0).check()
        assert found.offset_ms is not None
        assert found.bar_ms is not None
        errors_ms.append(found.offset_ms - error_s * 1000)
        assert abs(errors_ms[-1]) <= found.bar_ms <= 80.0
        assert found.verdict == ("alarm" if abs(found.offset_ms) > found.bar_ms + 20 else "ok")
        assert found.verdict == ("alarm" if abs(error_s) > 0.1 else "ok")
        assert found.lever_arm_m == pytest.approx(1.5, abs=0.3)
    assert np.sqrt(np.mean(np.square(errors_ms))) < 20.0
    assert abs(np.mean(errors_ms)) < 10.0


def test_twenty_minutes_tell_it_twice_as_well() -> None:
    found = Drive(seconds=1200.0, seed=2, clock_error_s=0.12).check()
    assert found.offset_ms == pytest.approx(120.0, abs=20.0)
    assert (found.bar_ms or 99.0) < 35.0
    assert found.verdict == "alarm"


@pytest.mark.parametrize("rate_hz", [1.0, 5.0, 20.0])
def test_other_rates_of_the_receiver_do_too(rate_hz: float) -> None:
    found = Drive(rate_hz=rate_hz, clock_error_s=0.25, seconds=600.0).check()
    assert found.offset_ms == pytest.approx(250.0, abs=20.0 if rate_hz > 1 else 40.0)
    assert found.verdict == "alarm"


def test_a_long_drive_costs_no_more_than_its_best_part() -> None:
    found = Drive(seconds=2000.0, seed=3).check()
    assert found.verdict == "ok"
    assert found.seconds <= 1200.0
    assert found.offset_ms == pytest.approx(0.0, abs=20.0)


def test_a_hand_at_the_camera_does_not_deceive() -> None:
    drive = Drive(clock_error_s=0.1)
    gyro = drive.gyro()
    rate = gyro.rate_rad_s.copy()
    rate[: 20 * GYRO_HZ] += 2.0 * np.sin(np.arange(20 * GYRO_HZ) / 60)
    found = check_drive(replace(gyro, rate_rad_s=rate), drive.track(), drive.clock())
    assert found.offset_ms == pytest.approx(100.0, abs=20.0)


USELESS = {
    "metres of noise": (Drive(noise_m=1.0), "only good to"),
    "no RTK": (Drive(quality=1, noise_m=1.0), "RTK"),
    "a straight road": (Drive(straight=True, lever_arm_m=0.0), "turning"),
    "a minute": (Drive(seconds=60.0), "of driving"),
    "a fix each five seconds": (Drive(rate_hz=0.2, seconds=600.0), "apart"),
    "another day": (Drive(clock_error_s=86_400.0), "different times"),
}


@pytest.mark.parametrize("name", USELESS)
def test_what_cannot_tell_says_so(name: str) -> None:
    drive, why = USELESS[name]
    found = drive.check()
    assert (found.verdict, found.offset_ms, found.bar_ms) == ("unknown", None, None)
    assert why in found.why


def test_a_single_fix_or_sample_says_nothing() -> None:
    drive = Drive(seconds=5.0)
    gyro, track = drive.gyro(), drive.track()
    assert check_drive(gyro, track, drive.clock()).verdict == "unknown"
    some = Turning(gyro.pts_ns[:1], gyro.rate_rad_s[:1])
    assert check_drive(some, track, drive.clock()).verdict == "unknown"
    gappy = Turning(gyro.pts_ns[:2] * 1000, gyro.rate_rad_s[:2])
    assert check_drive(gappy, track, drive.clock()).verdict == "unknown"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_another_drive_is_an_alarm(seed: int) -> None:
    found = check_drive(Drive(seed=seed + 10).gyro(), Drive(seed=seed).track(), Drive().clock())
    assert found.verdict == "alarm"
    assert found.offset_ms is None
    assert "another drive" in found.why


def test_the_answer_fits_into_json() -> None:
    found = Drive(seed=5).check()
    assert json.loads(json.dumps(asdict(found)))["verdict"] == "ok"


def test_the_file_of_a_virtual_camera_turns_when_the_street_does(tmp_path: Path) -> None:
    """To the millisecond: frames are dated by their middle, the gyro is stamped by their beginning."""
    drive = Drive(lever_arm_m=0.0, slip=0.0, seed=3)
    path, _, _ = film(tmp_path / "film.mp4", "HERO12 Black", drive.seconds)
    [item] = find_videos([path])
    turning = read_turning(item)
    assert turning is not None
    found = check_video(item, drive.track(), lambda pts_ns: START_NS + 60_000_000 + pts_ns)
    assert found is not None
    assert found.offset_ms is not None
    assert abs(found.offset_ms - 60.0) < (found.bar_ms or 0.0)
    course, _, _ = drive.heading(START_NS + turning.pts_ns)
    truth = np.gradient(course, 1 / GYRO_HZ)
    change = np.gradient(truth, 1 / GYRO_HZ)
    left = turning.rate_rad_s - truth
    left -= left.mean()
    assert abs(np.sum(change * left) / np.sum(change**2)) < 0.003


def test_a_film_without_telemetry_is_not_checked(tmp_path: Path) -> None:
    for name in ("film.mp4", "stream-001.ts"):
        empty_film(tmp_path / name)
        [item] = find_videos([tmp_path / name])
        assert check_video(item, Drive(seconds=5.0).track(), lambda pts_ns: pts_ns) is None
