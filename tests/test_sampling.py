"""Photos are wanted at whole multiples of time or way, at key frames, and only once while the car stands."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from rig.clock import NS_PER_S
from rig.errors import UsageError
from rig.footage import video
from rig.footage.video import Video
from rig.gnss.fix import Fix
from rig.gnss.positions import Track
from rig.photo import sampling
from rig.photo.sampling import Pick
from rig.photo.spacing import Every
from tests.films import BEGIN_NS, steady, write_film

METRES_PER_DEGREE = 111_195.0
STANDING_MPS = 0.3


@pytest.fixture(scope="module")
def item(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Two chapters of 5 s each."""
    folder = tmp_path_factory.mktemp("chapters")
    for chapter in (1, 2):
        write_film(folder / f"GX0{chapter}0007.MP4", steady(150))
    (found,) = video.find_videos(list(folder.iterdir()))
    return found


def utc_of(item: Video) -> npt.NDArray[np.int64]:
    return BEGIN_NS + np.concatenate([clip.clock_ns for clip in item.clips])


def driven(speeds_mps: list[float]) -> Track:
    """A log of one fix a second, northwards, with these speeds between the fixes."""
    way_m = np.concatenate([[0.0], np.cumsum(speeds_mps)])
    fixes = [
        Fix(
            utc_ns=BEGIN_NS + second * NS_PER_S,
            latitude=47.0 + metres / METRES_PER_DEGREE,
            longitude=-1.0,
            quality=4,
            speed_mps=max(speeds_mps[max(0, second - 1)], speeds_mps[min(second, len(speeds_mps) - 1)]),
        )
        for second, metres in enumerate(way_m)
    ]
    return Track.of_logs([fixes])


def wanted(item: Video, every: str, track: Track | None = None, sharpest_of: int = 1) -> list[Pick]:
    return sampling.picks(item, utc_of(item), sampling.parse_every(every), sharpest_of, track, STANDING_MPS)


