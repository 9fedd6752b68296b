"""Buffers are as large as they were made, losses as many as were lost, and libraries do what their fifo allows."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from configs import Settings
from measure import buffer, fifos, stalls
from measure.buffer import Buffers, Stall, measure_buffers
from measure.fifos import Pause, Piece, Read, Reader, by_opencv, by_pyav, judge, replay, said
from measure.stalls import Hold, What, loss_of, positions_of
from rig.errors import DeviceError
from rig.footage.stream import StreamRecorder
from rig.footage.tail import Line
from rig.footage.transport import PTS_HZ
from tests.films import steady, write_film
from tests.gopros import SERIAL, running
from tests.test_stream import DATAGRAM_BYTES, HOST, cut, make_stream

ROOT = Path(__file__).parent.parent
FPS = 30
PICTURE_DATAGRAMS = 12
LONGEST_S = 60


@dataclass
class Counted:
    """A recorder as the process that is held up sees it."""

    recorder: StreamRecorder

    @property
    def lost_datagrams(self) -> int:
        return self.recorder.lost_datagrams


@contextmanager
def open_port(port: int, buffer_bytes: int, queue_bytes: int, folder: Path, settings: Settings) -> Iterator[Counted]:
    recorder = StreamRecorder(folder, HOST, port, Settings(receive_buffer_bytes=buffer_bytes), queue_bytes)
    recorder.start()
    try:
        yield Counted(recorder)
    finally:
        recorder.stop()


class Sender:
    """Sends pictures of whole datagrams at their pace, until it is told to stop."""

    def __init__(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((HOST, 0))
            self.port = int(probe.getsockname()[1])
        pictures = make_stream(LONGEST_S * FPS, group=15, first_pts=0, size=PICTURE_DATAGRAMS * 1200)
        self._pictures = [cut(fill(picture)) for picture in pictures]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)

    def __enter__(self) -> "Sender":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def datagrams(self, begin: Line, end: Line) -> int:
        """How many were sent from one picture to before another."""
        first, last = (round(line.pts_90khz * FPS / 90_000) for line in (begin, end))
        return sum(map(len, self._pictures[first:last]))

    def _send(self) -> None:
        begin = time.monotonic()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for number, datagrams in enumerate(self._pictures):
                if self._stopping.wait(max(0.0, begin + number / FPS - time.monotonic())):
                    return
                for datagram in datagrams:
                    sender.sendto(datagram, (HOST, self.port))


def fill(picture: bytes) -> bytes:
    """A picture made up to whole datagrams with stuffing: all datagrams take the same room in the kernel."""
    null = b"\x47\x1f\xff\x10" + b"\xff" * 184
    return picture + null * (-(len(picture) // 188) % 7)


def kernel_keeps(buffer_bytes: int) -> int:
    """Bytes of such datagrams that a socket with this buffer keeps while nobody reads it: tried on another one."""
    with (
        closing(StreamRecorder(Path(), HOST, 0, Settings(receive_buffer_bytes=buffer_bytes))._socket) as receiver,
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


def check(folder: Path, seed: int) -> None:
    """Stalls of a recorder with buffers of known size: what they keep, and what is lost beyond."""
    dice = np.random.default_rng(seed)
    # The queue takes at once what the kernel kept while the program stood still, or that would be lost, too.
    buffer_bytes, queue_bytes = int(dice.integers(150_000, 400_000)), int(dice.integers(500_000, 900_000))
    room: dict[What, int] = {"program": buffer_bytes, "disk": queue_bytes}
    with Sender() as sender:
        opening = partial(open_port, sender.port, buffer_bytes, queue_bytes)
        found, lines = measure_buffers(opening, folder, Settings(), room, say=lambda _: None)
    truth: dict[What, int] = {"program": kernel_keeps(buffer_bytes), "disk": queue_bytes}
    for what, kept in truth.items():
        loss = found.first_loss(what)
        assert loss, (seed, what)
        assert loss.held_bytes
        assert loss.held_s
        # A quiet machine gives bars half as wide.
        assert abs(loss.held_bytes.value - kept) <= loss.held_bytes.error < 160_000, (seed, what, kept)
        assert abs(loss.held_s.value - kept / found.bytes_per_s) <= loss.held_s.error < 0.3, (seed, what)
        assert abs(loss.shift_ms) < 20, "what was kept bears the kernel's times"
        assert loss.recovered_s < 3
        assert loss.missing_s > 0
    lost = sum(stall.lost_datagrams for stall in found.stalls) + found.lost_in_peace
    first, last = lines[0], lines[-1]
    heads = {line.segment: line.offset for line in reversed(lines)}  # tables at the begin of each segment
    kept_bytes = positions_of(lines)[-1] - sum(heads.values())
    # A key picture's line begins after its tables: within a datagram.
    assert lost == sender.datagrams(first, last) - round(kept_bytes / DATAGRAM_BYTES), "not one more, not one less"


def test_buffers_and_losses_are_as_they_were_made(tmp_path: Path) -> None:
    check(tmp_path, 0)


@pytest.mark.parametrize(
    ("is_killed", "words"), [(False, "no picture has come"), (True, "the recorder has ended by itself")]
)
def test_a_measurement_that_something_ends_is_no_buffer_that_kept_all(
    is_killed: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera is unplugged during the first stall, or the recorder is killed."""
    monkeypatch.setattr(buffer, "FIRST_S", 2.0)
    monkeypatch.setattr(stalls, "LONGEST_RECOVERY_S", 1.0)
    others = {*psutil.Process().children()}

    def befall(_held_up: str) -> None:
        for process in {*psutil.Process().children()} - others if is_killed else ():
            process.kill()
            process.wait()
        sender.__exit__()

    with Sender() as sender:
        opening = partial(open_port, sender.port, 200_000, 500_000)
        with pytest.raises(DeviceError, match=words):
            measure_buffers(opening, tmp_path, Settings(), {"program": 200_000}, say=befall)
    assert {*psutil.Process().children()} <= others


