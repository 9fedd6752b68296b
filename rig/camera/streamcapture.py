"""One camera's stream into a recording's folder: a port for it, the order to send, and again when it falls silent."""

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path

from configs import Settings
from rig.camera.finding import own_address
from rig.camera.goproanswers import UNKNOWN_MODEL, CameraState
from rig.camera.opengopro import TROUBLE, GoPro
from rig.errors import DeviceError, EdencarError
from rig.footage.stream import StreamRecorder
from rig.recordings import VIDEO
from rig.status import NO_PICTURE

WEBCAM_PORT = 8554  # to which some cameras send whatever they are told
FIXED_PORT_MODELS = ("HERO9", "HERO10")
FIRST_DATAGRAM_S = 3.0
SILENCE_S = 3.0  # without a datagram: the webcam is started anew
QUIET_S = 1.0  # worth a word

log = logging.getLogger(__name__)


class StreamCapture:
    """The webcam stream into `folder`; `watch` is called by one thread, `halt` from any."""

    mode, state = VIDEO, "streaming"

    def __init__(self, camera: GoPro, model: str, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self._camera = camera
        self._settings = settings
        self._ports = _choose_ports(model)
        self._recorders: list[StreamRecorder] = []
        self._ordered_ns = 0
        self._problem = ""
        self._ended = False
        self._changing = threading.Lock()

    def start(self) -> None:
        """Returns when the first datagram is here. Raises DeviceError when none comes."""
        try:
            if any(self._begin(port) for port in self._ports):
                return
            cure = "let UDP through to this machine, plug the camera in again"
            raise DeviceError(f"{self._camera.address} says that it streams, but nothing arrives", cure=cure)
        except EdencarError:
            self.halt()
            self.dismiss()
            raise

    def watch(self, _state: CameraState | None = None) -> None:
        """Have a camera that fell silent start anew."""
        if self._ended or min(self.silent_s, (time.monotonic_ns() - self._ordered_ns) / 1e9) < SILENCE_S:
            return
        log.warning("%s sends nothing any more and is started again", self._camera.address)
        try:
            recorder = self._recorders[-1]
            if own_address(self._camera.address) != recorder.host_address:
                self._listen(recorder.port)
            self._order()
            self._problem = ""
        except TROUBLE as error:
            self._problem = str(error)
        if self._ended:
            self.dismiss()

    def halt(self) -> tuple[str, ...]:
        """Have what came up to now on disk; returns the names of the segments."""
        with self._changing:
            self._ended = True
        for recorder in self._recorders:
            recorder.stop()
        return self.files

    def dismiss(self) -> None:
        """Tell the camera to stop sending, as far as it still listens."""
        with suppress(*TROUBLE):
            self._camera.stop_webcam()

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(path.name for recorder in self._recorders for path in recorder.segments)

    @property
    def silent_s(self) -> float:
        """Seconds since the last datagram, or since the camera was told to send."""
        last_ns = self._recorders[-1].last_arrival_monotonic_ns or self._ordered_ns
        return (time.monotonic_ns() - last_ns) / 1e9

    @property
    def fps(self) -> float:
        return self._recorders[-1].fps

    @property
    def lost_datagrams(self) -> int:
        return sum(recorder.lost_datagrams for recorder in self._recorders)

    @property
    def problems(self) -> list[str]:
        problems = [str(problem) for problem in self._recorders[-1].problems]
        if self.silent_s > QUIET_S:
            problems.append(
                f"{NO_PICTURE} for {self.silent_s:.0f} s: it is started again by itself; else look at its cable"
            )
        return problems + [self._problem] * bool(self._problem)

    def _begin(self, port: int) -> bool:
        try:
            self._listen(port)
        except DeviceError:  # another program has it
            if port == self._ports[-1] and not self._recorders:
                raise
            return False
        self._order()
        deadline_s = time.monotonic() + FIRST_DATAGRAM_S
        while time.monotonic() < deadline_s:
            if (self._recorders[-1].last_arrival_monotonic_ns or 0) > self._ordered_ns:
                return True
            time.sleep(0.02)
        return False

    def _listen(self, port: int) -> None:
        """Bind a port of our own address on the camera's net; raises DeviceError when another one has it."""
        host = own_address(self._camera.address)
        with self._changing:
            if self._recorders:
                self._recorders[-1].stop()
            if not self._ended:
                self._recorders.append(StreamRecorder(self.folder, host, port, self._settings))

    def _order(self) -> None:
        resolution, lens = self._settings.webcam_resolution, self._settings.webcam_lens
        try:
            self._camera.start_webcam(self._recorders[-1].port, resolution, lens, self._prepare)
        finally:
            self._ordered_ns = time.monotonic_ns()

    def _prepare(self) -> None:
        """Just before the camera begins to send: only what comes from now on belongs to the recording."""
        with self._changing:
            if self._ended:
                return
            recorder = self._recorders[-1]
            recorder.split()
            if not recorder.started:
                recorder.start()


def _choose_ports(model: str) -> tuple[int, int]:
    """The UDP ports to try; 0 is any that is free, of which the camera is told."""
    if model.startswith(FIXED_PORT_MODELS):
        return (WEBCAM_PORT, WEBCAM_PORT)
    return (WEBCAM_PORT, 0) if model == UNKNOWN_MODEL else (0, WEBCAM_PORT)
