"""Every picture has the PTS of its file, whatever the container, and belongs to one clock with its neighbours."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from rig.errors import UnreadableError
from rig.footage import pixels, video
from simulator.film import read_number
from tests.films import TICK_NS, TICKS_PER_FRAME, cut, steady, varying, without_packets, write_film, write_index

B_FRAMES = {"g": "15", "bf": "2"}
NO_B_FRAMES = {"g": "15", "bf": "0"}
OPEN_GROUPS = {"g": "15", "bf": "2", "x264-params": "open-gop=1"}
GAP = [*steady(20), *steady(20, first=60 * 3003)]


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["no B", "B"])
@pytest.mark.parametrize("ticks", [steady(40), GAP, varying(40)], ids=["steady", "gap", "VFR"])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_each_picture_is_that_of_its_pts(
    tmp_path: Path, suffix: str, ticks: list[int], options: dict[str, str]
) -> None:
    path = tmp_path / f"film{suffix}"
    start = 126_000 if suffix == ".ts" else 0
    write_film(path, [start + tick for tick in ticks], options=options)
    clip = video.scan(path)
    assert (clip.pts_ns - clip.pts_ns[0]).tolist() == pytest.approx([float(tick * TICK_NS) for tick in ticks], abs=1)
    numbers = {
        number: read_number(pixels.luma(picture)) for number, picture in pixels.pictures(clip, range(len(ticks)))
    }
    assert numbers == {number: number for number in range(len(ticks))}


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES, OPEN_GROUPS])
@pytest.mark.parametrize("wanted", [[0], [39], [3, 4, 5, 20], [14, 15, 16], [7, 37], [29, 30]])
def test_wanted_pictures_come_and_no_others(tmp_path: Path, wanted: list[int], options: dict[str, str]) -> None:
    path = tmp_path / "film.mp4"
    write_film(path, steady(40), options=options)
    found = [
        (number, read_number(pixels.luma(picture))) for number, picture in pixels.pictures(video.scan(path), wanted)
    ]
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


def test_segments_without_an_index_go_on_over_a_gap_until_the_clock_starts_anew(tmp_path: Path) -> None:
    after_gap, wrapped = 900_000 + 5 * 90_000, 2**33 - 30_000
    for number, first in enumerate((900_000, after_gap, 126_000, wrapped, 60 * 90_000), start=1):
        write_film(tmp_path / f"stream-00{number}.ts", steady(20, first=first))
    videos = video.find_videos(sorted(tmp_path.glob("*.ts")), "left")
    assert [[clip.path.stem[-1] for clip in item.clips] for item in videos] == [["1", "2"], ["3"], ["4", "5"]]
    for item, gap_ticks in ((videos[0], after_gap - 900_000), (videos[2], 60 * 90_000 + 30_000)):
        starts = [int(clip.clock_ns[0]) for clip in item.clips]
        assert starts[1] - starts[0] == pytest.approx(float(gap_ticks * TICK_NS), abs=2)


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
    read = [read_number(pixels.luma(picture)) for number, picture in pixels.pictures(clip, range(15))]
    assert read == list(range(15))


def test_an_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    write_film(tmp_path / "whole.mp4", steady(40))
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: content.rindex(b"moov") - 4])
    with pytest.raises(UnreadableError, match=r"cut\.mp4 was cut off before its index.*copy it anew"):
        video.find_videos([tmp_path / "cut.mp4"])
    (tmp_path / "broken.mp4").write_bytes(content[: content.rindex(b"moov") + 4] + bytes(500))
    with pytest.raises(UnreadableError, match=r"broken\.mp4 holds no video"):
        video.find_videos([tmp_path / "broken.mp4"])


def test_a_bad_file_among_good_ones_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    write_film(tmp_path / "b.mp4", steady(5))
    assert [item.name for item in video.find_videos([tmp_path / "a.mp4", tmp_path / "b.mp4"])] == ["b.mp4"]


@pytest.mark.parametrize(
    ("codec", "form", "options"),
    [
        ("libx264", "yuv420p", NO_B_FRAMES),
        ("libx264", "yuv420p", B_FRAMES),
        ("libx264", "yuv420p", OPEN_GROUPS),
        ("libx265", "yuv420p10le", {"x265-params": "keyint=15:bframes=3:log-level=error"}),
    ],
    ids=["no B", "B", "open groups", "HEVC 10 bit"],
)
def test_what_an_edit_list_hides_is_decoded_and_not_shown(
    tmp_path: Path, codec: str, form: str, options: dict[str, str]
) -> None:
    write_film(tmp_path / "film.mp4", steady(60), codec=codec, pixels=form, options=options)
    cut(tmp_path / "film.mp4", tmp_path / "cut.mp4", 0.9)
    clip = video.scan(tmp_path / "cut.mp4")
    assert len(clip.pts) == 33 < len(clip.packet_pts)
    for wanted in (range(33), [2], [20]):
        numbers = [(number, read_number(pixels.luma(picture))) for number, picture in pixels.pictures(clip, wanted)]
        assert numbers == [(number, number + 27) for number in wanted]


@pytest.mark.parametrize("first", [126_000, 2**33 - 70 * TICKS_PER_FRAME], ids=["plain", "wrapping"])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["no B", "B"])
def test_far_pictures_are_found_without_reading_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str], suffix: str, first: int
) -> None:
    path = tmp_path / f"film{suffix}"
    write_film(path, steady(300, first=first if suffix == ".ts" else 0), options=options)
    clip = video.scan(path)
    assert np.unique(np.diff(clip.pts)).tolist() == [TICKS_PER_FRAME]
    read = []
    decode = pixels._decode

    def counted(decoder: av.VideoCodecContext, packet: Any) -> list[av.VideoFrame] | None:
        read.append(packet)
        return decode(decoder, packet)

    monkeypatch.setattr(pixels, "_decode", counted)
    wanted = [3, 140, 141, 299]
    found = [(number, read_number(pixels.luma(picture))) for number, picture in pixels.pictures(clip, wanted)]
    assert found == [(number, number) for number in wanted]
    assert len(read) < 50


@pytest.mark.parametrize("options", [NO_B_FRAMES, B_FRAMES], ids=["no B", "B"])
def test_each_picture_that_a_loss_spoils_is_known(tmp_path: Path, options: dict[str, str]) -> None:
    whole, lossy = tmp_path / "whole.ts", tmp_path / "lossy.ts"
    write_film(whole, steady(60, first=126_000), options=options)
    reference = dict(lumas(whole))
    packets = whole.stat().st_size // 188
    differing = 0
    for lost in range(20, packets - 20, packets // 12):
        without_packets(whole, lossy, range(lost, lost + 7))
        clip = video.scan(lossy)
        assert len(clip.damaged) <= 30
        for pts, luma in lumas(lossy):
            if not np.array_equal(luma, reference[pts]):
                differing += 1
                assert int(np.flatnonzero(clip.pts == pts)[0]) in clip.damaged
    assert differing > 50
    assert video.scan(whole).damaged == frozenset()


def lumas(path: Path) -> list[tuple[int, npt.NDArray[np.uint8]]]:
    """PTS and brightness of all pictures that can be decoded."""
    clip = video.scan(path)
    return [
        (int(clip.pts[number]), pixels.luma(picture).copy())
        for number, picture in pixels.pictures(clip, range(len(clip.pts)))
    ]


def test_packets_out_of_step_are_a_loss(tmp_path: Path) -> None:
    write_film(tmp_path / "whole.ts", steady(60, first=126_000))
    data = (tmp_path / "whole.ts").read_bytes()
    middle = len(data) // 2
    (tmp_path / "torn.ts").write_bytes(data[:middle] + data[middle + 1000 :])
    assert 0 < len(video.scan(tmp_path / "torn.ts").damaged) <= 30


def test_a_damaged_file_marks_its_pictures_up_to_the_next_key_frame(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", steady(60))
    clip = video.scan(tmp_path / "film.mp4")
    reference = [pixels.luma(picture).copy() for _, picture in pixels.pictures(clip, range(60))]
    data = bytearray((tmp_path / "film.mp4").read_bytes())
    middle = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 300] = bytes(range(250, 256)) * 50
    (tmp_path / "film.mp4").write_bytes(data)
    judged = {number: (picture, bad) for number, picture, bad in pixels.judged_pictures(clip, range(60))}
    differing = [number for number, (picture, _) in judged.items() if (pixels.luma(picture) != reference[number]).any()]
    assert 0 < len(differing) <= 15
    assert all(judged[number][1] for number in differing)
    assert sum(bad for _, bad in judged.values()) <= 15


def test_a_file_whose_clock_starts_anew_gives_what_comes_before(tmp_path: Path) -> None:
    write_film(tmp_path / "a.ts", steady(30, first=126_000))
    write_film(tmp_path / "b.ts", steady(30, first=9_000), first_number=1000)
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    clip = video.scan(both)
    assert clip.doubt == video.SET_BACK
    assert [read_number(pixels.luma(picture)) for _, picture in pixels.pictures(clip, range(30))] == list(range(30))


def test_a_missing_chapter_parts_the_video(tmp_path: Path) -> None:
    for chapter in (1, 2, 4):
        write_film(tmp_path / f"GX0{chapter}0007.MP4", steady(5))
    write_film(tmp_path / "GH010007.MP4", steady(5))
    write_film(tmp_path / "GOPR0008.MP4", steady(5))
    write_film(tmp_path / "GP010008.MP4", steady(5))
    videos = video.find_videos(list(tmp_path.glob("*.MP4")))
    assert sorted([clip.path.name for clip in item.clips] for item in videos) == [
        ["GH010007.MP4"],
        ["GOPR0008.MP4", "GP010008.MP4"],
        ["GX010007.MP4", "GX020007.MP4"],
        ["GX040007.MP4"],
    ]


def test_videos_of_one_name_in_two_folders_are_two_cameras(tmp_path: Path) -> None:
    for folder in ("left", "right"):
        (tmp_path / folder).mkdir()
        write_film(tmp_path / folder / "GX010001.MP4", steady(5))
    files = [tmp_path / folder / "GX010001.MP4" for folder in ("left", "right", "left")]
    assert sorted(item.camera for item in video.find_videos(files)) == ["left-GX010001", "right-GX010001"]


def test_ten_bits_are_seen_as_eight(tmp_path: Path) -> None:
    options = {"x265-params": "keyint=15:bframes=0:log-level=error"}
    write_film(tmp_path / "deep.mp4", steady(3), codec="libx265", pixels="yuv420p10le", options=options)
    ((_, picture),) = pixels.pictures(video.scan(tmp_path / "deep.mp4"), [1])
    assert picture.format.name == "yuv420p10le"
    deep = np.frombuffer(memoryview(picture.planes[0]), "<u2").reshape(-1, picture.planes[0].line_size // 2)
    assert np.abs(pixels.luma(picture).astype(int) - deep[:360, :640] / 4).max() <= 0.5


def test_a_real_gopro_file_has_its_own_pts(shared_data: Path) -> None:
    clip = video.scan(shared_data / "gopro" / "max-heromode.mp4")
    assert clip.pts.tolist() == [3003 * number for number in range(315)]
    assert [number for number, _ in pixels.pictures(clip, [0, 100, 314])] == [0, 100, 314]