def test_a_camera_that_sends_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer, "FIRST_S", 0.1)
    opening = partial(open_port, Sender().port, 200_000, 500_000)
    with pytest.raises(DeviceError, match="no pictures come"):
        measure_buffers(opening, tmp_path, Settings(), {"program": 200_000})


def test_of_stalls_that_were_not_tried_nothing_is_said() -> None:
    verdicts = buffer._verdicts(Buffers(1e6, 100, (), (), lost_in_peace=3), free_s=7200.0)
    assert [str(verdict.text) for verdict in verdicts] == [
        "the disk has room for 2.0 h of this stream",
        "3 datagrams were lost while nothing was held up: look at cable and load",
    ]


def test_datagrams_that_vanished_unseen_are_no_good_buffer() -> None:
    kept = Stall("disk", 20.0, 0, None, None, 0.0, 0.1, 0.5)
    unseen = replace(kept, seconds=40.0, lost_datagrams=7)
    longest, beyond = (
        buffer._verdicts(Buffers(1e6, 100, stalls, (), lost_in_peace=0), free_s=7200.0)[0]
        for stalls in ((kept,), (kept, unseen))
    )
    assert (str(longest.text), longest.good) == (
        "the disk does not answer: 20.0 s cost nothing, the longest that was tried",
        True,
    )
    assert "20.0 s cost nothing, longer ones 7 datagrams" in str(beyond.text)
    assert not beyond.good


