"""The simulated truth agrees with itself and with the definitions of WGS 84."""

import pickle
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from simulator.phone import Phone
from simulator.world import SECOND_NS, Crystal, Poses, Street, World

START_NS = 1_795_000_000_000_000_000
HOUR_NS = 3600 * SECOND_NS
MILLISECOND_NS = 1_000_000

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def street() -> Street:
    return Street(seed=5, start_utc_ns=START_NS)


def _instants(seconds: float, count: int) -> Integers:
    dice = np.random.default_rng(1)
    return START_NS + dice.integers(0, int(seconds * SECOND_NS), count)


class TestWorld:
    world = World(START_NS, 77_123_456_789, 17.3)

    def test_inverse_to_the_nanosecond(self) -> None:
        for utc_ns in map(int, _instants(3 * 3600, 2000)):
            assert abs(self.world.utc_ns(self.world.monotonic_ns(utc_ns)) - utc_ns) <= 1

    def test_a_fast_crystal_counts_more(self) -> None:
        elapsed = self.world.monotonic_ns(START_NS + HOUR_NS) - self.world.epoch_monotonic_ns
        assert elapsed - HOUR_NS == pytest.approx(17.3e-6 * HOUR_NS, abs=1)

    def test_now_goes_on(self) -> None:
        assert self.world.utc_ns() < self.world.utc_ns()

    def test_survives_the_way_to_another_process(self) -> None:
        assert pickle.loads(pickle.dumps(self.world)) == self.world


class TestCrystal:
    @pytest.mark.parametrize(("rate", "drift"), [(0, 0), (84, 3), (-50, -8), (100, 0)])
    def test_inverse_to_the_nanosecond(self, rate: float, drift: float) -> None:
        crystal = Crystal(rate, drift, START_NS)
        for utc_ns in map(int, _instants(3 * 3600, 500)):
            assert abs(crystal.utc_ns(crystal.elapsed_s(utc_ns)) - utc_ns) <= 2

    def test_rate_drifts_linearly(self) -> None:
        crystal = Crystal(40.0, 3.0, START_NS)
        for hours, ppm in ((0, 40), (1, 43), (2, 46)):
            around = [START_NS + hours * HOUR_NS + side * SECOND_NS for side in (-1, 1)]
            rate = (crystal.elapsed_s(around[1]) - crystal.elapsed_s(around[0])) / 2
            assert (rate - 1) * 1e6 == pytest.approx(ppm, abs=1e-3)


def _to_earth_centred(poses: Poses) -> Floats:
    """WGS 84 to metres from the Earth's centre, by the defining constants (NIMA TR8350.2)."""
    semi_major_m, semi_minor_m, geoid_m = 6_378_137.0, 6_356_752.314245, 47.6
    latitude, longitude = np.radians(poses.latitude), np.radians(poses.longitude)
    height = poses.altitude_m + geoid_m
    flat = (semi_minor_m / semi_major_m) ** 2
    normal = semi_major_m**2 / np.hypot(semi_major_m * np.cos(latitude), semi_minor_m * np.sin(latitude))
    across = (normal + height) * np.cos(latitude)
    up = (flat * normal + height) * np.sin(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), up], axis=-1)


def _velocity(street: Street, instants: Integers, step_ns: int = 5 * MILLISECOND_NS) -> tuple[Floats, Floats]:
    """Metres a second to the east and to the north, by differences of positions."""
    moved = _to_earth_centred(street.at_many(instants + step_ns)) - _to_earth_centred(
        street.at_many(instants - step_ns)
    )
    moved /= 2 * step_ns / SECOND_NS
    here = street.at_many(instants)
    latitude, longitude = np.radians(here.latitude), np.radians(here.longitude)
    east = moved[:, 1] * np.cos(longitude) - moved[:, 0] * np.sin(longitude)
    out = moved[:, 0] * np.cos(longitude) + moved[:, 1] * np.sin(longitude)
    return east, moved[:, 2] * np.cos(latitude) - out * np.sin(latitude)


