"""The HTTP side of edenCar: the pages for the crew's phones and the API behind them; run it to serve the car."""

import argparse
import json
import logging
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

from flask import Blueprint, Flask, Response, abort, current_app, request, send_file
from waitress.server import TcpWSGIServer
from werkzeug.exceptions import ServiceUnavailable

import configs
from car import Car, software
from configs import Settings
from jobs import GEOTAG, PROCESS, Job, Jobs
from rig import cli
from rig.camera import camerasettings
from rig.camera.opengopro import GoPro
from rig.clock import NS_PER_MS, iso_utc
from rig.drive import metrics, selftest
from rig.drive.archive import Archive
from rig.drive.digest import Digests
from rig.errors import ConflictError, UnknownError, UsageError
from rig.heap import use_one_heap
from rig.http.access import COOKIE, Gate, guard, read_pin, remember
from rig.http.contract import BLINK_S, BODIES, CALIBRATE_S, DOWNLOADING, NOTHING, PICTURE_WIDTHS, REQUIRED, UPLOADING
from rig.http.front import BODY_BYTES, listen, serve_from
from rig.http.openapi import describe, markdown
from rig.http.pages import WEB, assets_version, show_page
from rig.http.sending import Places, send_picture, send_resumable, send_stored
from rig.http.tiles import Tiles
from rig.http.uploads import UPLOAD_BYTES, UPLOAD_FILES, UPLOAD_SUFFIXES, save_uploads
from rig.http.web import POLICY, addresses, answer, install, problem, read_body
from rig.live.thumbnails import Thumbnails
from rig.recordings import MODES, OPEN_STATES, RECORDING, Manifest, Recordings
from rig.status import CameraNow, CarStatus
from rig.systemd import told_to_systemd

CODE_PAGE = Path(__file__).parent / "v1" / "QRCodeDatTimeGenerator.html"
USUAL_HOST = "http://edencar.local:5000"

FORM_MEMORY_BYTES = 128 << 10  # Werkzeug counts the piece of a file that it reads, 64 KiB, and what is left of the last
DOWNLOADS = 6  # at once
LISTENERS = 8  # to /api/events, at once
DOWNLOAD_RETRY_S, LISTEN_RETRY_S = 30, 10
EVENT_S = 1.0

CODE_POLICY = POLICY.replace("'self'", "'self' 'unsafe-inline'", 1)  # one file that also works without a server
IN_SHORT = {"resolution": "resolution", "fov": "lens", "fps": "fps"}  # keys for the settings that matter most
ASSETS = {".css": "text/css", ".js": "text/javascript"}
FOREVER = "public, max-age=31536000, immutable"  # under an address that changes with the contents
PREVIEW_WAIT_S, PREVIEW_POLL_S = 5.0, 0.1

pages = Blueprint("pages", __name__)
api = Blueprint("api", __name__)


def create_app(car: Car, jobs: Jobs, settings: Settings) -> Flask:
    """The WSGI application that shows and drives `car`. Close what it holds with `close_app`."""
    app = Flask(__name__, template_folder=str(WEB / "templates"), static_folder=None)
    app.config.update(
        MAX_CONTENT_LENGTH=BODY_BYTES, MAX_FORM_MEMORY_SIZE=FORM_MEMORY_BYTES, MAX_FORM_PARTS=2 * UPLOAD_FILES
    )
    app.extensions.update(
        car=car,
        jobs=jobs,
        settings=settings,
        gate=Gate(read_pin(settings.pin_file), settings.output / ".sessions.json"),
        digests=Digests(car.recordings),
        thumbnails=Thumbnails(),
        tiles=Tiles(settings.map_tiles),
        downloads=Places("downloads", DOWNLOADS, DOWNLOAD_RETRY_S),
        listeners=Places("listeners", LISTENERS, LISTEN_RETRY_S),
        ending=threading.Event(),
    )
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.register_blueprint(pages)
    app.register_blueprint(api)
    install(app, settings.host_names)
    guard(app, app.extensions["gate"], closed=DOWNLOADING, free=("api.open_session",))
    return app


def serve_app(app: Flask, listener: socket.socket) -> TcpWSGIServer:
    """A server of the application at a socket that listens; long bodies only for who may send them, where they go."""
    return serve_from(listener, app, app.extensions["gate"], UPLOADING, app.extensions["settings"].reserve_bytes)


