"""The HTTP side of edenCar: the pages for the crew's phones and the API behind them; run it to serve the car."""

import argparse
import json
import logging
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, cast

from flask import Blueprint, Flask, Response, abort, current_app, render_template, request, send_file
from waitress.server import create_server
from werkzeug.exceptions import ServiceUnavailable
from zipstream import ZipStream  # type: ignore[import-untyped]

import configs
from car import MODES, POSITIONS_ONLY, Car, software
from configs import Settings
from jobs import GEOTAG, PROCESS, Job, Jobs
from rig import cli
from rig.clock import NS_PER_MS, iso_utc
from rig.errors import ConflictError, NoSpaceError, UnknownError, UsageError
from rig.files import free_bytes
from rig.recordings import OPEN_STATES, RECORDING, Manifest, Recordings
from rig.web import POLICY, Rules, answer, describe, install, problem, read_body

ROOT = Path(__file__).parent
WEB = ROOT / "web"
CODE_PAGE = ROOT / "v1" / "QRCodeDatTimeGenerator.html"
LANGUAGES = ("fr", "en")

THREADS = 16  # as many phones' requests at once; a slow download holds one
DOWNLOADS = 6  # at once, so that threads are left for start, stop and status
DOWNLOAD_RETRY_S = 30
CONNECTIONS = 500  # half-open ones of a bad network must not lock out the crew
BODY_BYTES = 64 << 10
UPLOAD_BYTES = 256 << 20  # a day of NMEA at 10 Hz
UPLOAD_FILES = 10
UPLOAD_SUFFIXES = (".csv", ".nmea", ".txt", ".log", ".gpx", ".mp4")
UPLOADS = "positions/uploads"

CODE_POLICY = POLICY.replace("'self'", "'self' 'unsafe-inline'", 1)  # one file that also works without a server
MIME_TYPES = {".ts": "video/mp2t", ".nmea": "text/plain", ".idx": "text/plain", ".log": "text/plain"}

CALIBRATE_S = 10
PREVIEW_WAIT_S, PREVIEW_POLL_S = 5.0, 0.1
EVERY = {"type": "string", "pattern": r"^\d{1,4}(\.\d{1,3})?(s|m)$", "description": "0.5s or 5m"}
TEXT = {"type": "string", "maxLength": 200}
DRAW = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 10**15}, "minItems": 2, "maxItems": 2}
TEXTS = {"type": "array", "items": TEXT, "maxItems": 16}
# What request bodies may hold, by endpoint; checked by _body and told in /api/openapi.json.
BODIES: Mapping[str, Rules] = {
    "api.start": {
        "mode": {"type": "string", "enum": list(MODES), "default": MODES[0]},
        "name": TEXT,
        "cameras": {**TEXTS, "description": "serials; all cameras by default"},
        "allow": {"type": "string", "enum": [POSITIONS_ONLY]},
        "every": EVERY,
    },
    "api.calibrate": {"seconds": {"type": "number", "minimum": 1, "maximum": 60, "default": CALIBRATE_S}},
    "api.change_camera": {"label": {"type": "string", "maxLength": 40, "description": "left, or nothing for no name"}},
    "api.log_codes": {
        "page": {"type": "string", "pattern": r"^[0-9a-z]{4,32}\Z", "description": "4 to 32 of 0-9 and a-z"},
        "user_agent": {"type": ["string", "null"], "maxLength": 1000},
        "refresh_hz": {"type": ["number", "null"], "minimum": 0, "maximum": 1000},
        "offset_bound_ms": {"type": ["number", "null"], "minimum": 0, "maximum": 1e9},
        "missed": {"type": ["integer", "null"], "minimum": 0, "maximum": 10**9},
        "draws": {"type": "array", "items": DRAW, "maxItems": 2000, "description": "[[sequence, UTC in 0.1 ms], ...]"},
    },
    "api.change_recording": {"name": TEXT, "note": {"type": "string", "maxLength": 5000}},
    "api.process": {"every": EVERY},
    "api.geotag": {"positions": {**TEXTS, "description": f"files of this recording, e.g. {UPLOADS}/..."}},
}
UPLOAD_FIELDS = {"api.geotag": "positions"}

pages = Blueprint("pages", __name__)
api = Blueprint("api", __name__)


