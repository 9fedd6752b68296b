"""Photos show what the camera saw: true colours, their own frame, and words for what is wrong with them."""

import struct
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from configs import Settings
from rig.footage import pixels, video
from rig.photo import exif, extraction, jpeg, look
from rig.photo.extraction import Made, Manner, Work
from rig.photo.sampling import Pick
from rig.timing import cameraclock
from simulator.film import read_number
from tests.films import BEGIN_NS, CLOCK_HZ, TICKS_PER_FRAME, steady, write_film

MANNER = Manner(min_sharpness=0.0, quality=92, settings=Settings())
CARD = np.array(
    [[192, 48, 32], [32, 64, 200], [16, 160, 48], [182, 101, 34], [154, 17, 251]]
    + [[level] * 3 for level in (250, 128, 8)]
)
BT709, BT601, BT2020 = (0.2126, 0.0722, 1), (0.299, 0.114, 5), (0.2627, 0.0593, 9)  # red, blue, FFmpeg's number
UNSPECIFIED = 2
FULL, LIMITED = 2, 1
Picture = npt.NDArray[np.uint8]


def card_planes(red: float, blue: float, color_range: int) -> list[npt.NDArray[np.float64]]:
    """Y, U and V of stripes in the card's colours, as ITU-R BT.709 3.2 and 3.3 have them; 1280 x 720."""
    colours = CARD / 255
    luma = colours @ [red, 1 - red - blue, blue]
    chroma = (colours[:, 2] - luma) / (2 * (1 - blue)), (colours[:, 0] - luma) / (2 * (1 - red))
    y, c, black = (255, 255, 0) if color_range == FULL else (219, 224, 16)
    stripe = np.arange(1280) * len(CARD) // 1280
    return [
        np.tile((luma * y + black)[stripe], (720, 1)),
        *(np.tile((part * c + 128)[stripe][::2], (360, 1)) for part in chroma),
    ]