class TestStreet:
    def test_speed_and_heading_are_derivatives_of_the_position(self, street: Street) -> None:
        instants = _instants(7200, 20_000)
        east, north = _velocity(street, instants)
        poses = street.at_many(instants)
        assert np.hypot(east, north) == pytest.approx(poses.speed_mps, abs=1e-4)
        assert east == pytest.approx(poses.speed_mps * np.sin(np.radians(poses.heading_deg)), abs=2e-4)
        assert north == pytest.approx(poses.speed_mps * np.cos(np.radians(poses.heading_deg)), abs=2e-4)

    def test_way_is_the_integral_of_the_speed(self, street: Street) -> None:
        instants = START_NS + np.arange(0, 600 * SECOND_NS, 10 * MILLISECOND_NS)
        poses = street.at_many(instants)
        way = np.concatenate([[0], np.cumsum((poses.speed_mps[1:] + poses.speed_mps[:-1]) / 2 * 0.01)])
        assert poses.distance_m == pytest.approx(way, abs=1e-3)

    def test_accelerations_are_those_of_a_car_with_passengers(self, street: Street) -> None:
        instants = START_NS + np.arange(0, 7200 * SECOND_NS, 50 * MILLISECOND_NS)
        poses = street.at_many(instants)
        heading = np.unwrap(np.radians(poses.heading_deg))
        lateral = poses.speed_mps[1:] * np.diff(heading) / 0.05
        assert np.abs(np.diff(poses.speed_mps)).max() / 0.05 <= 3.0
        assert np.abs(lateral).max() <= 4.0
        assert 20 < poses.speed_mps.max() <= 25.0 + 1e-9

    def test_the_first_minute_is_a_town(self, street: Street) -> None:
        instants = START_NS + np.arange(0, 60 * SECOND_NS, 100 * MILLISECOND_NS)
        poses = street.at_many(instants)
        standing = poses.speed_mps < 1e-9
        assert np.count_nonzero(np.diff(standing.astype(int)) == 1) == 1  # one stop
        assert poses.speed_mps.max() * 3.6 < 50
        heading = np.unwrap(poses.heading_deg, period=360)
        assert heading.max() - heading[0] > 85  # one turn to the right, and one back
        assert heading.max() - heading[-1] > 85

    def test_one_and_many_agree(self, street: Street) -> None:
        instants = _instants(900, 20)
        poses = street.at_many(instants)
        for index, utc_ns in enumerate(map(int, instants)):
            assert street.at(utc_ns).latitude == poses.latitude[index]
            assert street.at(utc_ns).heading_deg == poses.heading_deg[index]

    def test_endless_and_the_same_in_every_process(self, street: Street) -> None:
        early = street.at(START_NS + 100 * SECOND_NS)
        far = Street(seed=5, start_utc_ns=START_NS)
        assert far.at(START_NS + 9 * HOUR_NS).distance_m > 100_000
        assert far.at(START_NS + 100 * SECOND_NS) == early
        assert pickle.loads(pickle.dumps(far)).at(START_NS + 100 * SECOND_NS) == early
        assert Street(seed=6, start_utc_ns=START_NS).at(START_NS + HOUR_NS) != street.at(START_NS + HOUR_NS)

    def test_stands_before_the_start(self, street: Street) -> None:
        assert street.at(START_NS - HOUR_NS) == street.at(START_NS)
        assert street.at(START_NS).speed_mps == 0


class TestPhone:
    phone = Phone(refresh_hz=60.02, phase_ns=START_NS + 3_000_001, to_pi_ns=-250_000_000)

    def test_payload_is_time_sequence_and_check(self) -> None:
        for code in self.phone.drawn(START_NS, START_NS + SECOND_NS):
            assert len(code.payload) == 17
            assert int(code.payload[:14]) == (code.utc_ns - 250_000_000) // 100_000
            assert int(code.payload[14]) == code.refresh % 10
            assert int(code.payload[:15]) % 97 == int(code.payload[15:])

    def test_refreshes_keep_the_rate_for_hours(self) -> None:
        codes = Phone(refresh_hz=60.02, phase_ns=START_NS, skip_share=0).drawn(START_NS, START_NS + 60 * SECOND_NS)
        assert len(codes) == 3602  # 60 s x 60.02 Hz, the first one included
        far = self.phone.frame_utc_ns(10_000_000) - self.phone.frame_utc_ns(0)
        assert far == pytest.approx(10_000_000 / 60.02 * 1e9, abs=1)

    def test_some_refreshes_are_missed_and_always_the_same(self) -> None:
        skipped = [self.phone.is_skipped(number) for number in range(20_000)]
        assert 0.008 < np.mean(skipped) < 0.012
        assert skipped == [self.phone.is_skipped(number) for number in range(20_000)]

    def test_one_code_is_lit_at_any_instant(self) -> None:
        codes = self.phone.lit(START_NS, START_NS + 5 * SECOND_NS)
        assert all(one.dark_utc_ns == next_one.light_utc_ns for one, next_one in pairwise(codes))
        for utc_ns in map(int, _instants(4, 300)):
            (code,) = self.phone.lit(utc_ns)
            assert code in codes
            assert code.light_utc_ns <= utc_ns < code.dark_utc_ns
            assert code.light_utc_ns - code.utc_ns == 38 * MILLISECOND_NS

    def test_is_shown_only_while_it_is_held_up(self) -> None:
        phone = Phone(shown=((10, 20), (30, None)))
        assert [phone.is_shown(utc_ns) for utc_ns in (9, 10, 19, 20, 29, 30, 10**18)] == [0, 1, 1, 0, 0, 1, 1]