def test_libraries_get_a_film_that_is_long_enough_also_without_any_stall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--parts libraries`: a shorter film ends before the pauses that would have cost something."""
    monkeypatch.setattr(buffer, "FIRST_S", 1.0)
    monkeypatch.setattr(fifos, "FIFO_BYTES", 200_000)
    monkeypatch.setattr(fifos, "CALM_S", 0.1)
    monkeypatch.setattr(fifos, "LATE_S", 0.5)
    with Sender() as sender:
        opening = partial(open_port, sender.port, 1 << 24, 1 << 24)
        found, lines = measure_buffers(opening, tmp_path, Settings(), {}, in_peace_s=buffer.film_s)
    needed_s = buffer.film_s(found.bytes_per_s)
    film = fifos.film_of(lines, needed_s)
    assert film[-1].second > 0.7 * needed_s > 2.0, "from the first key picture on"


def refuse(_folder: Path, _settings: Settings) -> AbstractContextManager[Counted]:
    raise DeviceError("the camera is busy", cure="end the server")


def test_why_a_stream_cannot_be_had_is_told(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="the camera is busy"):
        measure_buffers(refuse, tmp_path, Settings(), {})


@pytest.mark.long
def test_buffers_and_losses_are_as_they_were_made_in_20_of_20_runs(tmp_path: Path) -> None:
    for seed in range(1, 21):
        check(tmp_path / f"run{seed}", seed)


def test_a_picture_that_the_camera_left_out_is_not_taken_for_the_first_loss(tmp_path: Path) -> None:
    """The bar reaches from what may have been a loss to what surely was one."""
    segment = tmp_path / "stream-000.ts"
    segment.write_bytes(bytes(100_000))
    numbers = [*range(10), *range(11, 20), *range(25, 40)]  # the camera leaves 10 out, 20 to 24 are lost
    period_ns = 1_000_000_000 // FPS
    lines = [
        Line(segment, n * 90_000 // FPS, n * period_ns, n * 1000, n % 15 == 0, errors=int(n == 25)) for n in numbers
    ]
    hold = Hold("program", 5 * period_ns - 1, 26 * period_ns, in_hand_bytes=0, lost_datagrams=5, recovered_s=0.0)
    loss = loss_of(lines, hold)
    assert loss
    low, high = (loss.held_s.value - loss.held_s.error) * FPS, (loss.held_s.value + loss.held_s.error) * FPS
    assert low < 10 - 5 <= 20 - 5 < high
    assert loss.missing_s * FPS == pytest.approx(30 - 19)


def at_its_pace(path: Path) -> list[Piece]:
    """The datagrams of a film, each as late as the picture that it is of."""
    with av.open(path) as container:
        places = [(packet.pos, packet.dts) for packet in container.demux(video=0) if packet.dts is not None]
    offsets, ticks = zip(*places, strict=True)
    datagrams = cut(path.read_bytes())
    seconds = np.interp(np.arange(len(datagrams)) * DATAGRAM_BYTES, offsets, np.array(ticks) - ticks[0]) / PTS_HZ
    return list(map(Piece, seconds.tolist(), datagrams))


def test_a_library_is_late_and_then_loses_what_its_fifo_cannot_keep(tmp_path: Path) -> None:
    """FFmpeg's fifo of a known size, and pauses around what it keeps."""
    seconds, packets = 16.0, 1000
    write_film(tmp_path / "film.ts", steady(round(seconds * 30000 / 1001)), options={"g": "15", "bf": "0", "b": "2M"})
    data, film = (tmp_path / "film.ts").read_bytes(), at_its_pace(tmp_path / "film.ts")
    holds_s = packets * 188 / (len(data) / seconds)
    reader = Reader("PyAV", by_pyav, f"?fifo_size={packets}&overrun_nonfatal=1")
    (read,), end_s = replay(film, [0.5 * holds_s, 2.0 * holds_s], [reader])
    found = judge(read, 1001 / 30000, end_s)
    assert [pause.seconds for pause in read.pauses] == [0.5 * holds_s, 2.0 * holds_s]
    assert found.lost_after_s == 2.0 * holds_s
    assert found.held_s
    assert found.held_s.value == pytest.approx(holds_s, abs=0.3)
    assert found.missing > 0.5 * holds_s * 30
    assert found.most_late_s > 1.5 * holds_s
    assert not found.has_ended
    assert "without a word" in str(said(found))


def ends_at_once(_url: str) -> Iterator[float]:
    os._exit(3)
    yield 0.0


def test_a_library_that_dies_costs_the_others_nothing_and_is_not_called_good(tmp_path: Path) -> None:
    write_film(tmp_path / "film.ts", steady(60), options={"g": "15", "bf": "0", "b": "2M"})
    readers = [Reader("brittle", ends_at_once, ""), Reader("OpenCV", by_opencv, "")]
    (read, other), end_s = replay(at_its_pace(tmp_path / "film.ts"), [], readers)
    assert (read.reader, len(read.picture_s)) == ("brittle", 0)
    verdict = buffer._judge_library(judge(read, 1001 / 30000, end_s))
    assert (str(verdict.text), verdict.good) == ("brittle: gave up, before it was held up", False)
    assert other.reader == "OpenCV"
    assert len(other.picture_s) > 0


def read_of(picture_s: list[float], at_s: list[float], pauses: tuple[Pause, ...]) -> Read:
    return Read("library", np.array(picture_s), np.array(at_s), pauses)


def test_a_library_that_gives_up_is_told_from_one_that_keeps_all() -> None:
    seconds = [number / 30 for number in range(900)]
    pause = Pause(10.0, 5.0)
    late = [second if second <= 10 else max(second, 15.0) for second in seconds]
    kept = judge(read_of(seconds, late, (pause,)), 1 / 30, 30.0)
    assert (str(said(kept)), kept.lost_after_s, kept.missing) == ("kept all", None, 0)
    assert kept.most_late_s == pytest.approx(5, abs=0.1)
    verdict = buffer._judge_library(kept)
    assert verdict.good
    assert "pauses of up to 5.0 s cost nothing" in str(verdict.text)
    ended = judge(read_of(seconds[:390], late[:390], (pause,)), 1 / 30, 30.0)
    assert (str(said(ended)), ended.has_ended, ended.lost_after_s) == ("gave up", True, 5.0)
    assert ended.held_s
    assert abs(ended.held_s.value - 3.0) <= ended.held_s.error
    nothing = judge(read_of([], [], ()), 1 / 30, 30.0)
    assert (str(said(nothing)), nothing.pictures) == ("gave up", 0)


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--parts", "socket"], 2, "say program,disk,libraries"),
        (["--parts", ""], 2, "no such part"),
        (["--address", "127.0.0.1:9"], 6, "no camera answers"),
    ],
)
def test_bad_input_is_told_in_one_line(
    argv: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert buffer.main([*argv, "--output", str(tmp_path / "report"), "--json"]) == code
    printed = capsys.readouterr()
    assert words in json.loads(printed.out)["error"]
    assert len(printed.err.splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_a_folder_with_an_earlier_measurement_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / SERIAL).mkdir()
    with running(size=180) as camera:
        assert buffer.main(["--address", camera.address, "--output", str(tmp_path)]) == 3
    assert f"{tmp_path / SERIAL} cannot be used (File exists): name another" in capsys.readouterr().err


def test_the_command_measures_a_simulated_camera(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulator", "measure", "--keep", str(tmp_path / "output"), "buffer"]
    command += ["--parts", "program", "--output", str(tmp_path / "report"), "--json"]
    small = os.environ | {"EDENCAR_RECEIVE_BUFFER_BYTES": "500000"}
    done = subprocess.run(command, cwd=ROOT, env=small, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["bytes_per_s"] * 8 == pytest.approx(6e6, rel=0.3), "as the simulated camera is made"
    loss = result["stalls"][-1]
    assert loss["lost_datagrams"] > 0
    kept = kernel_keeps(500_000)  # of full datagrams: short ones take less room
    value, error = loss["held_bytes"]["value"], loss["held_bytes"]["error"]
    assert value - error < kept
    assert value + error > 0.8 * kept
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "the whole program stands still: the kernel&#x27;s buffer keeps" in page
    assert "<svg" in page
    ages = (tmp_path / "report" / "recorder.csv").read_text(encoding="utf-8").splitlines()
    assert max(float(line.split(",")[1]) for line in ages[1:]) > loss["held_s"]["value"]
