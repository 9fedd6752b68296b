"""The time code: its digits, and reading it from pictures."""

import random
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import segno

from rig.timing import qrtime
from rig.timing.qrtime import CodeReader, TimeCode

UTC_NS = 1_795_356_192_345_600_000  # 2026-11-22T14:03:12.3456Z


def drawn(text: str, module_px: int = 6) -> npt.NDArray[np.uint8]:
    """A code with its quiet zone, made by an independent encoder."""
    code = segno.make(text, error="h", micro=False)
    modules = np.array([list(row) for row in code.matrix], dtype=np.uint8)
    return np.kron(255 * (1 - np.pad(modules, 4)), np.ones((module_px, module_px))).astype(np.uint8)


def scene(text: str, left: int = 700, top: int = 300) -> npt.NDArray[np.uint8]:
    picture = np.full((1080, 1920), 90, dtype=np.uint8)
    code = drawn(text)
    picture[top : top + code.shape[0], left : left + code.shape[1]] = code
    return picture


def test_our_form_holds_the_time_in_tenths_of_ms_and_the_refresh() -> None:
    text = qrtime.encode(UTC_NS, 1234)
    assert len(text) == 17
    assert text.startswith("17953561923456" + "4")
    assert qrtime.decode(text) == TimeCode(UTC_NS, 100_000, 4)


def test_any_single_wrong_digit_is_refused() -> None:
    text = qrtime.encode(UTC_NS, 7)
    for place in range(17):
        for digit in "0123456789":
            if digit != text[place]:
                assert qrtime.decode(text[:place] + digit + text[place + 1 :]) is None


def test_the_two_older_forms_are_read() -> None:
    assert qrtime.decode("2026-11-22T14:03:12.345Z") == TimeCode(UTC_NS - 600_000, 1_000_000)
    assert qrtime.decode("1795356192345") == TimeCode(UTC_NS - 600_000, 1_000_000)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "oT261122140312.345", "2026-13-22T14:03:12.345Z", "2026-11-22T14:03:12.345", "12345", "1" * 18],
)
def test_other_texts_are_no_time(text: str) -> None:
    assert qrtime.decode(text) is None


def test_a_code_is_found_and_followed_where_it_moves() -> None:
    reader = CodeReader()
    for step in range(5):
        reading = reader.read(scene(qrtime.encode(UTC_NS + step * 33_300_000, step), left=700 + 8 * step))
        assert reading is not None
        assert reading.code.utc_ns == UTC_NS + step * 33_300_000
        centre = np.mean(reading.corners, axis=0)
        assert centre == pytest.approx((700 + 8 * step + 87, 300 + 87), abs=2)
    assert reader.following


def test_a_lost_code_is_searched_again_in_the_whole_picture() -> None:
    reader = CodeReader()
    assert reader.read(scene(qrtime.encode(UTC_NS, 0), left=100, top=100))
    empty = np.full((1080, 1920), 90, dtype=np.uint8)
    for _ in range(qrtime.FULL_SEARCH_AFTER_MISSES):
        assert reader.read(empty) is None
    assert not reader.following
    assert reader.read(scene(qrtime.encode(UTC_NS, 0), left=1500, top=800))


def test_a_foreign_code_gives_no_time() -> None:
    assert CodeReader().read(scene("https://example.org")) is None


def test_what_zxing_does_not_read_zbar_is_asked_for_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a Mac, where its library is called otherwise; and without it nothing is read."""
    polygon = [SimpleNamespace(x=x, y=y) for x, y in ((9, 9), (90, 9), (90, 90), (9, 90))]
    said = SimpleNamespace(data=qrtime.encode(UTC_NS, 5).encode(), polygon=polygon)
    zbar = SimpleNamespace(decode=lambda luma, symbols: [said], ZBarSymbol=SimpleNamespace(QRCODE=64))
    empty = np.full((1080, 1920), 90, dtype=np.uint8)
    for pyzbar, read in ((zbar, True), (None, False)):
        monkeypatch.setattr(qrtime, "pyzbar", pyzbar)
        reader = CodeReader()
        assert reader.read(scene(qrtime.encode(UTC_NS, 0)))
        reading = reader.read(empty)
        assert (reading is not None) == read
        assert reading is None or reading.code == TimeCode(UTC_NS, 100_000, 5)


def test_small_blurred_and_noisy_codes_are_read() -> None:
    noise = np.random.default_rng(1)
    picture = np.full((1080, 1920), 90.0)
    code = cv2.resize(drawn(qrtime.encode(UTC_NS, 3)), (100, 100), interpolation=cv2.INTER_AREA)
    picture[500:600, 900:1000] = code
    picture = cv2.GaussianBlur(picture, (0, 0), 1.0) + noise.normal(0, 8, picture.shape)
    reading = CodeReader().read(np.clip(picture, 0, 255).astype(np.uint8))
    assert reading is not None
    assert reading.code.utc_ns == UTC_NS


def test_a_mixture_of_two_codes_never_gives_a_third_time() -> None:
    rng = random.Random(2)
    for _ in range(60):
        old = rng.randrange(10**13, 2 * 10**13) * qrtime.TICK_NS * 10
        new = old + 16_700_000
        share = rng.uniform(0.2, 0.8)
        mixed = cv2.addWeighted(scene(qrtime.encode(old, 1)), 1 - share, scene(qrtime.encode(new, 2)), share, 0)
        reading = CodeReader().read(mixed.astype(np.uint8))
        assert reading is None or reading.code.utc_ns in (old, new)


def test_two_codes_in_a_picture_are_both_followed() -> None:
    reader = CodeReader()
    for step in range(4):
        picture = scene(qrtime.encode(UTC_NS + step * 40_000_000, step))
        other = drawn(qrtime.encode(UTC_NS + 7_000_000_000 + step * 40_000_000, step))
        picture[500 : 500 + other.shape[0], 1500 : 1500 + other.shape[1]] = other
        readings = reader.read_all(picture)
        assert [reading.screen for reading in sorted(readings, key=lambda r: r.code.utc_ns)] == [
            reading.screen for reading in sorted(readings, key=lambda r: np.mean(r.corners, axis=0)[0])
        ]
        assert len({reading.screen for reading in readings}) == 2


def test_the_mask_of_our_codes_is_told_and_of_others_not() -> None:
    ours = segno.make_qr(qrtime.encode(UTC_NS, 1), error="h", version=1, mask=5, boost_error=False)
    for matrix, mask in (
        (ours.matrix, 5),
        (segno.make_qr(qrtime.encode(UTC_NS, 1), error="l", version=2).matrix, None),
    ):
        modules = np.pad(np.array([list(row) for row in matrix], dtype=np.uint8), 4)
        picture = np.kron(255 * (1 - modules), np.ones((6, 6))).astype(np.uint8)
        reading = CodeReader().read(picture)
        assert reading is not None
        assert reading.mask == mask


def test_a_second_screen_is_found_whatever_its_phase_is() -> None:
    """At 25 pictures and 60 refreshes a second each fifth picture is in the same phase: there it is mixed."""
    reader, screens = CodeReader(), set()
    for number in range(50):
        picture = scene(qrtime.encode(UTC_NS, 7), left=300)
        if number % 5:
            other = drawn(qrtime.encode(UTC_NS + 3_000_000_000, 7))
            picture[300 : 300 + other.shape[0], 1300 : 1300 + other.shape[1]] = other
        screens |= {reading.screen for reading in reader.read_all(picture)}
    assert len(screens) == 2
