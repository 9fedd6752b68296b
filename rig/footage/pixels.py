"""Wanted pictures of a file, decoded and no more than they need; what is in them as arrays."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

import av
import av.container
import av.error
import cv2
import numpy as np

from rig.arrays import Luma, Mask, Uint8
from rig.footage import losses
from rig.footage.video import SET_BACK, Clip, opened

_most_threads = 4  # of a decoder: each keeps a picture more
SEEK_PACKETS = 60  # unneeded ones in a row: fewer are read over, which costs less than to seek
SEEK_BACK_S = (0, 2, 20)  # MPEG-TS has no table of its pictures: a seek may land too late
BT709, UNSPECIFIED, FULL_RANGE = 1, 2, 2  # of FFmpeg's AVColorSpace and AVColorRange
CUT_OFF = np.array([1.0, 1.0, 1.0, 0.0])  # levels that FFmpeg, which rounds down, takes from a limited range
TURNS = {1: cv2.ROTATE_90_COUNTERCLOCKWISE, 2: cv2.ROTATE_180, 3: cv2.ROTATE_90_CLOCKWISE}  # by quarters
HD_ROWS = 720  # from here on a film that does not say its colours has those of BT.709

log = logging.getLogger(__name__)


def set_threads(most: int) -> None:
    """How many threads a decoder may have in this process: fewer where each core has a process of its own."""
    global _most_threads
    _most_threads = most


def pictures(clip: Clip, wanted: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decode the pictures with these numbers (ascending), and no more of each group than they need."""
    for number, frame, _ in judged_pictures(clip, wanted):
        yield number, frame


def judged_pictures(clip: Clip, wanted: Sequence[int], threads: int = 0) -> Iterator[tuple[int, av.VideoFrame, bool]]:
    """As `pictures`, and whether each is damaged: by a loss, or by what the decoder stumbled over in its group.

    `threads` of the decoder, 0 for as many as there are cores.
    """
    number_of = dict(zip(clip.pts[list(wanted)].tolist(), wanted, strict=True))
    with opened(clip.path) as (container, stream):
        stream.thread_type = "AUTO"
        decoder = stream.codec_context
        decoder.thread_count = threads or min(_most_threads, os.cpu_count() or 1)
        stumbled = False
        for packet in _needed(container, stream, clip, _needed_packets(clip, wanted)):
            frames = _decode(decoder, packet)
            stumbled |= frames is None
            for frame in frames or ():
                stumbled = frame.is_corrupt or (stumbled and not frame.key_frame)  # FFmpeg marks only the first
                if frame.pts in number_of:
                    number = number_of[frame.pts]
                    yield number, frame, stumbled or number in clip.damaged
            if packet is None:
                decoder.flush_buffers()


def luma(picture: av.VideoFrame) -> Luma:
    """The brightness of a picture, rows x columns, as the camera coded it; a view where eight bits allow it."""
    name, depth = picture.format.name, picture.format.components[0].bits
    rows = np.frombuffer(memoryview(picture.planes[0]), dtype=np.uint8).reshape(-1, picture.planes[0].line_size)
    if depth == 8 and name.startswith(("yuv", "nv12", "gray")):
        return rows[: picture.height, : picture.width]
    if name.startswith("yuv") and name.endswith("le"):
        deep = rows.view("<u2")[: picture.height, : picture.width]
        return np.asarray(cv2.convertScaleAbs(deep, alpha=2.0 ** (8 - depth)), dtype=np.uint8)
    return np.asarray(picture.to_ndarray(format="gray"), dtype=np.uint8)


def bgr(picture: av.VideoFrame) -> Uint8:
    """The picture in true colours and upright, rows x columns x 3."""
    if picture.colorspace == UNSPECIFIED and picture.height >= HD_ROWS:
        picture.colorspace = BT709
    colours = np.asarray(picture.to_ndarray(format="bgr24"), dtype=np.uint8)
    if not is_full_range(picture):
        colours = np.asarray(cv2.add(colours, CUT_OFF), dtype=np.uint8)
    turns = round(getattr(picture, "rotation", 0) / 90) % 4  # PyAV 14.0 does not know it
    return np.asarray(cv2.rotate(colours, TURNS[turns]), dtype=np.uint8) if turns else colours


def is_full_range(picture: av.VideoFrame) -> bool:
    """Whether black is 0 and white 255, not 16 and 235."""
    return picture.color_range == FULL_RANGE or picture.format.name.startswith(("yuvj", "gray"))


def _needed_packets(clip: Clip, wanted: Sequence[int]) -> Mask:
    """Which packets lead to the wanted pictures: each group of pictures from its key frame to the last wanted one."""
    is_wanted = np.isin(clip.packet_pts, clip.pts[list(wanted)])
    group, leading = losses.group_of(clip.packet_pts, clip.packet_key)
    # A picture shown before the key frame that precedes it needs the group before as well.
    for index in np.flatnonzero(is_wanted & leading):
        is_wanted[np.flatnonzero(group == group[index] - 1)] = True
    last = np.full(group[-1] + 1, -1)
    np.maximum.at(last, group[is_wanted], np.flatnonzero(is_wanted))
    return np.asarray(np.arange(len(group)) <= last[group])


def _needed(
    container: av.container.InputContainer, stream: av.VideoStream, clip: Clip, needed: Mask
) -> "Iterator[av.Packet[av.VideoStream] | None]":
    """The needed packets in the order of decoding; None after each run of them."""
    place_of = dict(zip(reversed(clip.packet_pts.tolist()), reversed(range(len(needed))), strict=True))
    edges = np.flatnonzero(np.diff(needed, prepend=False, append=False)).tolist()
    packets = container.demux(stream)
    place = 0
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        if first - place > SEEK_PACKETS and clip.doubt != SET_BACK:  # else a PTS may stand for two pictures
            packets = _sought(container, stream, clip, first, place_of)
        for packet in packets:
            if packet.pts is None:
                continue
            place = place_of.get(packet.pts, place)
            if first <= place < end:
                yield packet
            if place >= end - 1:
                break
        yield None


def _sought(
    container: av.container.InputContainer, stream: av.VideoStream, clip: Clip, first: int, place_of: dict[int, int]
) -> "Iterator[av.Packet[av.VideoStream]]":
    """The packets from the one at place `first` on, or from somewhere before it."""
    begin = int(clip.packet_pts.min())
    for back_s in SEEK_BACK_S:
        at = max(begin, int(clip.packet_pts[first]) - int(back_s / clip.time_base))
        with suppress(av.error.FFmpegError):
            container.seek(at, stream=stream)
            packets = container.demux(stream)
            packet = next(packets, None)
            if packet and packet.pts is not None and place_of.get(packet.pts, first + 1) <= first:
                return chain([packet], packets)
    container.seek(begin, stream=stream)
    return container.demux(stream)


def _decode(decoder: av.VideoCodecContext, packet: "av.Packet[av.VideoStream] | None") -> list[av.VideoFrame] | None:
    """The pictures that a packet completes; None where it cannot be decoded."""
    try:
        return decoder.decode(packet)
    except av.error.EOFError:
        return []
    except av.error.FFmpegError as error:
        log.info("a packet could not be decoded: %s", error)
        return None