def close_app(app: Flask) -> None:
    """End long answers, threads and processes of an application."""
    app.extensions["ending"].set()
    for name in ("digests", "thumbnails"):
        app.extensions[name].close()


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, then stop the recording and all workers, and return the exit code."""
    parser = argparse.ArgumentParser(prog="server.py", description=__doc__)
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen; 0.0.0.0 for all networks")
    parser.add_argument("--port", type=int, metavar="N", help="TCP port; 0 takes a free one")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the folder of all recordings")
    parser.add_argument("--api-document", action="store_true", help="only print what docs/api.md says of the API")
    return cli.run(parser, lambda options: (_document if options.api_document else _serve)(options), _told, argv)


# Pages


@pages.get("/")
def show_drive() -> Response:
    """The page of the drive: state, devices, start and stop. Answers 200."""
    return show_page("drive.html", status=_status(), modes=MODES)


@pages.get("/recordings")
def show_recordings() -> Response:
    """The page with the list of recordings and the trash. Answers 200."""
    return show_page("recordings.html")


@pages.get("/recordings/<recording_id>")
def show_recording(recording_id: str) -> Response:
    """The page of one recording. Answers 200, 404."""
    tiles: Tiles = current_app.extensions["tiles"]
    recording = _recordings().get(recording_id)
    response = show_page("recording.html", recording=recording, tiles=tiles, suffixes=UPLOAD_SUFFIXES)
    if tiles.origin:
        policy = POLICY.replace("img-src 'self'", f"img-src 'self' {tiles.origin}")
        response.headers["Content-Security-Policy"] = policy
    return response


@pages.get("/settings")
def show_settings() -> Response:
    """The page of the cameras' settings and of the self-test. Answers 200."""
    return show_page("settings.html")


@pages.get("/qrcode")
def show_code() -> Response:
    """The page that shows the time code to the cameras. Answers 200, 404."""
    if not CODE_PAGE.is_file():
        raise UnknownError("the page of the time code is not installed", cure=f"put {CODE_PAGE.name} into v1/")
    headers = {"Content-Security-Policy": CODE_POLICY, "Cache-Control": "no-cache"}
    return Response(CODE_PAGE.read_bytes(), mimetype="text/html", headers=headers)


@pages.get("/chart")
def show_chart() -> Response:
    """The chart of falling sizes for `./edencar measure fov`: to be shown full screen or printed. Answers 200."""
    return send_file(WEB / "chart.png", conditional=True, max_age=0)


@pages.get("/web/<version>/<any(css, js):folder>/<name>")
def send_asset(version: str, folder: str, name: str) -> Response:
    """A style sheet or a script; `version` changes with the contents of all. Answers 200, 404."""
    path = WEB / folder / name
    if path.suffix not in ASSETS or path.is_symlink() or not path.is_file():
        abort(404)
    caching = FOREVER if version == assets_version() else "no-store"
    return Response(path.read_bytes(), mimetype=ASSETS[path.suffix], headers={"Cache-Control": caching})


# The car


@api.get("/api/status")
def show_status() -> Response:
    """Everything the crew must know now. Answers 200."""
    return answer(_status())


@api.get("/api/events")
def follow_status() -> Response:
    """The same as server-sent events, one a second, for at most 8 listeners. Answers 200, 503."""
    last = request.headers.get("Last-Event-ID", "")
    car, jobs, ending = _car(), _jobs(), current_app.extensions["ending"]

    def events() -> Iterator[str]:
        number = int(last) if re.fullmatch(r"[0-9]{1,12}", last) else 0
        yield "retry: 2000\n\n"
        while not ending.is_set():
            number += 1
            yield f"id: {number}\nevent: status\ndata: {json.dumps(_status_of(car, jobs))}\n\n"
            ending.wait(EVENT_S)

    response = Response(events(), mimetype="text/event-stream", headers={"Cache-Control": "no-store"})
    return _places("listeners").hold(response)


