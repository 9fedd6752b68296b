"""EXIF and XMP come back as they were written, keep what a camera said, and leave the picture alone."""

import random
import struct
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rig.clock import parse_utc
from rig.photo import exif, tiff
from rig.photo.exif import PhotoTags, read_block, with_tags
from rig.photo.jpeg import EXIF_HEADER, XMP_HEADER, segment, size_of, with_segments

UTC_NS = parse_utc("2026-11-22T14:03:12.045Z")
TAGS = PhotoTags(
    utc_ns=UTC_NS,
    width=64,
    height=48,
    time_error_ms=4.2,
    latitude=48.8566123456,
    longitude=-2.3522,
    altitude_m=-35.1234,
    heading_deg=359.996,
    direction_deg=89.9,
    speed_mps=13.2,
    hdop=0.6,
    sigma_m=0.0123,
    satellites=24,
    quality=4,
    make="GoPro",
    model="HERO12 Black",
)


def jpeg(width: int = 64, height: int = 48) -> bytes:
    picture = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def degrees(parts: tuple[float, ...]) -> float:
    return parts[0] + parts[1] / 60 + parts[2] / 3600


def foreign(order: str, maker_note_at: int = 300) -> bytes:
    """A phone's photo: its own entries, a maker note with an offset of its own, a thumbnail."""
    block = exif.Block(order, maker_note_at=maker_note_at, thumbnail=b"\xff\xd8thumbnail\xff\xd9")
    number = struct.pack(order + "I", maker_note_at + 6)
    block.directories = {
        "0": {exif.MAKE: tiff.text("Phone"), 0x0131: tiff.text("camera 7")},
        "exif": {
            0x829A: (tiff.RATIONAL, 1, struct.pack(order + "II", 1, 500)),
            tiff.MAKER_NOTE: (7, 9, number + b"maker"),
        },
        "1": {0x0103: (tiff.SHORT, 1, struct.pack(order + "H", 6))},
    }
    return with_segments(jpeg(), segment(EXIF_HEADER + block.written()))


def test_what_is_written_is_read() -> None:
    block = read_block(with_tags(jpeg(), TAGS))
    assert degrees(block.numbers("gps", 2)) == pytest.approx(48.8566123456, abs=2e-11)
    assert degrees(block.numbers("gps", 4)) == pytest.approx(2.3522, abs=2e-11)
    assert (block.text("gps", 1), block.text("gps", 3), block.numbers("gps", 5)) == ("N", "W", (1,))
    assert block.numbers("gps", 6) == pytest.approx([35.123])
    assert block.numbers("gps", 7) == pytest.approx([14, 3, 12.045])
    assert block.numbers("gps", 0x0F) == (0.0,)
    assert block.numbers("gps", 0x1F) == (0.0123,)
    assert block.text("exif", exif.ORIGINAL) == "2026:11:22 14:03:12"
    assert block.text("exif", exif.ORIGINAL_SUBSEC) == "045"
    assert block.is_ours


def test_the_picture_is_untouched_and_a_second_writing_changes_nothing() -> None:
    plain = jpeg()
    once = with_tags(plain, TAGS)
    assert once.endswith(plain[plain.index(b"\xff\xdb") :])
    first, second = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (plain, once))
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)
    assert with_tags(once, TAGS, read_block(once)) == once
    assert with_tags(once, TAGS) == once


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_the_camera_said_stays(order: str) -> None:
    photo = foreign(order)
    tagged = with_tags(photo, replace(TAGS, make="", model=""), read_block(photo))
    for _ in range(2):
        block = read_block(tagged)
        assert block.order == order
        assert (block.text("0", exif.MAKE), block.text("0", 0x0131)) == ("Phone", "camera 7")
        assert block.numbers("exif", 0x829A) == (0.002,)
        assert block.thumbnail == b"\xff\xd8thumbnail\xff\xd9"
        assert degrees(block.numbers("gps", 2)) == pytest.approx(48.8566123456, abs=2e-11)
        data = tagged[tagged.index(EXIF_HEADER) + len(EXIF_HEADER) :]
        assert data[300:309] == struct.pack(order + "I", 306) + b"maker"
        tagged = with_tags(tagged, replace(TAGS, make="", model=""), block)


