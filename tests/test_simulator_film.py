"""Pictures of the simulated cameras: what they show is true, and survives what video does to it."""

import io
from collections.abc import Iterator
from fractions import Fraction

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import zxingcpp

from simulator.facade import draw_street
from simulator.film import Film, read_number
from simulator.phone import Drawn, Phone, draw_modules
from simulator.screen import EXPOSURE_NS, READ_OUT_NS
from simulator.world import SECOND_NS, Street, World

START_NS = 1_795_000_000_000_000_000
MILLISECOND_NS = 1_000_000
WORLD = World(START_NS, 0)
STREET = Street(seed=1, start_utc_ns=START_NS)
PHONE = Phone(refresh_hz=60.02, phase_ns=START_NS + 5_000_000, shown=((START_NS, None),))

Luma = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def film() -> Film:
    return Film(WORLD, STREET, "left", 1920, 1080)


@pytest.fixture(scope="module")
def small_film() -> Film:
    return Film(WORLD, STREET, "right", 1280, 720)


def _luma(frame: av.VideoFrame) -> Luma:
    return frame.to_ndarray()[: frame.height].astype(np.uint8, copy=False)


def _through_h264(frames: Iterator[av.VideoFrame], height: int, megabits: float) -> Iterator[av.VideoFrame]:
    """Frames at 30 a second, encoded as the simulated cameras do and decoded again."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = height * 16 // 9, height, "yuv420p"
        stream.bit_rate = int(megabits * 1e6)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as decoder:
        yield from decoder.decode(video=0)


class TestNumber:
    @pytest.mark.parametrize("height", [1080, 720, 480])
    def test_reads_what_was_drawn(self, height: int) -> None:
        film = Film(WORLD, STREET, "left", height * 16 // 9 // 2 * 2, height)
        dice = np.random.default_rng(height)
        for number in (0, 1, 2**24 - 1, *map(int, dice.integers(0, 2**24, 30))):
            assert read_number(_luma(film.picture(START_NS, number))) == number

    @pytest.mark.parametrize("megabits", [4.0, 1.0])
    def test_survives_h264_while_moving(self, film: Film, megabits: float) -> None:
        numbers = [7_654_321 * index % 2**24 for index in range(30)]
        pictures = (film.picture(START_NS + 12 * SECOND_NS + i * 33_366_667, n) for i, n in enumerate(numbers))
        assert [read_number(_luma(frame)) for frame in _through_h264(pictures, 1080, megabits)] == numbers

    @pytest.mark.parametrize("quality", [80, 40])
    def test_survives_jpeg(self, film: Film, small_film: Film, quality: int) -> None:
        for picture in (film.picture(START_NS, 1_234_567), small_film.picture(START_NS, 1_234_567)):
            _, jpeg = cv2.imencode(".jpg", picture.to_ndarray(format="bgr24"), [cv2.IMWRITE_JPEG_QUALITY, quality])
            grey = cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)
            assert grey is not None
            assert read_number(grey.astype(np.uint8)) == 1_234_567

    def test_no_number_in_pictures_without_one(self) -> None:
        street = draw_street(720, seed=3).y
        dice = np.random.default_rng(2)
        for left in dice.integers(0, street.shape[1] - 1280, 300):
            assert read_number(street[:, left : left + 1280]) is None
        for _ in range(20):
            assert read_number(dice.integers(0, 256, (720, 1280), np.uint8)) is None
        for level in (0, 16, 128, 235, 255):
            assert read_number(np.full((720, 1280), level, np.uint8)) is None

    def test_no_number_in_random_blocks(self) -> None:
        dice = np.random.default_rng(3)
        found = 0
        luma = np.zeros((1080, 1920), np.uint8)
        for _ in range(2000):
            luma[1056:1072] = np.repeat(dice.integers(0, 2, 120, np.uint8) * 219 + 16, 16)
            found += read_number(luma) is not None
        assert found <= 3  # guards and checksum let one in 4096 pass

    def test_damage_is_noticed(self, film: Film) -> None:
        luma = _luma(film.picture(START_NS, 5_000_000))
        for first in range(2, 38):
            for second in range(first, 38):
                damaged = luma[-32:-8].copy()
                for block in {first, second}:
                    damaged[:, block * 16 : block * 16 + 16] = 251 - damaged[:, block * 16 : block * 16 + 16]
                assert read_number(np.vstack([luma[:-32], damaged, luma[-8:]])) is None

    def test_refuses_what_does_not_fit(self, film: Film) -> None:
        with pytest.raises(ValueError, match="24 bits"):
            film.picture(START_NS, 2**24)
        assert read_number(np.zeros((100, 100), np.uint8)) is None


class TestStreetView:
    def test_moves_with_the_way_driven(self, film: Film, small_film: Film) -> None:
        for view, ahead in ((film, -1), (small_film, 1)):  # what lies to the left goes by to the left
            scale = view.height / 18
            for second in (5, 15):
                before, after = START_NS + second * SECOND_NS, START_NS + second * SECOND_NS + 40 * MILLISECOND_NS
                way = (STREET.at(after).distance_m - STREET.at(before).distance_m) * scale
                shift = _shift(_luma(view.picture(before, 1)), _luma(view.picture(after, 1)))
                assert shift == pytest.approx(ahead * way, abs=2)

    def test_comes_round_again(self, small_film: Film) -> None:
        instants = [START_NS + SECOND_NS * second for second in range(0, 120, 3)]
        assert STREET.at(instants[-1]).distance_m > 640
        for utc_ns in instants:
            assert small_film.picture(utc_ns, 1).width == 1280

    def test_stands_still_with_the_car(self, film: Film) -> None:
        first, second = (film.picture(START_NS + ms * MILLISECOND_NS, 1).to_ndarray() for ms in (0, 900))
        assert np.array_equal(first, second)

    def test_knows_two_sides(self) -> None:
        with pytest.raises(ValueError, match="side"):
            Film(WORLD, STREET, "up", 1280, 720)


def _shift(before: Luma, after: Luma) -> int:
    """By how many pixels the middle of a picture has moved to the right."""
    row = before.shape[0] // 2
    patch = before[row : row + 100, 500:700]
    place = cv2.minMaxLoc(cv2.matchTemplate(after[row : row + 100], patch, cv2.TM_SQDIFF))[2]
    return place[0] - 500


def _seen_codes(utc_ns: int) -> list[Drawn]:
    """The codes whose light reaches the code's rows, a little above the middle, while they are exposed."""
    scan_ns, above_ns, half_ns = 6.5e6, 0.6e6, EXPOSURE_NS / 2 + 0.6e6
    middle = utc_ns - scan_ns - above_ns
    return PHONE.lit(round(middle - half_ns), round(middle + half_ns))


