"""Every picture has the PTS of its file, whatever the container, and belongs to one clock with its neighbours."""

from pathlib import Path

import numpy as np
import pytest

from rig import video
from rig.errors import UnreadableError
from simulator.film import read_number
from tests.films import TICK_NS, steady, write_film, write_index

B_FRAMES = {"g": "15", "bf": "2"}
NO_B_FRAMES = {"g": "15", "bf": "0"}
GAP = [*steady(20), *steady(20, first=60 * 3003)]


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["no B", "B"])
@pytest.mark.parametrize("ticks", [steady(40), GAP], ids=["steady", "gap"])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_each_picture_is_that_of_its_pts(
    tmp_path: Path, suffix: str, ticks: list[int], options: dict[str, str]
) -> None:
    path = tmp_path / f"film{suffix}"
    start = 126_000 if suffix == ".ts" else 0
    write_film(path, [start + tick for tick in ticks], options=options)
    clip = video.scan(path)
    assert (clip.pts_ns - clip.pts_ns[0]).tolist() == pytest.approx([float(tick * TICK_NS) for tick in ticks], abs=1)
    numbers = {number: read_number(video.luma(picture)) for number, picture in video.pictures(clip, range(len(ticks)))}
    assert numbers == {number: number for number in range(len(ticks))}


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES, {"g": "15", "bf": "2", "x264-params": "open-gop=1"}])
@pytest.mark.parametrize("wanted", [[0], [39], [3, 4, 5, 20], [14, 15, 16], [7, 37], [29, 30]])
def test_wanted_pictures_come_and_no_others(tmp_path: Path, wanted: list[int], options: dict[str, str]) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, steady(40), options=options)
    found = [(number, read_number(video.luma(picture))) for number, picture in video.pictures(video.scan(path), wanted)]
    assert found == [(number, number) for number in wanted]


def test_chapters_are_one_video_on_one_clock(tmp_path: Path) -> None:
    for chapter in (1, 2):
        write_film(tmp_path / f"GX0{chapter}0007.MP4", steady(20), first_number=20 * (chapter - 1))
    write_film(tmp_path / "GX010008.MP4", steady(5))
    files = sorted(tmp_path.glob("*.MP4"))
    videos = video.find_videos(files)
    assert [[clip.path.name for clip in item.clips] for item in videos] == [
        ["GX010007.MP4", "GX020007.MP4"],
        ["GX010008.MP4"],
    ]
    clock = np.concatenate([clip.clock_ns for clip in videos[0].clips])
    assert clock.tolist() == pytest.approx([float(tick * TICK_NS) for tick in steady(40)], abs=2)


def test_segments_of_a_stream_are_one_video_until_it_is_started_anew(tmp_path: Path) -> None:
    for number, first in enumerate((900_000, 900_000 + 20 * 3003, 40_000), start=1):
        write_film(tmp_path / f"stream-00{number}.ts", steady(20, first=first))
    write_index(tmp_path / "stream-001.ts", 5_000_000_000)
    write_index(tmp_path / "stream-002.ts", 5_000_003_000)
    write_index(tmp_path / "stream-003.ts", 25_000_000_000)
    videos = video.find_videos(sorted(tmp_path.glob("*.ts")), "left")
    assert [len(item.clips) for item in videos] == [2, 1]
    assert [item.camera for item in videos] == ["left", "left"]
    assert videos[0].arrival_offset_ns == pytest.approx(5_000_000_000, abs=20)
    assert np.diff(np.concatenate([clip.clock_ns for clip in videos[0].clips])).max() < 34_000_000


def test_a_pts_that_wraps_between_segments_goes_on(tmp_path: Path) -> None:
    last = 2**33 - 10 * 3003
    write_film(tmp_path / "stream-001.ts", steady(10, first=last))
    write_film(tmp_path / "stream-002.ts", steady(10, first=2**33 - last - 10 * 3003))
    (item,) = video.find_videos(sorted(tmp_path.glob("*.ts")), "left")
    steps = np.diff(np.concatenate([clip.clock_ns for clip in item.clips]))
    assert steps.tolist() == pytest.approx([float(3003 * TICK_NS)] * 19, abs=2)


@pytest.mark.parametrize(
    "content", [b"", b"this is text, not a video\n" * 100, bytes(5000)], ids=["empty", "text", "zeros"]
)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_what_is_no_video_is_refused_in_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"film{suffix}"
    path.write_bytes(content)
    with pytest.raises(UnreadableError, match=path.name):
        video.find_videos([path])


def test_a_video_that_was_cut_short_gives_what_it_holds(tmp_path: Path) -> None:
    write_film(tmp_path / "whole.ts", steady(40, first=900))
    content = (tmp_path / "whole.ts").read_bytes()
    (tmp_path / "cut.ts").write_bytes(content[: len(content) * 2 // 3])
    clip = video.scan(tmp_path / "cut.ts")
    assert 15 < len(clip.pts) < 40
    read = [read_number(video.luma(picture)) for number, picture in video.pictures(clip, range(15))]
    assert read == list(range(15))


def test_a_bad_file_among_good_ones_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    write_film(tmp_path / "b.mp4", steady(5))
    assert [item.name for item in video.find_videos([tmp_path / "a.mp4", tmp_path / "b.mp4"])] == ["b.mp4"]


def test_a_real_gopro_file_has_its_own_pts(shared_data: Path) -> None:
    clip = video.scan(shared_data / "gopro" / "max-heromode.mp4")
    assert clip.pts.tolist() == [3003 * number for number in range(315)]
    assert [number for number, _ in video.pictures(clip, [0, 100, 314])] == [0, 100, 314]