@api.get("/api/time")
def show_time() -> Response:
    """The Pi's UTC in ns since 1970, its sigma and its source (gnss, system). Answers 200."""
    clock = _car().clock()
    utc_ns, sigma_ms = clock.utc_ns(), round(clock.sigma_ns / NS_PER_MS, 3)
    return answer({"utc_ns": utc_ns, "sigma_ms": sigma_ms, "source": clock.source, "utc": iso_utc(utc_ns)})


@api.post("/api/start")
def start() -> Response:
    """Start a recording, or return the one that runs; works without a body. Answers 201, 200, 409, 502, 503, 507."""
    manifest, new = _car().start(**_body())
    location = f"/api/recordings/{manifest.id}"
    return answer({"recording": _shown(manifest)}, 201 if new else 200, Location=location)


@api.post("/api/stop")
def stop() -> Response:
    """Stop the recording, all up to now is on disk; recording is null when none runs.

    After 503 and 507 nothing is recorded either, but the disk takes no manifest that says so: that is tried again.
    Answers 200, 503, 507.
    """
    read_body(NOTHING)
    manifest = _car().stop()
    return answer({"recording": manifest and _shown(manifest)})


@api.get("/api/cameras")
def list_cameras() -> Response:
    """The cameras and their state. Answers 200."""
    return answer({"cameras": [asdict(camera) for camera in _car().status().cameras]})


@api.patch("/api/cameras/<serial>")
def change_camera(serial: str) -> Response:
    """Give a camera a name, that of its files' folder from now on, or set it up. Answers 200, 404, 409, 502, 503."""
    body = _body()
    if not body:
        raise UsageError("nothing is to be changed", cure='send {"label": "left"} or {"settings": ["recommended"]}')
    refused: list[str] = []
    short = (f"{setting}={body[name]}" for name, setting in IN_SHORT.items() if name in body)
    if wanted := [*body.get("settings", ()), *short]:
        refused = _set_up(_camera(serial), wanted)
    if "label" in body:
        _car().gear.name_camera(serial, body["label"])
    return answer({"camera": asdict(_camera(serial)), "refused": refused})


@api.get("/api/cameras/<serial>/settings")
def show_camera_settings(serial: str) -> Response:
    """What a camera is set to, what it could be, and what is recommended. Answers 200, 404, 502, 503."""
    camera = _camera(serial)
    with closing(GoPro(camera.address)) as gopro:
        present = camerasettings.named(gopro.state().settings, camera.model)
    options = {name: list(setting.options) for name, setting in camerasettings.of_model(camera.model).items()}
    choice = dict(item.split("=") for item in camerasettings.CHOICE)
    return answer({"settings": present, "options": options, "recommended": choice})


@api.get("/api/cameras/<serial>/preview.jpg")
def show_preview(serial: str) -> Response:
    """The newest key frame of a camera's stream; X-Picture-Age-Ms counts from its arrival.

    There is none until somebody has asked for one: then 503. ?wait has it waited for up to 5 s, and 204 if none comes.
    Answers 200, 204, 404, 503.
    """
    deadline_s = time.monotonic() + (PREVIEW_WAIT_S if "wait" in request.args else 0.0)
    picture = _car().gear.picture(serial)
    while picture is None and time.monotonic() < deadline_s and _car().streams(serial):
        time.sleep(PREVIEW_POLL_S)
        picture = _car().gear.picture(serial)
    if picture is None and "wait" in request.args:
        return Response(status=204)
    if picture is None:
        raise ServiceUnavailable("no picture has come yet; there is one only while streams run", retry_after=1)
    age_ms = (time.monotonic_ns() - picture.arrival_monotonic_ns) / NS_PER_MS
    headers = {"X-Picture-Age-Ms": f"{age_ms:.0f}", "Cache-Control": "no-store"}
    return Response(picture.jpeg, headers=headers, mimetype="image/jpeg")


@api.post("/api/calibrate")
def calibrate() -> Response:
    """Watch all streams for the time code; per camera the offset of its PTS, the stream's delay and their errors.

    Without a recording the streams are started for it and nothing is kept. Answers 200, 409, 503, 507.
    """
    seconds = float(_body().get("seconds", CALIBRATE_S))
    return answer({"seconds": seconds, "cameras": _car().calibrate(seconds)})