def create_app(car: Car, jobs: Jobs, settings: Settings) -> Flask:
    """The WSGI application that shows and drives `car`."""
    app = Flask(__name__, template_folder=str(WEB / "templates"), static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=BODY_BYTES, MAX_FORM_MEMORY_SIZE=BODY_BYTES, MAX_FORM_PARTS=2 * UPLOAD_FILES)
    app.extensions.update(car=car, jobs=jobs, settings=settings, downloads=threading.BoundedSemaphore(DOWNLOADS))
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.register_blueprint(pages)
    app.register_blueprint(api)
    install(app, settings.host_names)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C, then stop the recording and all workers, and return the exit code."""
    parser = argparse.ArgumentParser(prog="server.py", description=__doc__)
    parser.add_argument("--host", metavar="ADDRESS", help="where to listen; 0.0.0.0 for all networks")
    parser.add_argument("--port", type=int, metavar="N", help="TCP port; 0 takes a free one")
    parser.add_argument("--output", type=Path, metavar="DIR", help="the folder of all recordings")
    return cli.run(parser, _serve, lambda _result: "stopped", argv)


# Pages


@pages.get("/")
def show_drive() -> Response:
    """The page of the drive: state, devices, start and stop, recordings."""
    return _page("drive.html")


@pages.get("/recordings/<recording_id>")
def show_recording(recording_id: str) -> Response:
    """The page of one recording."""
    return _page("recording.html", recording=_recordings().get(recording_id))


@pages.get("/qrcode")
def show_code() -> Response:
    """The page that shows the time code to the cameras."""
    if not CODE_PAGE.is_file():
        raise UnknownError("the page of the time code is not installed", cure=f"put {CODE_PAGE.name} into v1/")
    response = send_file(CODE_PAGE, conditional=True, max_age=0)
    response.headers["Content-Security-Policy"] = CODE_POLICY
    return response


@pages.get("/web/<any(css, js):folder>/<name>")
def send_asset(folder: str, name: str) -> Response:
    """A style sheet or a script."""
    path = WEB / folder / name
    if path.is_symlink() or not path.is_file():
        abort(404)
    return send_file(path, conditional=True, max_age=0)


# The car


@api.get("/api/status")
def show_status() -> Response:
    """Everything the crew must know now. Answers 200."""
    return answer({**asdict(_car().status()), "jobs": [asdict(job) for job in _jobs().list() if not job.finished]})


@api.get("/api/time")
def show_time() -> Response:
    """The Pi's UTC in ns since 1970, its sigma and its source (gnss, system). Answers 200."""
    clock = _car().clock()
    utc_ns = clock.utc_ns()
    fields = f'"sigma_ms":{clock.sigma_ns / 1e6:.3f},"source":"{clock.source}","utc":"{iso_utc(utc_ns)}"'
    return Response(f'{{"utc_ns":{utc_ns},{fields}}}', mimetype="application/json")


@api.post("/api/start")
def start() -> Response:
    """Start a recording, or return the one that runs; works without a body. Answers 201, 200, 409, 502, 503, 507."""
    manifest, new = _car().start(**_body())
    location = f"/api/recordings/{manifest.id}"
    return answer({"recording": _shown(manifest)}, 201 if new else 200, Location=location)


@api.post("/api/stop")
def stop() -> Response:
    """Stop the recording, all up to now is on disk; recording is null when none runs. Answers 200."""
    manifest = _car().stop()
    return answer({"recording": manifest and _shown(manifest)})


@api.get("/api/cameras")
def list_cameras() -> Response:
    """The cameras and their state. Answers 200."""
    return answer({"cameras": [asdict(camera) for camera in _car().status().cameras]})


@api.patch("/api/cameras/<serial>")
def change_camera(serial: str) -> Response:
    """Give a camera a name (label), which also names the folder of its files from now on. Answers 200, 404, 409."""
    label = _body().get("label")
    if label is None:
        raise UsageError("nothing is to be changed", cure='send {"label": "left"}')
    return answer({"camera": asdict(_car().name_camera(serial, label))})


@api.get("/api/cameras/<serial>/preview.jpg")
def show_preview(serial: str) -> Response:
    """The newest key frame of a camera's stream; X-Picture-Age-Ms counts from its arrival.

    There is none until somebody has asked for one; ?wait has it waited for up to 5 s. Answers 200, 404, 503.
    """
    deadline_s = time.monotonic() + (PREVIEW_WAIT_S if "wait" in request.args else 0.0)
    picture = _car().picture(serial)
    while picture is None and time.monotonic() < deadline_s and _car().streams(serial):
        time.sleep(PREVIEW_POLL_S)
        picture = _car().picture(serial)
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