def write_card(path: Path, weights: tuple[float, float, int], color_range: int, codec: str, pixels: str) -> None:
    """A film of the card in one of the ways that cameras code colours."""
    red, blue, space = weights
    deep = "10" in pixels
    kind = np.dtype("<u2" if deep else "u1")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30), options={"crf": "8"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = space, color_range
        for number in range(3):
            frame = av.VideoFrame(1280, 720, pixels)
            for plane, values in zip(frame.planes, card_planes(red, blue, color_range), strict=True):
                rows = np.frombuffer(memoryview(plane), kind).reshape(-1, plane.line_size // kind.itemsize)
                rows[: values.shape[0], : values.shape[1]] = np.rint(values * (4 if deep else 1))
            frame.pts, frame.colorspace, frame.color_range = number, space, color_range
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("weights", "color_range", "codec", "pixels"),
    [
        (BT709, FULL, "libx264", "yuvj420p"),
        (BT709, LIMITED, "libx264", "yuv420p"),
        (BT709, LIMITED, "libx265", "yuv420p10le"),
        (BT709, FULL, "libx265", "yuv420p10le"),
        ((*BT709[:2], UNSPECIFIED), LIMITED, "libx264", "yuv420p"),
        (BT601, LIMITED, "libx264", "yuv420p"),
        (BT2020, LIMITED, "libx265", "yuv420p10le"),
    ],
)
def test_colours_come_out_of_the_jpeg_as_they_were(
    tmp_path: Path, weights: tuple[float, float, int], color_range: int, codec: str, pixels: str
) -> None:
    write_card(tmp_path / "card.mp4", weights, color_range, codec, pixels)
    (made,) = extract(tmp_path, [Pick(0, (1,))], name="card.mp4")
    assert made.row is not None
    shown = cv2.imread(str(tmp_path / "card" / Path(made.row.photo).name))
    assert shown is not None
    middles = [(2 * n + 1) * 1280 // (2 * len(CARD)) for n in range(len(CARD))]
    stripes = [shown[300:400, middle - 40 : middle + 40] for middle in middles]
    colours = np.array([stripe.reshape(-1, 3)[:, ::-1].mean(axis=0) for stripe in stripes])
    assert np.abs(colours - CARD).max() <= 3


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_film_of_a_camera_that_was_turned_gives_upright_photos(tmp_path: Path, quarters: int) -> None:
    write_film(tmp_path / "film.mp4", steady(3))
    film = bytearray((tmp_path / "film.mp4").read_bytes())
    at = film.index(b"tkhd") + 44  # its matrix, ISO/IEC 14496-12, 8.3.2: how a player has to turn it clockwise
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters]
    film[at : at + 36] = struct.pack(">9i", *(65_536 * value for value in (cos, sin, 0, -sin, cos, 0, 0, 0)), 1 << 30)
    (tmp_path / "film.mp4").write_bytes(film)
    (made,) = extract(tmp_path, [Pick(0, (1,))])
    assert made.row is not None
    path = tmp_path / "film" / Path(made.row.photo).name
    shown = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert shown is not None
    assert shown.shape == ((360, 640) if quarters == 2 else (640, 360))
    assert jpeg.size_of(path.read_bytes()) == shown.shape[::-1]
    assert exif.read_block(path.read_bytes()).numbers("exif", 0xA002) == (shown.shape[1],)
    assert read_number(np.ascontiguousarray(np.rot90(shown, quarters), dtype=np.uint8)) == 1


def extract(folder: Path, picks: list[Pick], *, name: str = "film.mp4", manner: Manner = MANNER) -> list[Made]:
    """What comes of these picks of a film in a folder."""
    (item,) = video.find_videos([folder / name])
    clock = cameraclock.given(item.first_ns, BEGIN_NS, 0, 50.0)
    return list(extraction.extract_all([Work(video=item, clock=clock, picks=picks)], folder, manner, jobs=2))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a film of 2 s."""
    folder = tmp_path_factory.mktemp("film")
    write_film(folder / "film.mp4", steady(60))
    return folder


def test_each_photo_is_the_picture_of_its_row(film: Path) -> None:
    picks = [Pick(0, (number,)) for number in range(0, 60, 3)]
    made = sorted(extract(film, picks), key=lambda one: one.row.frame or 0 if one.row else 0)
    assert len({one.key for one in made}) == len(picks)
    for pick, one in zip(picks, made, strict=True):
        assert one.row is not None
        picture = cv2.imread(str(film / "film" / Path(one.row.photo).name), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        assert read_number(np.asarray(picture, dtype=np.uint8)) == one.row.frame == pick.frames[0]
        assert one.row.pts_s == pytest.approx(pick.frames[0] * TICKS_PER_FRAME / CLOCK_HZ, abs=1e-9)


def test_the_sharpest_of_the_neighbours_is_kept(tmp_path: Path) -> None:
    write_film(tmp_path / "sharp.mp4", steady(9))
    frames = [picture for _, picture in pixels.pictures(video.scan(tmp_path / "sharp.mp4"), range(9))]
    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(30), options={"g": "15", "bf": "0", "crf": "12"})
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for number, frame in enumerate(frames):
            y = pixels.luma(frame)
            if number != 4:
                y[:] = cv2.GaussianBlur(y, (0, 0), 3)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (best,) = extract(tmp_path, [Pick(0, (3, 4, 5))])
    assert best.row is not None
    assert best.row.frame == 4
    assert "blurred" not in best.row.flags
    (soft,) = extract(tmp_path, [Pick(0, (6, 7, 8))])
    assert soft.row is not None
    assert soft.row.flags == "blurred"
    limit = replace(MANNER, min_sharpness=((best.row.sharpness or 0) + (soft.row.sharpness or 0)) / 2)
    kept = extract(tmp_path, [Pick(0, (4,)), Pick(0, (7,))], manner=limit)
    assert sorted(one.kept for one in kept) == [False, True]


@pytest.mark.parametrize(("full_range", "black", "white"), [(True, 0, 255), (False, 16, 235)])
def test_covered_and_blinded_lenses_are_told(full_range: bool, black: int, white: int) -> None:
    noise = np.random.default_rng(1).integers(0, 6, (360, 640))
    for level, word in ((black, "dark"), (white - 5, "bright"), ((black + white) // 2, "")):
        picture = (level + noise).clip(0, 255).astype(np.uint8)
        assert " ".join(look.judge(picture, full_range).doubts) == word
    half_white = np.full((360, 640), (black + white) // 3, np.uint8)
    half_white[:200] = white
    assert look.judge(half_white, full_range).doubts == ("bright",)


@pytest.mark.parametrize("rows", [360, 1080])
def test_blur_is_told_from_a_scene_without_detail(rows: int, tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", steady(2), size=(rows * 16 // 9, rows), options={"crf": "18", "bf": "0"})
    ((_, picture),) = pixels.pictures(video.scan(tmp_path / "film.mp4"), [1])
    sharp = pixels.luma(picture)
    assert look.judge(sharp).doubts == ()
    assert look.judge(np.full_like(sharp, 90)).doubts == ()
    noise = np.random.default_rng(1).normal(0, 3, sharp.shape)
    for length in (9, 15, 25):
        moved = cv2.blur(sharp, (length, 1))
        assert look.judge((moved + noise).clip(0, 255).astype(np.uint8)).doubts == ("blurred",)
    assert look.judge((sharp + noise).clip(0, 255).astype(np.uint8)).doubts == ()


def test_the_tags_are_in_the_jpeg_when_it_is_first_written(film: Path) -> None:
    (made,) = extract(film, [Pick(0, (30,))])
    assert made.row is not None
    block = exif.read_block((film / "film" / Path(made.row.photo).name).read_bytes())
    assert block.is_ours
    assert block.text("exif", exif.ORIGINAL) == "2026:11:22 14:03:13"
    assert block.text("exif", exif.ORIGINAL_SUBSEC) == "001"


def test_a_privacy_command_sees_each_photo_before_anybody_else(film: Path, tmp_path: Path) -> None:
    script = tmp_path / "mask.py"
    script.write_text(
        "import cv2, sys\npicture = cv2.imread(sys.argv[1])\npicture[:] = 77\ncv2.imwrite(sys.argv[1], picture)\n"
    )
    settings = Settings(privacy_command=(sys.executable, str(script)), privacy_timeout_s=60.0)
    (made,) = extract(film, [Pick(0, (31,))], manner=replace(MANNER, settings=settings))
    assert made.row is not None
    path = film / "film" / Path(made.row.photo).name
    assert exif.read_block(path.read_bytes()).privacy
    picture = cv2.imread(str(path))
    assert picture is not None
    assert np.abs(picture.astype(int) - 77).max() <= 2
    path.unlink()
    failing = replace(MANNER, settings=Settings(privacy_command=("false",)))
    (withheld,) = extract(film, [Pick(0, (31,))], manner=failing)
    assert withheld.row is None
    assert "false" in withheld.why
    assert not path.exists()


def test_whoever_stops_asking_stops_the_work(film: Path) -> None:
    (item,) = video.find_videos([film / "film.mp4"])
    clock = cameraclock.given(item.first_ns, BEGIN_NS, 0, 50.0)
    work = Work(video=item, clock=clock, picks=[Pick(0, (number,)) for number in range(60)])
    going = extraction.extract_all([work], film, MANNER, jobs=1)
    next(going)
    going.close()
    assert len(list((film / "film").glob("*.jpg"))) < 60


def test_memory_bounds_how_many_decoders_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_film(tmp_path / "film.mp4", steady(2))
    (item,) = video.find_videos([tmp_path / "film.mp4"])
    monkeypatch.setattr(extraction, "cores", lambda: 16)
    clock = cameraclock.given(item.first_ns, BEGIN_NS, 0, 50.0)
    assert extraction.usual_jobs([Work(video=item, clock=clock, picks=[])]) == 16
    monkeypatch.setattr(extraction, "MEMORY_BYTES", 3 * extraction.HELD_PICTURES * item.clips[0].picture_bytes)
    assert extraction.usual_jobs([Work(video=item, clock=clock, picks=[])]) == 3