@api.post("/api/display-latency")
def measure_latency() -> Response:
    """Blink the LED and film it beside a phone with the code: its display latency, kept for that phone and browser.

    Without a recording the streams are started for it and nothing else is kept. Answers 200, 409, 422, 503, 507.
    """
    body = _body()
    result = _car().measure_latency(float(body.get("seconds", BLINK_S)), body.get("user_agent", ""))
    return answer({"display_latency": asdict(result)})


@api.post("/api/qrcode/log")
def log_codes() -> Response:
    """What a page with the time code has drawn and when; kept with the recording that runs. Answers 204, 409."""
    post = _body()
    _car().note_codes(post["page"], post)
    return Response(status=204)


@api.get("/api/selftest")
def test_devices() -> Response:
    """For each device, step by step, what is missing for a recording, and its cure. Answers 200."""
    devices = selftest.examine(_car().status(), selftest.look_around())
    return answer({"devices": [asdict(device) for device in devices]})


@api.get("/healthz")
def show_health() -> Response:
    """Whether the supervision of all devices runs. Answers 200, 503."""
    if not _car().alive:
        return problem(503, "Not alive", "the supervision of the devices hangs", "restart the server")
    return answer({"alive": True})


@api.get("/metrics")
def show_metrics() -> Response:
    """The same figures for Prometheus. Answers 200."""
    text = metrics.render(_status(), _car().alive, current_app.extensions["responses"])
    return Response(text, content_type=metrics.CONTENT_TYPE)


# Who may change things


@api.get("/api/session")
def show_session() -> Response:
    """Whether a PIN is set (closed), and whether this request has shown it (allowed). Answers 200."""
    return answer({"closed": _gate().closed, "allowed": _gate().admits(request)})


@api.post("/api/session")
def open_session() -> Response:
    """Give the PIN once, as JSON; the token is a cookie too, and good as a Bearer. Answers 200, 401, 429."""
    token = _gate().open_session(_body()["pin"], request.remote_addr or "")
    return remember(answer({"token": token}), token)


@api.delete("/api/session")
def close_session() -> Response:
    """Forget this browser. Answers 204."""
    _gate().close_session(request.cookies.get(COOKIE, ""))
    response = Response(status=204)
    response.delete_cookie(COOKIE)
    return response


# Recordings


@api.get("/api/recordings")
def list_recordings() -> Response:
    """All recordings, the newest first, and what is in the trash. A summary is null while it is made. Answers 200."""
    recordings = _recordings()
    shown = []
    for manifest in recordings.list():
        with suppress(UnknownError):  # moved to the trash meanwhile
            shown.append(_shown(manifest))
    return answer({"recordings": shown, "trash": recordings.list_trash()})


@api.get("/api/recordings/<recording_id>")
def get_recording(recording_id: str) -> Response:
    """One recording with its settings and files; the photos are listed at .../photos. Answers 200, 404."""
    manifest = _recordings().get(recording_id)
    files = _recordings().files(recording_id)
    total = sum(file.size_bytes for file in files)
    full = {**_shown(manifest), "settings": manifest.settings, "size_bytes": total}
    return answer({"recording": {**full, "files": [asdict(file) for file in files]}})


@api.patch("/api/recordings/<recording_id>")
def change_recording(recording_id: str) -> Response:
    """Give a recording a name or a note. Answers 200, 404, 422."""
    return answer({"recording": _shown(_car().change(recording_id, **_body()))})


@api.delete("/api/recordings/<recording_id>")
def trash_recording(recording_id: str) -> Response:
    """Move a recording to the trash. Answers 204, 404, 409."""
    if _jobs().is_busy(recording_id):
        raise ConflictError(f"a job works on recording {recording_id}", cure="wait for it or cancel it")
    _recordings().trash(recording_id)
    return Response(status=204)


@api.post("/api/recordings/<recording_id>/restore")
def restore_recording(recording_id: str) -> Response:
    """Take a recording out of the trash. Answers 200, 404, 409."""
    read_body(NOTHING)
    return answer({"recording": _shown(_car().restore(recording_id))})


@api.get("/api/recordings/<recording_id>/photos")
def list_photos(recording_id: str) -> Response:
    """The table of photos in columns, with times, places and sigmas; empty before it is made. Answers 200, 404."""
    return Response(_digests().photos(recording_id), mimetype="application/json")