@api.post("/api/qrcode/log")
def log_codes() -> Response:
    """What a page with the time code has drawn and when; kept with the recording that runs. Answers 204, 409."""
    post = _body()
    for name in ("page", "draws"):
        if name not in post:
            raise UsageError(f"{name!r} is missing", cure="see /api/openapi.json")
    _car().note_codes(post["page"], post)
    return Response(status=204)


@api.get("/healthz")
def show_health() -> Response:
    """Whether the supervision of all devices runs. Answers 200, 503."""
    if not _car().alive:
        return problem(503, "Not alive", "the supervision of the devices hangs", "restart the server")
    return answer({"alive": True})


# Recordings


@api.get("/api/recordings")
def list_recordings() -> Response:
    """All recordings, the newest first, and what is in the trash. Answers 200."""
    recordings = _recordings()
    shown = [_shown(manifest) for manifest in recordings.list()]
    return answer({"recordings": shown, "trash": recordings.list_trash()})


@api.get("/api/recordings/<recording_id>")
def get_recording(recording_id: str) -> Response:
    """One recording with its settings and files. Answers 200, 404."""
    manifest = _recordings().get(recording_id)
    files = _recordings().files(recording_id)
    total = sum(file.size_bytes for file in files)
    full = {**_shown(manifest), "settings": manifest.settings, "size_bytes": total}
    return answer({"recording": {**full, "files": [asdict(file) for file in files]}})


@api.patch("/api/recordings/<recording_id>")
def change_recording(recording_id: str) -> Response:
    """Give a recording a name or a note. Answers 200, 404."""
    return answer({"recording": _shown(_recordings().update(recording_id, **_body()))})


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
    return answer({"recording": _shown(_car().restore(recording_id))})


@api.get("/api/recordings/<recording_id>/files/<path:path>")
def send_recorded_file(recording_id: str, path: str) -> Response:
    """One file of a recording, or a range of it; ?download makes browsers save it. Answers 200, 206, 304, 404, 416."""
    file = _recordings().file(recording_id, path)
    mimetype = MIME_TYPES.get(file.suffix)
    return send_file(file, mimetype, as_attachment="download" in request.args, conditional=True, max_age=0)


@api.get("/api/recordings/<recording_id>/download")
def download_recording(recording_id: str) -> Response:
    """All files of a recording as one ZIP of known length. Answers 200, 404, 409, 503."""
    recordings = _recordings()
    if recordings.get(recording_id).state in OPEN_STATES or _jobs().is_busy(recording_id):
        raise ConflictError(f"recording {recording_id} still changes", cure="wait until it is complete")
    archive = ZipStream(sized=True)
    for file in recordings.files(recording_id):
        # Looked up again one by one: what has become a link meanwhile is not followed.
        archive.add_path(recordings.file(recording_id, file.path), f"{recording_id}/{file.path}", recurse=False)
    response = Response(archive, mimetype="application/zip")
    response.content_length = len(archive)
    response.headers["Content-Disposition"] = f'attachment; filename="{recording_id}.zip"'
    _count_download(response)
    return response


@api.post("/api/recordings/<recording_id>/process")
def process(recording_id: str) -> Response:
    """Extract photos from the videos and give them positions. Answers 202, 404, 409."""
    return _accepted(_jobs().add(PROCESS, recording_id, **_body()))


@api.post("/api/recordings/<recording_id>/geotag")
def geotag(recording_id: str) -> Response:
    """Give the photos positions, from the own log or from uploaded files. Answers 202, 404, 409, 507."""
    recordings = _recordings()
    if recordings.get(recording_id).state == RECORDING:
        raise ConflictError(f"recording {recording_id} still runs", cure="stop it first")
    request.max_content_length = UPLOAD_BYTES
    if request.mimetype == "multipart/form-data":
        positions = [*_save_uploads(recordings.folder(recording_id))]
    else:
        positions = [recordings.file(recording_id, path) for path in _body().get("positions", ())]
    return _accepted(_jobs().add(GEOTAG, recording_id, positions=tuple(positions)))


# Jobs


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


@api.get("/api/openapi.json")
def show_description() -> Response:
    """This description. Answers 200."""
    title, _, version = software().partition(" ")
    return answer(describe(current_app, title, version, BODIES, UPLOAD_FIELDS))


# Helpers


def _car() -> Car:
    return cast(Car, current_app.extensions["car"])


def _jobs() -> Jobs:
    return cast(Jobs, current_app.extensions["jobs"])


def _recordings() -> Recordings:
    return _car().recordings


