"""Buffers are as large as they were made, losses as many as were lost, and libraries do what their fifo allows."""

import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from configs import Settings
from measure import buffer, fifos
from measure.buffer import Buffers, measure_buffers
from measure.fifos import Pause, Read
from measure.stalls import What
from rig.footage.stream import StreamRecorder
from rig.footage.tail import Line
from tests.test_stream import DATAGRAM_BYTES, HOST, cut, make_stream

ROOT = Path(__file__).parent.parent
FPS = 30
PICTURE_DATAGRAMS = 12
FREE = (0, 1)  # so many seconds before and after a stall


@dataclass
class Counted:
    """A recorder as the process that is held up sees it."""

    recorder: StreamRecorder

    @property
    def lost_datagrams(self) -> int:
        return self.recorder.counters().lost_datagrams


@contextmanager
def open_port(port: int, buffer_bytes: int, queue_bytes: int, folder: Path, settings: Settings) -> Iterator[Counted]:
    recorder = StreamRecorder(folder, HOST, port, buffer_bytes=buffer_bytes, queue_bytes=queue_bytes)
    recorder.start()
    try:
        yield Counted(recorder)
    finally:
        recorder.stop()


class Sender:
    """Sends pictures of whole datagrams at their pace, until it is told to stop; `sent` counts the datagrams."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        self.sent = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _send(self) -> None:
        pictures = [fill(picture) for picture in make_stream(40 * FPS, group=15, size=PICTURE_DATAGRAMS * 1200)]
        begin = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number, picture in enumerate(pictures):
                if self._stopping.wait(max(0.0, begin + number / FPS - time.monotonic())):
                    return
                for datagram in cut(picture):
                    sender.sendto(datagram, (HOST, self.port))
                    self.sent += 1


def fill(picture: bytes) -> bytes:
    """A picture made up to whole datagrams with stuffing: all datagrams take the same room in the kernel."""
    null = b"\x47\x1f\xff\x10" + b"\xff" * 184
    return picture + null * (-(len(picture) // 188) % 7)


def kernel_keeps(buffer_bytes: int) -> int:
    """Bytes of such datagrams that a socket with this buffer keeps while nobody reads it: tried on another one."""
    with (
        closing(StreamRecorder(Path(), HOST, buffer_bytes=buffer_bytes)._socket) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        for _ in range(3 * buffer_bytes // DATAGRAM_BYTES + 50):
            sender.sendto(bytes(DATAGRAM_BYTES), receiver.getsockname())
        kept = 0
        while True:
            try:
                kept += len(receiver.recv(2048))
            except BlockingIOError:
                return kept


def run(folder: Path, buffer_bytes: int, queue_bytes: int, room: dict[What, int]) -> tuple[Buffers, list[Line], int]:
    """The stalls of a recorder with buffers of known size; and how many datagrams were really lost."""
    with Sender() as sender:
        opening = partial(open_port, sender.port, buffer_bytes, queue_bytes)
        found, lines = measure_buffers(opening, folder, Settings(), room, say=lambda _: None)
    kept = sum(path.stat().st_size for path in folder.glob("*.ts"))
    return found, lines, kept


def check(folder: Path, seed: int) -> None:
    dice = np.random.default_rng(seed)
    buffer_bytes = int(dice.integers(150_000, 400_000))
    queue_bytes = int(dice.integers(300_000, 900_000))
    found, _, _ = run(folder, buffer_bytes, queue_bytes, {"program": buffer_bytes, "disk": queue_bytes})
    truth = {"program": kernel_keeps(buffer_bytes), "disk": queue_bytes}
    for what, kept in truth.items():
        loss = found.first_loss(what)  # type: ignore[arg-type]
        assert loss, (seed, what)
        assert loss.held_bytes
        assert loss.held_s
        assert abs(loss.held_bytes.value - kept) <= loss.held_bytes.error < 120_000, (seed, what, kept)
        assert loss.held_s.error < 0.08
        assert abs(loss.held_s.value - kept / found.bytes_per_s) < loss.held_s.error + 0.05, (seed, what)
        assert abs(loss.shift_ms) < 20, "what was kept bears the kernel's times"
        assert loss.recovered_s < 3
        assert loss.missing_s > 0
        assert loss.lost_datagrams > 0
    assert found.lost_in_peace == 0


def test_buffers_are_as_large_as_they_were_made(tmp_path: Path) -> None:
    check(tmp_path / "run", 0)


@pytest.mark.long
def test_buffers_are_as_large_as_they_were_made_in_20_of_20_runs(tmp_path: Path) -> None:
    for seed in range(1, 21):
        check(tmp_path / f"run{seed}", seed)