@api.get("/api/recordings/<recording_id>/track")
def show_track(recording_id: str) -> Response:
    """The track, thinned to 4,000 points: lists of times, places, qualities and sigmas. Answers 200, 404."""
    return Response(_digests().track(recording_id), mimetype="application/json")


@api.get("/api/recordings/<recording_id>/thumbnails/<path:path>")
def show_thumbnail(recording_id: str, path: str) -> Response:
    """A small picture of a photo, or of the beginning of a video. Answers 200, 304, 404, 412, 422, 502."""
    width = request.args.get("width", str(PICTURE_WIDTHS[0]))
    if width not in map(str, PICTURE_WIDTHS):
        raise UsageError("there is no picture of this width", cure=f"take {PICTURE_WIDTHS[0]} or {PICTURE_WIDTHS[1]}")
    jpeg = current_app.extensions["thumbnails"].get(_recordings().file(recording_id, path), int(width))
    return send_picture(jpeg)


@api.get("/api/recordings/<recording_id>/files/<path:path>")
def send_recorded_file(recording_id: str, path: str) -> Response:
    """One file of a recording, or a range of it; ?download makes browsers save it.

    Answers 200, 206, 304, 404, 412, 416.
    """
    return send_stored(_recordings().file(recording_id, path))


@api.get("/api/recordings/<recording_id>/download")
def download_recording(recording_id: str) -> Response:
    """All files of a recording as one ZIP of known length; Range resumes it. Answers 200, 206, 404, 409, 416, 503."""
    recordings = _recordings()
    if recordings.get(recording_id).state in OPEN_STATES or _jobs().is_busy(recording_id):
        raise ConflictError(f"recording {recording_id} still changes", cure="wait until it is complete")
    # Looked up again one by one: what has become a link meanwhile is not followed.
    names = [file.path for file in recordings.files(recording_id)]
    archive = Archive((f"{recording_id}/{name}", recordings.file(recording_id, name)) for name in names)
    answered = send_resumable(archive.size, archive.etag, archive.read, f"{recording_id}.zip")
    return _places("downloads").hold(answered)


@api.post("/api/recordings/<recording_id>/process")
def process(recording_id: str) -> Response:
    """Extract photos from the videos and give them positions. Answers 202, 404, 409."""
    return _accepted(_jobs().add(PROCESS, recording_id, **_body()))


@api.post("/api/recordings/<recording_id>/geotag")
def geotag(recording_id: str) -> Response:
    """Give the photos positions, from the own log or from uploaded files. Answers 202, 404, 409, 413, 422, 507."""
    recordings = _recordings()
    if recordings.get(recording_id).state == RECORDING:
        raise ConflictError(f"recording {recording_id} still runs", cure="stop it first")
    request.max_content_length = UPLOAD_BYTES
    if request.mimetype == "multipart/form-data":
        reserve_bytes = current_app.extensions["settings"].reserve_bytes
        positions = save_uploads(recordings.folder(recording_id), reserve_bytes, _car().clock().utc_ns())
    else:
        positions = [recordings.file(recording_id, path) for path in _body().get("positions", ())]
    return _accepted(_jobs().add(GEOTAG, recording_id, positions=tuple(positions)))


# Jobs, the map, the description


@api.get("/api/jobs")
def list_jobs() -> Response:
    """All jobs since the server started, the newest first. Answers 200."""
    return answer({"jobs": [asdict(job) for job in _jobs().list()]})


@api.get("/api/jobs/<job_id>")
def get_job(job_id: str) -> Response:
    """One job. Answers 200, 404."""
    return answer({"job": asdict(_jobs().get(job_id))})


@api.delete("/api/jobs/<job_id>")
def cancel_job(job_id: str) -> Response:
    """Cancel a job; one that has ended stays as it is. Answers 200, 404."""
    return answer({"job": asdict(_jobs().cancel(job_id))})


@api.get("/api/tiles/<int:zoom>/<int:column>/<int:row>")
def send_tile(zoom: int, column: int, row: int) -> Response:
    """A picture of the map's ground from the local file named by the setting map_tiles. Answers 200, 404."""
    data, mimetype = current_app.extensions["tiles"].get(zoom, column, row)
    return Response(data, mimetype=mimetype, headers={"Cache-Control": "public, max-age=86400"})