def _body() -> dict[str, Any]:
    return read_body(BODIES[request.endpoint or ""])


def _shown(manifest: Manifest) -> dict[str, Any]:
    """A manifest as lists show it: without the settings, with whether there are photos."""
    photos = (_recordings().folder(manifest.id) / "photos.csv").is_file()
    return {**asdict(replace(manifest, settings={})), "photos": photos}


def _accepted(job: Job) -> Response:
    return answer({"job": asdict(job)}, 202, Location=f"/api/jobs/{job.id}")


def _count_download(response: Response) -> None:
    """Hold one of the few places for downloads until the response is closed, however that happens."""
    places = current_app.extensions["downloads"]
    if not places.acquire(blocking=False):
        raise ServiceUnavailable("enough downloads are running", retry_after=DOWNLOAD_RETRY_S)
    response.call_on_close(places.release)


def _save_uploads(recording: Path) -> list[Path]:
    """Store the files of a multipart body below a recording, under names of our own."""
    uploads = [upload for upload in request.files.values() if upload.filename]
    if not uploads:
        raise UsageError("no file was sent", cure="send it as multipart/form-data, e.g. curl -F positions=@log.nmea")
    suffixes = [Path(upload.filename or "").suffix.lower() for upload in uploads]
    for suffix in suffixes:
        if suffix not in UPLOAD_SUFFIXES:
            raise UsageError(f"{suffix[:20]!r} files hold no positions", cure=f"send {', '.join(UPLOAD_SUFFIXES)}")
    if free_bytes(recording) < (request.content_length or 0) + current_app.extensions["settings"].reserve_bytes:
        raise NoSpaceError("the disk has no room for this file", cure="delete recordings")
    folder = recording / UPLOADS
    folder.mkdir(parents=True, exist_ok=True)
    stamp = iso_utc(_car().clock().utc_ns()).replace(":", "").replace("-", "")
    paths = [folder / f"{stamp}-{secrets.token_hex(3)}{suffix}" for suffix in suffixes]
    for upload, path in zip(uploads, paths, strict=True):
        upload.save(path)
    return paths


def _page(template: str, **values: Any) -> Response:
    language = _language()
    html = render_template(template, t=_texts(language), language=language, languages=LANGUAGES, **values)
    response = Response(html, mimetype="text/html", headers={"Cache-Control": "no-store", "Vary": "Accept-Language"})
    if "lang" in request.args:
        response.set_cookie("lang", language, max_age=365 * 86400, samesite="Strict", path="/")
    return response


def _language() -> str:
    """What was chosen, else what the phone speaks; en-GB before fr is English, which `best_match` does not see."""
    chosen = (request.args.get("lang"), request.cookies.get("lang"))
    spoken = (tag.split("-")[0].lower() for tag in request.accept_languages.values())
    return next((language for language in (*chosen, *spoken) if language in LANGUAGES), LANGUAGES[0])


@cache
def _texts(language: str) -> dict[str, str]:
    texts: dict[str, str] = json.loads((WEB / "i18n" / f"{language}.json").read_text(encoding="utf-8"))
    return texts


# Serving


def _serve(options: argparse.Namespace) -> dict[str, Any]:
    wanted = {name: getattr(options, name) for name in ("host", "port", "output")}
    settings = replace(configs.load(), **{name: value for name, value in wanted.items() if value is not None})
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    listener = _listen(settings.host, settings.port)
    with Car(settings) as car, Jobs(settings, car.recordings, car.clock) as jobs:
        server = create_server(
            create_app(car, jobs, settings),
            sockets=[listener],
            threads=THREADS,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,  # select() ends at 1024 descriptors
            max_request_body_size=UPLOAD_BYTES,
            ident="edenCar",
        )
        host, port = listener.getsockname()[:2]
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a moment's queue is nothing to tell
        print(
            f"edenCar serves http://{host}:{port} and records into {car.recordings.output}", file=sys.stderr, flush=True
        )
        try:
            server.run()  # returns when _leave raises
        finally:
            server.close()
    return {"served": f"http://{host}:{port}"}


def _leave(_number: int, _frame: object) -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the second Ctrl-C must not disturb the orderly end
    raise SystemExit(0)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OverflowError as error:
        raise UsageError(f"{port} is no TCP port", cure="take one from 0 to 65535") from error
    except OSError as error:
        cure = f"stop what listens there, or name another --port ({error.strerror})"
        raise ConflictError(f"port {port} of {host} cannot be used", cure=cure) from error


if __name__ == "__main__":
    raise SystemExit(main())
