"""One GoPro on USB: find it, set it, record its stream or on its card, list, fetch and delete its files."""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import configs
from configs import Settings
from rig import cli
from rig.camera import camerasettings
from rig.camera.cameraworker import TICK_S
from rig.camera.cardfiles import Progress, download_all
from rig.camera.finding import FoundCamera, discover, usb_serial_at
from rig.camera.goproanswers import Media, RefusedError, added, limits
from rig.camera.opengopro import STREAMING, TROUBLE, GoPro
from rig.camera.streamcapture import StreamCapture
from rig.camera.vigil import Restarter, Vigil, awake
from rig.errors import DeviceNotFoundError, UnknownError, UnreadableError, UsageError

NO_CAMERA_CURE = "switch it on, choose USB Connection: GoPro Connect in its menu, look at its cable"
FIGURES = ("battery_percent", "card_seconds_left", "card_problem", "card_errors", "temperature", "busy")

Options = argparse.Namespace
Result = Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command on one camera and return its exit code."""
    return cli.run(_build_parser(), _run, _say, argv)


def _build_parser() -> argparse.ArgumentParser:
    common = cli.verb_options()
    common.add_argument("--address", metavar="HOST[:PORT]", help="the camera, when it is not found by itself")
    common.add_argument("--serial", help="which one, when several are found")
    parser = argparse.ArgumentParser(prog="gopro.py", description=__doc__)
    add = parser.add_subparsers(dest="verb", required=True, metavar="VERB").add_parser
    verbs = {name: add(name, parents=[common], help=text, description=text) for name, (_, text) in VERBS.items()}
    for name in ("record", "stream"):
        verbs[name].add_argument("--seconds", type=float, help="how long; until Ctrl-C when not given")
    for name in ("stream", "download"):
        verbs[name].add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to; here by default")
    pairs = f"such as resolution=4k, anti-flicker=50, 2=1; or {camerasettings.RECOMMENDED}"
    verbs["settings"].add_argument("items", nargs="*", metavar="NAME=OPTION", help=pairs)
    verbs["download"].add_argument("items", nargs="*", metavar="NAME", help="which files; all when none is given")
    verbs["media"].add_argument("--delete", nargs="+", default=(), metavar="NAME", help="delete these from the card")
    return parser


def _run(options: Options) -> Result:
    seconds = getattr(options, "seconds", None)
    if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
        raise UsageError(f"--seconds {seconds:g} is no length of time", cure="give a number above 0")
    if hasattr(options, "output"):
        _require_writable(options.output)
    settings = configs.load()
    if options.verb == "discover":
        return {"cameras": [asdict(camera) for camera in _find(options, settings)]}
    with closing(GoPro(_choose(options, settings))) as camera:
        return VERBS[options.verb][0](camera, options, settings)


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        why = f"{folder} cannot be written ({error.strerror})"
        raise UnreadableError(why, cure="name another folder with --output") from error


def _choose(options: Options, settings: Settings) -> str:
    if options.address and not options.serial:
        return str(options.address)
    found = _find(options, settings)
    if len(found) > 1:
        names = ", ".join(f"{camera.serial} ({camera.model})" for camera in found)
        raise UsageError(f"several cameras answer: {names}", cure="choose one with --serial")
    return found[0].address


def _find(options: Options, settings: Settings) -> list[FoundCamera]:
    found = discover([options.address] if options.address else settings.cameras)
    found = [camera for camera in found if options.serial in (None, camera.serial)]
    if not found:
        which = f" with the serial number {options.serial}" if options.serial else ""
        where = f" at {options.address}" if options.address else ""
        raise DeviceNotFoundError(f"no GoPro{which} answers{where}", cure=NO_CAMERA_CURE)
    return found


# What the verbs do


def _show_status(camera: GoPro, _options: Options, _settings: Settings) -> Result:
    serial, model = camera.identify()
    state = camera.state()
    does = "streaming" if camera.webcam_status() in STREAMING else "busy" if state.busy else "idle"
    return {
        "serial": serial or usb_serial_at(camera.host) or camera.address,
        "model": model,
        "address": camera.address,
        "state": "recording" if state.encoding else does,
        **{name: getattr(state, name) for name in FIGURES},
        "limits": limits(model),
    }


def _change_settings(camera: GoPro, options: Options, settings: Settings) -> Result:
    _, model = camera.identify()
    pairs = [camerasettings.parse(text, model) for text in options.items if text != camerasettings.RECOMMENDED]
    refused = []
    if options.items:
        camera.take_control(settings.camera_settings)  # most settings need Pro mode
        if camerasettings.RECOMMENDED in options.items:
            refused = camera.apply([camerasettings.RECOMMENDED], camera.state())
        for pair in pairs:
            camera.set(*pair)
    present = camera.state().settings
    named = camerasettings.named(present, model)
    return {"settings": {str(key): present[key] for key in sorted(present)}, "named": named, "refused": refused}


def _record(camera: GoPro, options: Options, settings: Settings) -> Result:
    def film(vigil: Vigil) -> None:
        camera.start_recording()
        try:
            _wait(options.seconds, partial(_go_on, vigil, Restarter(camera)))
            with suppress(*TROUBLE):
                vigil.note(None if camera.state().encoding else "the camera has stopped recording by itself")
        finally:
            camera.stop_recording()

    return _capture_on_card(camera, settings, film)


def _go_on(vigil: Vigil, restarter: Restarter) -> None:
    state = vigil.look()
    if state is not None:
        vigil.note(restarter.watch(state))


def _take_photo(camera: GoPro, _options: Options, settings: Settings) -> Result:
    return _capture_on_card(camera, settings, lambda _vigil: camera.take_photo())


def _capture_on_card(camera: GoPro, settings: Settings, capture: Callable[[Vigil], None]) -> Result:
    vigil, before = Vigil(camera), None
    with awake(camera.address):
        camera.take_control(settings.camera_settings)
        try:
            before = [media.path for media in camera.media()]
        except RefusedError as refusal:  # a recording need not wait for that
            vigil.note(str(refusal))
        capture(vigil)
        card = camera.media()
    return {"files": _listed([] if before is None else added(before, card)), "problems": vigil.problems}


def _stream(camera: GoPro, options: Options, settings: Settings) -> Result:
    capture, vigil = StreamCapture(camera, camera.identify()[1], options.output, settings), Vigil(camera)

    def watch() -> None:
        capture.watch()
        vigil.look()

    with awake(camera.address):
        capture.start()
        try:
            _wait(options.seconds, watch)
        finally:
            capture.halt()
            capture.dismiss()
    files = [str(options.output / name) for name in capture.files]
    told = {"files": files, "problems": capture.problems + vigil.problems}
    return told | {"fps": capture.fps, "lost_datagrams": capture.lost_datagrams}


def _list_media(camera: GoPro, options: Options, _settings: Settings) -> Result:
    gone = _named(camera, options.delete)
    for media in gone:
        camera.delete(media)
    return {"files": _listed(camera.media()), "deleted": [media.path for media in gone]}


def _download(camera: GoPro, options: Options, _settings: Settings) -> Result:
    wanted = _named(camera, options.items) if options.items else camera.media()
    with awake(camera.address):
        paths = download_all(camera.address, wanted, options.output, _meter(wanted))
    return {"files": list(map(str, paths))}


def _set_clock(camera: GoPro, _options: Options, _settings: Settings) -> Result:
    camera.set_clock()
    return {"address": camera.address, "clock": "UTC"}


def _named(camera: GoPro, names: Sequence[str]) -> list[Media]:
    """The files of these names or paths; one of several chapters is not all of them. Raises UnknownError."""
    card = camera.media()
    for name in names:
        if not any(name in (media.name, media.path) for media in card):
            raise UnknownError(f"{name} is not on the card of {camera.address}", cure="gopro.py media lists its files")
    return [media for media in card if {media.name, media.path} & set(names)]


def _listed(card: Sequence[Media]) -> list[Result]:
    return [asdict(media) | {"path": media.path} for media in card]


def _meter(wanted: Sequence[Media]) -> Progress:
    """Says on stderr how far a download of these files is."""
    total, done = max(1, sum(media.size_bytes or 0 for media in wanted)), dict[str, int]()
    tell = cli.Progress("fetched")

    def note(name: str, size: int) -> None:
        done[name] = size
        tell(min(1.0, sum([*done.values()]) / total))

    return note


def _wait(seconds: float | None, watch: Callable[[], None]) -> None:
    """Let time pass, watching; Ctrl-C is the way to end when no time was given."""
    end_s = math.inf if seconds is None else time.monotonic() + seconds
    try:
        while (left_s := end_s - time.monotonic()) > 0:
            watch()
            time.sleep(min(TICK_S, left_s))
    except KeyboardInterrupt:
        if seconds is not None:
            raise


Verb = Callable[[GoPro, Options, Settings], Result]

VERBS: dict[str, tuple[Verb, str]] = {
    "discover": (_show_status, "find the cameras that answer"),
    "status": (_show_status, "how one camera is, and what its model cannot do"),
    "settings": (_change_settings, "list its settings, or set some: by name, by number, or as recommended"),
    "record": (_record, "record a video on its card"),
    "stream": (_stream, "record its webcam stream here"),
    "photo": (_take_photo, "take a photo on its card"),
    "media": (_list_media, "list the files on its card, or delete some"),
    "download": (_download, "fetch files from its card, going on where an earlier download broke off"),
    "set-clock": (_set_clock, "set its clock to UTC"),
}


def _say(result: Result) -> str:
    if "cameras" in result:
        return "\n".join(f"{item['serial']}  {item['model']}  {item['address']}" for item in result["cameras"])
    lines = []
    for key, value in result.items():
        if key == "settings":
            continue  # they come by name
        if key == "files":
            lines += [f"{item['path']}  {item['size_bytes']}" if isinstance(item, dict) else item for item in value]
        elif isinstance(value, dict):
            lines += [f"{name}={item}" for name, item in value.items()]
        elif isinstance(value, list | tuple):
            lines += [f"{key}: {item}" for item in value]
        elif value is not None:
            lines.append(f"{key}: {value}")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