@api.get("/api/openapi.json")
def show_description() -> Response:
    """This description. Answers 200."""
    return answer(_description(current_app))


# Helpers


def api_document(app: Flask) -> str:
    """docs/api.md below its introduction."""
    return markdown(_description(app), USUAL_HOST)


def _told(result: object) -> str:
    return result if isinstance(result, str) else "stopped"


def _document(_options: argparse.Namespace) -> str:
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(pages)
    app.register_blueprint(api)
    return api_document(app)


def _description(app: Flask) -> dict[str, Any]:
    title, _, version = software().partition(" ")
    return describe(app, title, version)


def _car() -> Car:
    return cast(Car, current_app.extensions["car"])


def _jobs() -> Jobs:
    return cast(Jobs, current_app.extensions["jobs"])


def _gate() -> Gate:
    return cast(Gate, current_app.extensions["gate"])


def _digests() -> Digests:
    return cast(Digests, current_app.extensions["digests"])


def _places(kind: str) -> Places:
    return cast(Places, current_app.extensions[kind])


def _recordings() -> Recordings:
    return _car().recordings


def _body() -> dict[str, Any]:
    endpoint = request.endpoint or ""
    return read_body(BODIES[endpoint], REQUIRED.get(endpoint, ()))


def _status() -> dict[str, Any]:
    return _status_of(_car(), _jobs())


def _status_of(car: Car, jobs: Jobs) -> dict[str, Any]:
    return {**asdict(car.status()), "jobs": [asdict(job) for job in jobs.list() if not job.finished]}


def _shown(manifest: Manifest) -> dict[str, Any]:
    """A manifest as lists show it: without the settings, with whether there are photos and with its summary."""
    photos = (_recordings().folder(manifest.id) / "photos.csv").is_file()
    shown = {name: value for name, value in asdict(manifest).items() if name != "settings"}
    return {**shown, "photos": photos, "summary": _digests().summary(manifest)}


def _accepted(job: Job) -> Response:
    return answer({"job": asdict(job)}, 202, Location=f"/api/jobs/{job.id}")


def _camera(serial: str) -> CameraNow:
    for camera in _car().status().cameras:
        if camera.serial == serial:
            return camera
    raise UnknownError(f"there is no camera {serial[:40]!r}", cure="see /api/cameras")


def _set_up(camera: CameraNow, wanted: Sequence[str]) -> list[str]:
    """Set a camera that does not record; what it refused."""
    if camera.records or camera.state in ("recording", "streaming"):
        raise ConflictError(f"camera {camera.serial} is in use", cure="stop the recording first")
    with closing(GoPro(camera.address)) as gopro:
        return gopro.apply(wanted, gopro.state())


# Serving


def _serve(options: argparse.Namespace) -> dict[str, Any]:
    use_one_heap()
    wanted = {name: getattr(options, name) for name in ("host", "port", "output")}
    settings = replace(configs.load(), **{name: value for name, value in wanted.items() if value is not None})
    ending = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_leave, ending))
    listener = listen(settings.host, settings.port)
    with Car(settings) as car, Jobs(settings, car.recordings, car.clock) as jobs:
        app = create_app(car, jobs, settings)
        app.extensions["ending"] = ending
        tempfile.tempdir = str(car.recordings.output)  # long uploads; /tmp may be memory
        server = serve_app(app, listener)
        host, port = listener.getsockname()[:2]
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a moment's queue is nothing to tell
        where = " and ".join(addresses(host, port))
        print(f"edenCar serves {where} and records into {car.recordings.output}", file=sys.stderr, flush=True)
        try:
            with told_to_systemd(host, port, lambda: _in_words(car.status())):
                server.run()  # returns when _leave raises
        finally:
            close_app(app)
            server.close()
    return {"served": f"http://{host}:{port}"}


def _in_words(status: CarStatus) -> str:
    running = "" if status.recording is None else f" {status.recording.id} for {status.recording.elapsed_s:.0f} s"
    return f"{status.state}{running}, room for {status.storage.seconds_left // 60} minutes"


def _leave(ending: threading.Event, _number: int, _frame: object) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the second Ctrl-C must not disturb the orderly end
    ending.set()  # waitress waits for long answers before `run` returns
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