def test_a_maker_note_where_none_can_lie_is_a_value_like_others() -> None:
    block = exif.Block(maker_note_at=4)
    block.directories = {"exif": {tiff.MAKER_NOTE: (tiff.UNDEFINED, 9, b"123456789")}}
    found = read_block(with_tags(jpeg(), TAGS, block))
    assert found.directories["exif"][tiff.MAKER_NOTE][2] == b"123456789"


def test_a_maker_note_that_claims_to_lie_outside_takes_no_room() -> None:
    block = exif.Block()
    inside, outside = (tiff.UNDEFINED, 4, b"1234"), (tiff.UNDEFINED, 9, b"123456789")
    block.directories = {"exif": {tiff.MAKER_NOTE - 1: inside, tiff.MAKER_NOTE: outside}}
    row = struct.pack("<HHI", tiff.MAKER_NOTE, tiff.UNDEFINED, 9)
    head, _, rest = with_tags(jpeg(), TAGS, block).partition(row)
    first = struct.pack("<H", tiff.MAKER_NOTE - 1)  # called like the other one
    damaged = head[:-12] + head[-12:].replace(first, row[:2]) + row + b"\0\0\0\xf0" + rest[4:]
    found = read_block(damaged)
    assert found.directories["exif"][tiff.MAKER_NOTE] == inside
    assert found.maker_note_at == 0


def test_the_xmp_of_others_stays_and_ours_is_there_once() -> None:
    theirs = b"<x:xmpmeta><rdf:RDF><rdf:Description GPano:Type='flat'/></rdf:RDF></x:xmpmeta>"
    photo = with_segments(jpeg(), segment(XMP_HEADER + theirs))
    for time in ("2026:11:22 15:00:00.123", "2026:11:22 15:00:00.456"):
        photo = with_tags(photo, replace(TAGS, camera_time=time, privacy="b'<&>\"l"), read_block(photo))
        xmp = read_block(photo).xmp
        assert xmp.count(b"edenCar:CameraTime=") == 1
        assert xmp.count(b"GPano:Type='flat'") == 1
        assert read_block(photo).camera_time == time
        assert read_block(photo).privacy == "b'<&>\"l"


def test_a_place_that_is_no_longer_known_goes_only_where_it_was_ours() -> None:
    lost = replace(TAGS, latitude=None, longitude=None)
    ours = with_tags(jpeg(), TAGS)
    assert "gps" not in read_block(with_tags(ours, lost, read_block(ours))).directories
    theirs = with_segments(jpeg(), segment(EXIF_HEADER + read_block(ours).written()))  # without our XMP
    assert read_block(with_tags(theirs, lost, read_block(theirs))).text("gps", 1) == "N"


@pytest.mark.parametrize("seconds", [59.99999999, 59.9999999999, 0.0])
def test_there_are_never_sixty_seconds(seconds: float) -> None:
    block = read_block(with_tags(jpeg(), replace(TAGS, latitude=7 + 59 / 60 + seconds / 3600)))
    assert block.numbers("gps", 2)[2] < 60
    assert degrees(block.numbers("gps", 2)) == pytest.approx(7 + 59 / 60 + seconds / 3600, abs=2e-11)


def test_the_size_is_that_of_the_picture() -> None:
    assert size_of(with_tags(jpeg(80, 40), TAGS)) == (80, 40)


def test_damage_is_an_error_of_one_kind_only() -> None:
    dice = random.Random(3)
    photo = foreign(">")
    for _ in range(3000):
        broken = bytearray(photo[: dice.randrange(len(photo))] if dice.random() < 0.3 else photo)
        for _ in range(dice.randrange(1, 8)):
            if broken:
                broken[dice.randrange(min(700, len(broken)))] = dice.randrange(256)
        try:
            block = read_block(bytes(broken))
            with_tags(bytes(broken), TAGS, block)
            size_of(bytes(broken))
        except ValueError:
            continue


def test_a_thumbnail_too_large_for_the_segment_goes() -> None:
    photo = foreign("<")
    block = read_block(photo)
    block.thumbnail = bytes(65_000)
    block = read_block(with_tags(photo, TAGS, block))
    assert block.thumbnail == b""
    assert block.text("0", 0x0131) == "camera 7"