def _read(luma: Luma) -> list[str]:
    return [code.text for code in zxingcpp.read_barcodes(luma, formats=zxingcpp.barcode_formats_from_str("QRCode"))]


class TestCode:
    @pytest.mark.parametrize("step_ns", [31_000_000, 40_000_000])
    def test_says_what_is_lit_and_nothing_else(self, film: Film, step_ns: int) -> None:
        missed = 0
        for index in range(60):
            utc_ns = START_NS + index * step_ns
            read = _read(_luma(film.picture(utc_ns, index, PHONE)))
            lit = _seen_codes(utc_ns)
            assert len(lit) <= 2
            assert set(read) <= {code.payload for code in lit}
            missed += not read
        assert missed <= 15

    def test_is_read_after_h264(self, small_film: Film) -> None:
        instants = [START_NS + index * 40_000_000 for index in range(25)]
        pictures = (small_film.picture(utc_ns, 1, PHONE) for utc_ns in instants)
        read = 0
        for utc_ns, frame in zip(instants, _through_h264(pictures, 720, 4.0), strict=True):
            texts = _read(_luma(frame))
            assert set(texts) <= {code.payload for code in _seen_codes(utc_ns)}
            read += len(texts)
        assert read >= 18

    def test_is_there_only_while_shown(self, film: Film) -> None:
        phone = Phone(phase_ns=START_NS, shown=((START_NS + SECOND_NS, START_NS + 2 * SECOND_NS),))
        seen = [bool(_read(_luma(film.picture(START_NS + i * 250 * MILLISECOND_NS, 1, phone)))) for i in range(12)]
        assert not any(seen[:4] + seen[8:])
        assert sum(seen[4:8]) >= 2

    def test_each_row_is_the_mean_light_over_its_exposure(self, film: Film) -> None:
        mixed = 0
        for index in range(12):
            utc_ns = START_NS + index * 37 * MILLISECOND_NS
            luma = _luma(film.picture(utc_ns, index, PHONE))
            left, top = _code_corner(luma)
            for module_row, module_column in ((9, 10), (11, 14), (13, 17), (16, 12), (19, 15)):
                row = top + round((module_row + 0.5) * 280 / 21)
                column = left + round((module_column + 0.5) * 280 / 21)
                expected = _expected_luma(utc_ns, row, top, module_row, module_column)
                assert float(luma[row, column]) == pytest.approx(expected, abs=3)
                mixed += 60 < expected < 215
        assert mixed >= 3


def _code_corner(luma: Luma) -> tuple[int, int]:
    """Column and row of the upper left pixel of a code of 280 pixels, by its finder pattern and the white around."""
    modules = np.pad(draw_modules("0" * 17)[:8, :8], ((2, 0), (2, 0)))
    side = round(10 * 280 / 21)
    pattern = cv2.resize(np.where(modules, 45, 220).astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    place = cv2.minMaxLoc(cv2.matchTemplate(luma, pattern, cv2.TM_SQDIFF))[2]
    return place[0] + round(2 * 280 / 21), place[1] + round(2 * 280 / 21)


def _expected_luma(utc_ns: int, row: int, code_top: int, module_row: int, module_column: int) -> float:
    """Brute force: the light of one module at 400 instants of the exposure of one row, averaged, to luma."""
    page_height = 2.05 * 280 * 29 / 21
    exposed = utc_ns + ((row + 0.5) / 1080 - 0.5) * READ_OUT_NS
    scan = (0.5 + (row + 0.5 - code_top - 140) / page_height) * PHONE.scan_out_ms * MILLISECOND_NS
    instants = exposed - scan + ((np.arange(400) + 0.5) / 400 - 0.5) * EXPOSURE_NS
    light = np.zeros(400)
    for code in PHONE.lit(round(instants[0]), round(instants[-1])):
        is_on = (code.light_utc_ns <= instants) & (instants < code.dark_utc_ns)
        light[is_on] = 0.012 if draw_modules(code.payload)[module_row, module_column] else 0.86
    return float(16 + 219 * light.mean() ** (1 / 2.2))
