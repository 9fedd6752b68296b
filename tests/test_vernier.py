"""The modules of a code, and what a mixture of two says of the instant."""

import numpy as np
import pytest
import segno

from rig.timing import vernier
from rig.timing.qrtime import TICK_NS, encode

UTC_NS = 1_795_356_192_345_600_000


@pytest.mark.parametrize("mask", range(8))
def test_modules_are_those_of_an_independent_encoder(mask: int) -> None:
    rng = np.random.default_rng(mask)
    payloads = [encode(int(rng.integers(10**12, 99 * 10**12)) * TICK_NS, number) for number in range(40)]
    for payload, drawn in zip(payloads, vernier.modules(payloads, mask), strict=True):
        code = segno.make_qr(payload, error="h", version=1, mode="numeric", mask=mask, boost_error=False)
        assert drawn.tolist() == [list(row) for row in code.matrix]


def test_the_modules_are_where_the_corners_say() -> None:
    modules = vernier.modules([encode(UTC_NS, 1)], 3)[0]
    pixels = np.kron(np.where(modules, 16, 235), np.ones((6, 6))).astype(np.uint8)
    picture = np.full((300, 400), 90, dtype=np.uint8)
    picture[50 : 50 + 126, 200 : 200 + 126] = pixels
    corners = ((200.0, 50.0), (326.0, 50.0), (326.0, 176.0), (200.0, 176.0))
    light = vernier.light_of(picture, corners)
    assert light is not None
    assert ((light < 0.5) == modules).all()
    turned = vernier.light_of(picture, (*corners[1:], corners[0]))
    assert turned is not None
    assert ((turned < 0.5) == np.rot90(modules)).all()


def test_a_code_that_leaves_the_picture_has_no_light() -> None:
    picture = np.zeros((100, 100), dtype=np.uint8)
    assert vernier.light_of(picture, ((50.0, 50.0), (120.0, 50.0), (120.0, 120.0), (50.0, 120.0))) is None
    assert vernier.light_of(picture, ((-5.0, 0.0), (20.0, 0.0), (20.0, 20.0), (-5.0, 20.0))) is None


def test_without_pictures_there_is_no_instant() -> None:
    assert vernier.measure([], None, 16_666_667, 15_000_000, (0, 10_000_000)) is None