def seconds(item: Video, picks: list[Pick]) -> npt.NDArray[np.float64]:
    """When each picture was taken, since the beginning."""
    clock = [item.clips[pick.clip].clock_ns[pick.frames[len(pick.frames) // 2]] for pick in picks]
    return np.asarray((np.array(clock) - item.first_ns) / NS_PER_S, dtype=np.float64)


def test_time_is_cut_into_whole_multiples_over_chapters(item: Video) -> None:
    times = seconds(item, wanted(item, "0.5s"))
    assert len(times) == 20
    assert np.abs(times - np.arange(20) * 0.5).max() < 0.017
    assert {pick.clip for pick in wanted(item, "0.5s")} == {0, 1}


def test_neighbours_are_of_the_same_file_and_never_of_two_photos(item: Video) -> None:
    for sharpest_of in (3, 5, 99):
        picks = wanted(item, "0.2s", sharpest_of=sharpest_of)
        frames = [(pick.clip, frame) for pick in picks for frame in pick.frames]
        assert len(frames) == len(set(frames))
        assert all(0 <= frame < 150 for _, frame in frames)
        assert max(len(pick.frames) for pick in picks) == min(sharpest_of, 6)  # 0.2 s at 29.97 fps


def test_beside_a_key_frame_pictures_are_taken_that_need_no_other_group(item: Video) -> None:
    keys = item.clips[0].keys
    for number, frames in ((14, (13, 14, 15)), (15, (15, 16, 17)), (16, (15, 16, 17)), (7, (6, 7, 8)), (1, (0, 1, 2))):
        begin = sampling._cheapest(number - 1, 3, keys, 1)
        assert tuple(range(begin, begin + 3)) == frames
    for pick in wanted(item, "0.5s", sharpest_of=3):
        assert len(pick.frames) == 3
        assert pick.frames[0] % 15 <= 12  # never of two groups


@pytest.mark.parametrize("sharpest_of", [1, 2, 3, 5, 9])
def test_the_nearest_picture_is_always_compared(item: Video, sharpest_of: int) -> None:
    for every in ("0.43s", "0.5s", "0.9s"):
        nearest = [(pick.clip, *pick.frames) for pick in wanted(item, every, sharpest_of=1)]
        compared = [(pick.clip, pick.frames) for pick in wanted(item, every, sharpest_of=sharpest_of)]
        assert all(
            clip == own and frame in frames for (clip, frame), (own, frames) in zip(nearest, compared, strict=True)
        )


def test_each_key_frame_once(item: Video) -> None:
    picks = wanted(item, "key", sharpest_of=5)
    assert [(pick.clip, *pick.frames) for pick in picks] == [(clip, n) for clip in (0, 1) for n in range(0, 150, 15)]


def test_way_is_cut_into_whole_multiples(item: Video) -> None:
    times = seconds(item, wanted(item, "5m", driven([10.0] * 10)))
    assert np.abs(times - np.arange(20) * 0.5).max() < 0.017
    with pytest.raises(UsageError, match="--positions"):
        wanted(item, "5m")


@pytest.mark.parametrize("every", ["0.5s", "key"])
def test_a_stop_gives_one_photo_that_says_so(item: Video, every: str) -> None:
    track = driven([10.0, 10.0, 10.0, 0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 10.0])
    picks = wanted(item, every, track)
    times = seconds(item, picks)
    standing = [pick.standing for pick in picks]
    assert sum(standing) == 1
    assert sum((times > 4) & (times < 5)) == 1
    assert len(picks) == len(wanted(item, every)) - 1
    assert len(sampling.picks(item, utc_of(item), sampling.parse_every(every), 1, track, 0.0)) == len(
        wanted(item, every)
    )


def test_a_whole_video_of_a_parked_car_is_one_photo(item: Video) -> None:
    assert len(wanted(item, "0.5s", driven([0.0] * 10))) == 1


def test_creeping_and_slow_noise_are_told_apart(item: Video) -> None:
    assert len(wanted(item, "0.5s", driven([0.5] * 10))) == 20  # creeping is driving
    noisy = driven([0.05] * 10)
    assert len(wanted(item, "0.5s", noisy)) == 1


def test_a_film_beside_a_gap_gives_nothing_in_it(tmp_path: Path) -> None:
    write_film(tmp_path / "gap.ts", [*steady(30, first=9_000), *steady(30, first=9_000 + 120 * 3003)])
    (found,) = video.find_videos([tmp_path / "gap.ts"])
    times = seconds(found, wanted(found, "0.1s"))
    assert not ((times > 1.1) & (times < 3.9)).any()
    assert (np.diff(times) > 0).all()


def test_a_gap_takes_the_neighbours_only_from_the_photos_beside_it(tmp_path: Path) -> None:
    write_film(tmp_path / "gap.ts", [*steady(58, first=9_000), *steady(60, first=9_000 + 72 * 3003)])
    (found,) = video.find_videos([tmp_path / "gap.ts"])
    picks = wanted(found, "0.5s", sharpest_of=3)
    beside = [len(pick.frames) for pick in picks if {57, 58} & set(pick.frames)]
    assert beside == [1, 1]
    assert [len(pick.frames) for pick in picks].count(3) == len(picks) - 2
    frames = [frame for pick in picks for frame in pick.frames]
    assert len(frames) == len(set(frames))


def test_where_a_film_s_frame_rate_falls_photos_are_still_taken(tmp_path: Path) -> None:
    slow = 18_000  # 5 pictures a second after 60
    write_film(tmp_path / "night.mp4", [*range(0, 4 * 90_000, 1_500), *range(4 * 90_000, 8 * 90_000, slow)])
    (found,) = video.find_videos([tmp_path / "night.mp4"])
    times = seconds(found, wanted(found, "0.5s"))
    assert len(times) == 16
    assert np.abs(times - np.arange(16) * 0.5).max() <= 0.1


@pytest.mark.parametrize("text", ["", "0", "0s", "-1s", "5km", "keys", "1e3s", "٣s", "nan"])
def test_what_is_no_interval_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        sampling.parse_every(text)


def test_intervals_are_read() -> None:
    assert sampling.parse_every("0.5") == sampling.parse_every("0.5s") == Every(0.5, "s")
    assert sampling.parse_every("5m") == Every(5.0, "m")
