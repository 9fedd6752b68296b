"""The HTTP side: each route, each refusal, and the process that serves them."""

import http.client
import io
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import server
from car import Car
from configs import Settings
from jobs import Jobs, Task
from rig.camera.camerabook import CameraBook, Delay
from rig.clock import system_clock
from rig.errors import ConflictError, NoPositionError
from rig.http.front import BODY_BYTES
from rig.http.web import addresses
from rig.live.drawlog import DrawLogs
from rig.recordings import FETCHING, FINISHED, MODES, Recordings
from rig.workers import Link
from tests.machine import wait_for
from tests.test_car import a_car

ROOT = Path(__file__).parent.parent
PHOTOS = b"photo,camera\n"


def work(link: Link, task: Task, _settings: Settings) -> None:
    """A job that does as `every` says: ends, fails (9s), or goes on until it is cancelled (8s)."""
    if task.every == "9s":
        raise NoPositionError("no photo has a position", cure="look for the log")
    while task.every == "8s" and not link.stopping:
        link.report(0.25)
        link.check()
        time.sleep(0.02)
    if not link.stopping:
        (task.folder / "photos.csv").write_bytes(PHOTOS)
        link.report({"kind": task.kind, "every": task.every, "positions": [str(path) for path in task.positions]})


class ReadingClient(FlaskClient):
    """Reads each response to its end at once, as phones do; an open file would be a warning."""

    def open(self, *args: Any, buffered: bool = True, **options: Any) -> TestResponse:
        return super().open(*args, buffered=buffered, **options)


@contextmanager
def an_app(output: Path, *cameras: str, **settings: Any) -> Iterator[tuple[Flask, Car]]:
    with a_car(output, *cameras, **settings) as (car, _):
        quick = Settings(output=output, **settings)
        with Jobs(quick, car.recordings, car.clock, work) as jobs:
            app = server.create_app(car, jobs, quick)
            app.test_client_class = ReadingClient
            yield app, car
            server.close_app(app)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    with an_app(tmp_path_factory.mktemp("output"), "C1") as (app, _):
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def store(app: Flask) -> Recordings:
    car: Car = app.extensions["car"]
    return car.recordings


@pytest.fixture
def recording(client: FlaskClient) -> str:
    """A finished recording."""
    recording_id = str(client.post("/api/start").json["recording"]["id"])  # type: ignore[index]
    client.post("/api/stop")
    return recording_id


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """What a refusal says, which is the same form everywhere."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    value: dict[str, Any] = json.loads(response.data)
    assert set(value) == {"type", "title", "status", "detail", "cure", "instance"}
    assert value["status"] == status
    assert value["cure"], f"{value['detail']}: and what is to be done?"
    return value


def wait_for_job(client: FlaskClient, response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 202, response.text
    where = response.headers["Location"]
    job: dict[str, Any] = {}

    def ended() -> bool:
        job.update(json.loads(client.get(where).data)["job"])
        return job["finished"] is not None

    wait_for(ended)
    return job


# Start and stop


def test_start_and_stop_without_a_body(client: FlaskClient) -> None:
    started = client.post("/api/start")
    assert started.status_code == 201
    recording = json.loads(started.data)["recording"]
    assert started.headers["Location"] == f"/api/recordings/{recording['id']}"
    again = client.post("/api/start", json={"mode": "video"})
    assert (again.status_code, json.loads(again.data)["recording"]["id"]) == (200, recording["id"])
    assert "mode video" in problem(client.post("/api/start", json={"mode": "camera"}), 409)["detail"]
    status = json.loads(client.get("/api/status").data)
    assert (status["state"], status["recording"]["id"]) == ("recording", recording["id"])
    stopped = client.post("/api/stop")
    assert stopped.status_code == 200
    assert json.loads(stopped.data)["recording"]["state"] == "finished"
    assert json.loads(client.post("/api/stop").data) == {"recording": None}


def test_two_starts_at_once_are_one_recording(app: Flask) -> None:
    together = threading.Barrier(5)
    answers: list[tuple[int, str]] = []

    def start() -> None:
        together.wait()
        response = app.test_client().post("/api/start", data="{}")
        answers.append((response.status_code, json.loads(response.data)["recording"]["id"]))

    threads = [threading.Thread(target=start) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    app.test_client().post("/api/stop")
    assert sorted(status for status, _ in answers) == [200, 200, 200, 200, 201]
    assert len({recording_id for _, recording_id in answers}) == 1


def test_start_keeps_what_it_is_told(client: FlaskClient) -> None:
    response = client.post(
        "/api/start", data='{"name": "Zoé", "every": "5m", "cameras": ["C1"]}'
    )  # as curl -d sends it
    recording = json.loads(response.data)["recording"]
    client.post("/api/stop")
    assert (recording["name"], recording["every"]) == ("Zoé", "5m")


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        '"video"',
        "[" * 60000,
        '{"mode": "film"}',
        '{"mode": 3}',
        '{"mode": null}',
        '{"speed": "fast"}',
        '{"name": "a\\u0000b"}',
        '{"name": "\\ud800"}',
        '{"cameras": "C1"}',
        '{"cameras": [1]}',
        '{"every": "often"}',
        '{"allow": "all"}',
        json.dumps({"name": "x" * 201}),
    ],
)
def test_a_body_that_makes_no_sense_is_refused(client: FlaskClient, body: str) -> None:
    assert problem(client.post("/api/start", data=body), 400)["type"] == "urn:edencar:usage"
    assert json.loads(client.post("/api/stop").data) == {"recording": None}


@pytest.mark.parametrize(("body", "status"), [("{", 400), ("[]", 400), ('{"a": 1}', 400), ("x" * 70_000, 413)])
def test_where_no_body_is_needed_one_that_makes_no_sense_is_refused(
    client: FlaskClient, recording: str, body: str, status: int
) -> None:
    assert client.delete(f"/api/recordings/{recording}").status_code == 204
    for path in ("/api/stop", f"/api/recordings/{recording}/restore"):
        problem(client.post(path, data=body), status)
    assert client.post(f"/api/recordings/{recording}/restore", data="{}").status_code == 200


def test_no_camera_and_no_room_have_their_own_status(tmp_path: Path) -> None:
    with an_app(tmp_path / "a") as (app, _):
        assert "positions-only" in problem(app.test_client().post("/api/start"), 503)["cure"]
        assert "positions-only" not in problem(app.test_client().post("/api/calibrate"), 503)["cure"]
        assert app.test_client().post("/api/start", json={"allow": "positions-only"}).status_code == 201
    with an_app(tmp_path / "b", "C1", reserve_bytes=1 << 60) as (app, _):
        assert problem(app.test_client().post("/api/start"), 507)["type"] == "urn:edencar:no-space"


# Status and time


def test_status_has_what_the_contract_says(client: FlaskClient) -> None:
    status = json.loads(client.get("/api/status").data)
    assert {"state", "recording", "cameras", "receiver", "time", "storage", "jobs", "problems"} <= set(status)
    camera = {"serial", "label", "model", "state", "battery_percent", "card_seconds_left", "fps", "lost_datagrams"}
    assert camera | {"delay_ms", "calibration"} <= set(status["cameras"][0])
    receiver = {"quality", "fix_age_s", "correction_age_s", "satellites", "sigma_m", "rate_hz"}
    assert receiver <= set(status["receiver"])
    assert {"source", "sigma_ms"} <= set(status["time"])
    assert {"seconds_left", "bytes_free"} <= set(status["storage"])
    assert json.loads(client.get("/api/cameras").data)["cameras"][0]["serial"] == "C1"


def test_the_time_is_the_receivers(client: FlaskClient) -> None:
    response = client.get("/api/time")
    value = json.loads(response.data)
    assert response.headers["Cache-Control"] == "no-store"
    assert value["source"] == "gnss"
    assert value["sigma_ms"] == pytest.approx(4, abs=1)
    assert value["utc_ns"] - time.time_ns() == pytest.approx(7e9, abs=1e8)
    assert value["utc"].endswith("Z")


def test_health_is_that_of_the_supervision(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/healthz").status_code == 200
    monkeypatch.setattr("car.DEAD_S", -1.0)
    problem(client.get("/healthz"), 503)


# Recordings


def test_a_recording_is_listed_named_and_shown(client: FlaskClient, recording: str, store: Recordings) -> None:
    where = f"/api/recordings/{recording}"
    assert json.loads(client.get("/api/recordings").data)["recordings"][0]["id"] == recording
    changed = client.patch(where, json={"name": "rue Haute", "note": "pluie\n& vent"})
    assert json.loads(changed.data)["recording"]["name"] == "rue Haute"
    shown = json.loads(client.get(where).data)["recording"]
    assert (shown["note"], shown["photos"]) == ("pluie\n& vent", False)
    assert shown["settings"]["photo_interval_s"] == 0.5
    assert "recording.json" in [file["path"] for file in shown["files"]]
    assert shown["size_bytes"] == sum(file["size_bytes"] for file in shown["files"])
    problem(client.patch(where, json={"state": "finished"}), 400)
    assert store.get(recording).name == "rue Haute"


def test_delete_is_the_trash_and_restore_brings_back(client: FlaskClient, recording: str) -> None:
    where = f"/api/recordings/{recording}"
    assert client.delete(where).status_code == 204
    problem(client.get(where), 404)
    problem(client.delete(where), 404)
    assert recording in json.loads(client.get("/api/recordings").data)["trash"]
    assert json.loads(client.post(f"{where}/restore").data)["recording"]["id"] == recording
    problem(client.post(f"{where}/restore"), 404)


def test_the_list_leaves_out_what_another_phone_deletes_meanwhile(
    client: FlaskClient, store: Recordings, recording: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = store.list()
    store.trash(recording)
    monkeypatch.setattr(store, "list", lambda: listed)
    shown = client.get("/api/recordings")
    assert (shown.status_code, recording in shown.text) == (200, True)  # in the trash
    assert recording not in [one["id"] for one in json.loads(shown.data)["recordings"]]


def test_the_running_recording_is_safe(client: FlaskClient) -> None:
    recording = json.loads(client.post("/api/start").data)["recording"]["id"]
    where = f"/api/recordings/{recording}"
    problem(client.delete(where), 409)
    problem(client.get(f"{where}/download"), 409)
    problem(client.post(f"{where}/process"), 409)
    problem(client.post(f"{where}/geotag"), 409)
    client.patch(where, json={"name": "while it runs"})
    assert json.loads(client.post("/api/stop").data)["recording"]["name"] == "while it runs"


@pytest.mark.parametrize("unknown", ["2020-01-01_00-00-00", "nothing", "..", "%2e%2e", "..%2f..", "a" * 3000, "%00"])
def test_what_is_no_recording_is_unknown(client: FlaskClient, unknown: str) -> None:
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/files/recording.json")):
        problem(client.open(f"/api/recordings/{unknown}{path}", method=method), 404)
    for path in ("restore", "process", "geotag"):
        problem(client.post(f"/api/recordings/{unknown}/{path}"), 404)
    problem(client.get(f"/api/recordings/{unknown}/download"), 404)
    problem(client.get(f"/recordings/{unknown}"), 404)


def test_files_come_whole_or_in_part_and_only_from_inside(
    client: FlaskClient, recording: str, store: Recordings
) -> None:
    folder = store.folder(recording)
    (folder / "videos" / "a b.ts").write_bytes(bytes(range(200)))
    (folder / "hosts").symlink_to("/etc/hosts")
    (folder / "etc").symlink_to("/etc")
    files = f"/api/recordings/{recording}/files"
    whole = client.get(f"{files}/videos/a%20b.ts")
    assert (whole.status_code, whole.mimetype, len(whole.data)) == (200, "video/mp2t", 200)
    part = client.get(f"{files}/videos/a%20b.ts", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.data) == (206, bytes(range(10, 20)))
    assert client.get(f"{files}/videos/a%20b.ts", headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    problem(client.get(f"{files}/videos/a%20b.ts", headers={"Range": "bytes=900-"}), 416)
    problem(client.get(f"{files}/videos/a%20b.ts", headers={"If-Match": '"another"'}), 412)
    tail = client.get(f"{files}/videos/a%20b.ts", headers={"Range": "bytes=-65536"})
    assert tail.data == whole.data, "it is shorter than that"
    archive = f"/api/recordings/{recording}/download"
    assert client.get(archive, headers={"Range": "bytes=-99999999"}).status_code == 200
    saved = client.get(f"{files}/recording.json?download")
    assert saved.headers["Content-Disposition"].startswith("attachment")
    for bad in ("hosts", "etc/hosts", "../x", "..%2f..%2fetc%2fhosts", "%2e%2e/%2e%2e/etc/hosts", "videos", "a%00b"):
        assert client.get(f"{files}/{bad}", follow_redirects=True).status_code == 404
    listed = [
        file["path"] for file in json.loads(client.get(f"/api/recordings/{recording}").data)["recording"]["files"]
    ]
    assert "videos/a b.ts" in listed
    assert "hosts" not in listed


def test_the_zip_is_as_long_as_announced(client: FlaskClient, recording: str, store: Recordings) -> None:
    folder = store.folder(recording)
    (folder / "videos" / "film.ts").write_bytes(b"G" * 100_000)
    (folder / "hosts").symlink_to("/etc/hosts")
    response = client.get(f"/api/recordings/{recording}/download")
    assert response.headers["Content-Length"] == str(len(response.data))
    assert response.headers["Content-Disposition"] == f'attachment; filename="{recording}.zip"'
    with zipfile.ZipFile(io.BytesIO(response.data)) as archive:
        assert archive.testzip() is None
        assert archive.read(f"{recording}/videos/film.ts") == b"G" * 100_000
        assert f"{recording}/hosts" not in archive.namelist()
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_places_for_downloads_are_few_and_given_back(client: FlaskClient, recording: str) -> None:
    where = f"/api/recordings/{recording}/download"
    held = [client.get(where, buffered=False) for _ in range(server.DOWNLOADS)]
    refused = client.get(where)
    problem(refused, 503)
    assert refused.headers["Retry-After"] == str(server.DOWNLOAD_RETRY_S)
    for response in held:
        response.close()
    assert client.get(where).status_code == 200


# Jobs


def test_photos_are_made_in_the_background(client: FlaskClient, recording: str) -> None:
    job = wait_for_job(client, client.post(f"/api/recordings/{recording}/process", json={"every": "key"}))
    assert (job["state"], job["progress"], job["error"]) == ("done", 1.0, None)
    assert job["result"] == {"kind": "process", "every": "key", "positions": []}
    assert json.loads(client.get(f"/api/recordings/{recording}").data)["recording"]["photos"] is True
    assert json.loads(client.get("/api/jobs").data)["jobs"][0]["id"] == job["id"]


def test_a_failed_job_says_why(client: FlaskClient, recording: str) -> None:
    job = wait_for_job(client, client.post(f"/api/recordings/{recording}/process", json={"every": "9s"}))
    assert (job["state"], job["error"]) == ("failed", "no photo has a position: look for the log")


def test_a_job_is_queued_once_and_cancelled(client: FlaskClient, recording: str) -> None:
    where = f"/api/recordings/{recording}"
    first = json.loads(client.post(f"{where}/process", json={"every": "8s"}).data)["job"]
    assert json.loads(client.post(f"{where}/process", json={"every": "8s"}).data)["job"]["id"] == first["id"]
    waiting = json.loads(client.post(f"{where}/geotag").data)["job"]
    wait_for(lambda: json.loads(client.get(f"/api/jobs/{first['id']}").data)["job"]["progress"] == 0.25)
    assert [job["id"] for job in json.loads(client.get("/api/status").data)["jobs"]] == [waiting["id"], first["id"]]
    problem(client.delete(where), 409)
    problem(client.get(f"{where}/download"), 409)
    assert json.loads(client.delete(f"/api/jobs/{waiting['id']}").data)["job"]["state"] == "cancelled"
    assert json.loads(client.delete(f"/api/jobs/{first['id']}").data)["job"]["state"] == "cancelled"
    assert json.loads(client.delete(f"/api/jobs/{first['id']}").data)["job"]["state"] == "cancelled"
    problem(client.get("/api/jobs/nothing"), 404)


def test_a_job_waits_for_files_that_are_still_coming(client: FlaskClient, recording: str, store: Recordings) -> None:
    store.update(recording, state=FETCHING)
    response = client.post(f"/api/recordings/{recording}/process")
    time.sleep(0.7)
    assert json.loads(client.get(response.headers["Location"]).data)["job"]["state"] == "queued"
    store.update(recording, state=FINISHED)
    assert wait_for_job(client, response)["state"] == "done"


def test_a_position_file_is_uploaded_under_a_name_of_ours(
    client: FlaskClient, recording: str, store: Recordings
) -> None:
    upload = {"positions": (io.BytesIO(b"$GPGGA"), "../../../etc/Log of today.NMEA")}
    job = wait_for_job(client, client.post(f"/api/recordings/{recording}/geotag", data=upload))
    (stored,) = (store.folder(recording) / "positions" / "uploads").iterdir()
    assert job["result"]["positions"] == [str(stored)]
    assert stored.suffix == ".nmea"
    assert stored.read_bytes() == b"$GPGGA"
    path = f"positions/uploads/{stored.name}"
    again = wait_for_job(client, client.post(f"/api/recordings/{recording}/geotag", json={"positions": [path]}))
    assert again["result"]["positions"] == [str(stored)]


def test_a_long_log_is_taken_whole(client: FlaskClient, recording: str, store: Recordings) -> None:
    log = b"$GNZDA,140312.00,22,11,2026,00,00*7E\r\n" * 8_000
    answer = client.post(f"/api/recordings/{recording}/geotag", data={"positions": (io.BytesIO(log), "a.nmea")})
    assert wait_for_job(client, answer)["state"] == "done"
    (stored,) = (store.folder(recording) / "positions" / "uploads").iterdir()
    assert stored.read_bytes() == log


def test_an_upload_makes_no_recording_where_one_was_deleted_meanwhile(
    client: FlaskClient, recording: str, store: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete(_path: Path) -> int:
        store.trash(recording)
        return 1 << 40

    monkeypatch.setattr("rig.http.uploads.free_bytes", delete)
    upload = {"positions": (io.BytesIO(b"$GPGGA"), "a.nmea")}
    problem(client.post(f"/api/recordings/{recording}/geotag", data=upload), 404)
    assert store.restore(recording).state == FINISHED


def test_bad_uploads_are_refused(client: FlaskClient, recording: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = f"/api/recordings/{recording}/geotag"
    problem(client.post(where, data={"positions": (io.BytesIO(b"MZ"), "virus.exe")}), 400)
    problem(client.post(where, data={"other": "x"}, content_type="multipart/form-data"), 400)
    problem(client.post(where, json={"positions": ["../../recording.json"]}), 404)
    monkeypatch.setattr(server, "UPLOAD_BYTES", 1000)
    problem(client.post(where, data={"positions": (io.BytesIO(b"$" * 2000), "a.nmea")}), 413)


def test_an_upload_without_contents_or_room_leaves_nothing(
    client: FlaskClient, recording: str, store: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = f"/api/recordings/{recording}/geotag"
    files = [(io.BytesIO(b"$GPGGA"), "a.nmea"), (io.BytesIO(b""), "b.nmea")]
    told = problem(client.post(where, data={"positions": files[0], "more": files[1]}), 422)
    assert told["detail"] == "the file is empty"
    monkeypatch.setattr("rig.http.uploads.free_bytes", lambda _path: 0)
    problem(client.post(where, data={"positions": (io.BytesIO(b"$GPGGA"), "a.nmea")}), 507)
    assert not [*(store.folder(recording) / "positions").glob("uploads/*")]


def test_files_sent_under_one_name_are_all_taken(client: FlaskClient, recording: str) -> None:
    """As by `curl -F positions=@a.nmea -F positions=@b.gpx`."""
    files = [(io.BytesIO(b"$GPGGA"), "a.nmea"), (io.BytesIO(b"<gpx/>"), "b.gpx")]
    job = wait_for_job(client, client.post(f"/api/recordings/{recording}/geotag", data={"positions": files}))
    assert [Path(path).suffix for path in job["result"]["positions"]] == [".nmea", ".gpx"]


def test_an_upload_that_fills_the_disk_leaves_nothing(client: FlaskClient, recording: str, store: Recordings) -> None:
    files = [(io.BytesIO(b"$GPGGA"), "a.nmea"), (io.BytesIO(bytes(5000)), "b.nmea")]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        response = client.post(f"/api/recordings/{recording}/geotag", data={"positions": files})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert problem(response, 507)["detail"] == "the disk is full"
    assert not [*(store.folder(recording) / "positions").glob("uploads/*")]


def test_jobs_end_with_the_server_and_old_ones_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.KEPT_JOBS", 2)
    store = Recordings(tmp_path)
    recording = store.create(0, "video").id
    store.update(recording, state=FINISHED)
    with Jobs(Settings(output=tmp_path), store, system_clock, work) as jobs:
        for number in range(4):
            done = jobs.add("process", recording, every=f"{number}m")
            wait_for(lambda done=done: jobs.get(done.id).finished)  # type: ignore[misc]
        assert [job.id == done.id for job in jobs.list()] == [True, False]
        running = jobs.add("process", recording, every="8s")
        waiting = jobs.add("process", recording, every="7m")
        wait_for(lambda: jobs.get(running.id).state == "running")
    assert (jobs.get(running.id).state, jobs.get(waiting.id).state) == ("cancelled", "queued")
    assert not jobs._thread.is_alive()


def test_a_job_of_what_lies_in_the_trash_fails(client: FlaskClient, recording: str, store: Recordings) -> None:
    store.update(recording, state=FETCHING)  # so that it waits
    response = client.post(f"/api/recordings/{recording}/process", json={"every": "3m"})
    store.update(recording, state=FINISHED)
    store.trash(recording)
    assert wait_for_job(client, response)["state"] == "failed"


# Codes, pictures and names; what the streams show is in test_watch.py


LOG = {"page": "0a1b2c3d", "draws": [[7, 17953561920000]]}


@pytest.mark.parametrize(
    "wrong",
    [
        {"page": "../../etc"},
        {"page": "abc"},
        {"page": "0a1b2c3d\n"},
        {"page": 12345},
        {"page": None},
        {"draws": [[1, 2, 3]]},
        {"draws": [[1]]},
        {"draws": [[1, -5]]},
        {"draws": [[1, 2.5]]},
        {"draws": [[True, 5]]},
        {"draws": [[1, 10**16]]},
        {"draws": [[1, 5]] * 2001},
        {"draws": {}},
        {"refresh_hz": "60"},
        {"missed": -1},
        {"offset_bound_ms": float("nan")},
        {"user_agent": "x" * 1001},
        {"more": 1},
    ],
)
def test_draw_logs_that_are_refused(client: FlaskClient, wrong: dict[str, Any]) -> None:
    problem(client.post("/api/qrcode/log", data=json.dumps({**LOG, **wrong})), 400)


@pytest.mark.parametrize("missing", LOG)
def test_draw_logs_that_lack_something(client: FlaskClient, missing: str) -> None:
    problem(client.post("/api/qrcode/log", json={key: LOG[key] for key in LOG if key != missing}), 400)


def test_draw_logs_are_kept_with_the_recording(client: FlaskClient, store: Recordings) -> None:
    first = {**LOG, "page": "first", "refresh_hz": None, "user_agent": "Zoé's phone"}
    assert client.post("/api/qrcode/log", json={**LOG, "page": "early"}).status_code == 204
    recording_id = str(client.post("/api/start").json["recording"]["id"])  # type: ignore[index]
    folder = store.folder(recording_id) / "codes"
    for _ in range(2):
        assert client.post("/api/qrcode/log", json=first).status_code == 204
    kept = [json.loads(line) for line in (folder / "first.jsonl").read_text().splitlines()]
    assert [line.pop("pi_offset_ns") > 0 for line in kept] == [True, True]  # what the page calls UTC
    assert kept == [first, first]
    for number in range(15):
        assert client.post("/api/qrcode/log", json={**LOG, "page": f"page{number}"}).status_code == 204
    problem(client.post("/api/qrcode/log", json={**LOG, "page": "early"}), 409)
    assert client.post("/api/qrcode/log", json=first).status_code == 204
    assert len(list(folder.iterdir())) == 16
    client.post("/api/stop")
    assert "codes/first.jsonl" in [file.path for file in store.files(recording_id)]


def test_idle_pages_are_remembered_for_a_minute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    logs = DrawLogs()
    for number in range(16):
        logs.add(f"page{number}", LOG, None)
    with pytest.raises(ConflictError):
        logs.add("page16", LOG, None)
    monkeypatch.setattr("rig.live.drawlog.MEMORY_S", -1.0)
    logs.add("page16", LOG, None)
    logs.add("page16", {**LOG, "missed": 1}, tmp_path)
    assert len((tmp_path / "codes" / "page16.jsonl").read_text().splitlines()) == 1


def test_pictures_only_while_there_is_a_stream(client: FlaskClient) -> None:
    problem(client.get("/api/cameras/C9/preview.jpg"), 404)
    begun_s = time.monotonic()
    response = client.get("/api/cameras/C1/preview.jpg")
    problem(response, 503)
    assert response.headers["Retry-After"] == "1"
    assert client.get("/api/cameras/C1/preview.jpg?wait").status_code == 204
    assert time.monotonic() - begun_s < server.PREVIEW_WAIT_S


def test_cameras_have_names(client: FlaskClient, app: Flask) -> None:
    car: Car = app.extensions["car"]
    named = client.patch("/api/cameras/C1", json={"label": "  left   side "})
    assert json.loads(named.data)["camera"]["label"] == "left side"
    assert json.loads(client.get("/api/status").data)["cameras"][0]["label"] == "left side"
    written = car.recordings.output / "cameras.json"
    assert json.loads(written.read_text()) == {"C1": {"label": "left side"}}
    assert CameraBook(car.recordings.output).label("C1") == "left side"
    manifest, _ = car.start()
    car.stop()
    assert [path.name for path in (car.recordings.folder(manifest.id) / "videos").iterdir()] == ["left_side"]
    problem(client.patch("/api/cameras/C9", json={"label": "left"}), 404)
    for wrong in ({}, {"label": 5}, {"label": "x" * 41}, {"label": "a\u0000b"}, {"fps": "30"}):
        problem(client.patch("/api/cameras/C1", json=wrong), 400)
    assert json.loads(client.patch("/api/cameras/C1", json={"label": ""}).data)["camera"]["label"] is None


def test_the_book_of_cameras_survives_damage(tmp_path: Path) -> None:
    (tmp_path / "cameras.json").write_text("[1]")
    (tmp_path / "delays.json").write_text('{"C1": {"delay_ms": "much"}, "C2": 5, "C3": {')
    book = CameraBook(tmp_path)
    assert (book.label("C1"), book.delay("C1")) == (None, None)
    book.set_label("C1", "left")
    with pytest.raises(ConflictError, match="C1 is called left"):
        book.set_label("C2", "left")
    delay = Delay(231.4, 14.5, 87, "2026-11-22T14:03:12.345Z")
    book.set_delay("C1", delay)
    again = CameraBook(tmp_path)
    assert (again.label("C1"), again.delay("C1")) == ("left", delay)


@pytest.mark.parametrize("seconds", ["0", "61", '"10"', "true", "null", "NaN"])
def test_calibrations_that_are_refused(client: FlaskClient, seconds: str) -> None:
    problem(client.post("/api/calibrate", data=f'{{"seconds": {seconds}}}'), 400)


# Manners


def test_no_other_site_changes_anything(client: FlaskClient) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}):
        problem(client.post("/api/stop", headers=headers), 403)
    rebound = {"Host": "evil.example:5000", "Origin": "http://evil.example:5000"}
    problem(client.post("/api/stop", headers=rebound), 403)
    for host in ("192.168.4.1:5000", "[fe80::1]:5000", "edencar.local", "LOCALHOST:5000"):
        assert client.post("/api/stop", headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
    assert client.get("/api/status", headers={"Origin": "http://evil.example"}).status_code == 200


def test_every_refusal_has_the_same_form(app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    problem(client.get("/api/nothing"), 404)
    not_allowed = client.put("/api/start")
    assert problem(not_allowed, 405)["instance"] == "/api/start"
    assert "POST" in not_allowed.headers["Allow"]
    problem(client.open("/api/status", method="TRACE"), 405)
    problem(client.post("/api/start", data="x" * (BODY_BYTES + 1)), 413)

    def break_down() -> None:
        raise RuntimeError("a secret of the inside")

    def lose_the_disk() -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(app.extensions["car"], "status", break_down)
    assert "secret" not in client.get("/api/status").text
    problem(client.get("/api/status"), 500)
    monkeypatch.setattr(app.extensions["car"], "status", lose_the_disk)
    assert problem(client.get("/api/status"), 503)["detail"] == "Input/output error"


def test_all_answers_are_safe_to_show(client: FlaskClient) -> None:
    for path in ("/", "/api/status", "/api/nothing", "/web/css/edencar.css"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


def test_the_description_names_all_routes_and_no_others(app: Flask, client: FlaskClient) -> None:
    described = json.loads(client.get("/api/openapi.json").data)
    assert described["openapi"].startswith("3.1")
    assert sum(len(methods) for methods in described["paths"].values()) == len([*app.url_map.iter_rules()])
    start = described["paths"]["/api/start"]["post"]
    assert start["requestBody"]["content"]["application/json"]["schema"]["properties"]["mode"]["enum"] == list(MODES)
    assert {"200", "201", "409", "503", "507"} <= set(start["responses"])


# Pages


@pytest.mark.parametrize(
    ("path", "accepted", "language"),
    [
        ("/", "fr-FR", "fr"),
        ("/", "en-GB,fr;q=0.5", "en"),
        ("/", "de", "fr"),
        ("/?lang=en", "fr", "en"),
        ("/?lang=x", "en", "en"),
    ],
)
def test_pages_speak_the_crews_language(client: FlaskClient, path: str, accepted: str, language: str) -> None:
    assert f'<html lang="{language}"' in client.get(path, headers={"Accept-Language": accepted}).text


def test_a_chosen_language_stays(client: FlaskClient) -> None:
    client.get("/?lang=en")
    assert '<html lang="en"' in client.get("/", headers={"Accept-Language": "fr"}).text


def test_both_languages_have_the_same_words() -> None:
    french, english = (json.loads((ROOT / "web" / "i18n" / f"{name}.json").read_text()) for name in ("fr", "en"))
    assert list(french) == list(english)
    gaps = re.compile(r"\{\w+\}")
    assert {key: set(gaps.findall(text)) for key, text in french.items()} == {
        key: set(gaps.findall(text)) for key, text in english.items()
    }


def test_no_french_line_ends_before_a_colon_or_a_unit(client: FlaskClient, recording: str) -> None:
    for path in ("/", "/recordings", f"/recordings/{recording}", "/settings"):
        page = client.get(path, headers={"Accept-Language": "fr"}).text
        (texts,) = re.findall(r'<script id="texts" type="application/json">(.*?)</script>', page)
        wrong = [text for text in json.loads(texts).values() if re.search(r" [:;!?»%]|« |\d cm", text)]
        assert not wrong


def test_pages_show_a_recording_and_never_its_text_as_html(client: FlaskClient, recording: str) -> None:
    client.patch(f"/api/recordings/{recording}", json={"name": "<script>alert(1)</script>"})
    page = client.get(f"/recordings/{recording}").text
    assert "<script>alert" not in page
    assert recording in page
    assert client.get("/qrcode", headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"


def assets(page: str) -> list[str]:
    """The addresses of a page's style sheets and scripts."""
    return re.findall(r'(?:href|src)="(/web/[^"]+)"', page)


def test_pages_and_their_parts_name_no_other_host(client: FlaskClient, recording: str) -> None:
    pages = ["/", "/recordings", f"/recordings/{recording}", "/settings"]
    parts = {part for page in pages for part in assets(client.get(page).text)}
    assert {Path(part).name for part in parts} == {path.name for path in (ROOT / "web").glob("[cj]s*/*")}
    for path in [*pages, *parts]:
        response = client.get(path)
        assert response.status_code == 200
        assert not re.search(r"https?://(?!www.w3.org)", response.text), path
    folder = parts.pop().rsplit("/", 2)[0]
    for name in ("js/nothing.js", "templates/base.html", "js/..%2ftemplates%2fbase.html", "i18n/fr.json"):
        problem(client.get(f"{folder}/{name}", headers={"Accept": "application/json"}), 404)


def test_parts_are_kept_for_ever_under_an_address_that_changes(client: FlaskClient) -> None:
    (script, *_) = assets(client.get("/").text)
    assert "immutable" in client.get(script).headers["Cache-Control"]
    stale = re.sub(r"/web/\w+/", "/web/0/", script)
    assert client.get(stale).headers["Cache-Control"] == "no-store"


def test_browsers_get_a_page_for_a_problem(client: FlaskClient) -> None:
    page = client.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8", "Accept-Language": "fr"})
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert "existe pas" in page.text
    problem(client.get("/api/nothing", headers={"Accept": "text/html"}), 404)


# The process


@contextmanager
def a_server(output: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, str(ROOT / "server.py"), "--port", "0", "--output", str(output), *options]
    environment = {"EDENCAR_CAMERAS": "127.0.0.1:1", "EDENCAR_RECEIVER_PORT": "/dev/nothing", "PATH": "/usr/bin:/bin"}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        line = process.stderr.readline()
        try:
            yield process, int(line.split("http://127.0.0.1:")[1].split(" ")[0])
        finally:
            process.kill()


def test_a_server_for_all_says_where_it_is_found() -> None:
    assert addresses("192.168.4.1", 5000) == ["http://192.168.4.1:5000"]
    everywhere = addresses("0.0.0.0", 5000)
    assert "http://127.0.0.1:5000" in everywhere
    assert "http://0.0.0.0:5000" not in everywhere


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_recording_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with a_server(tmp_path) as (process, port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("POST", "/api/start", '{"allow": "positions-only"}')
        response = connection.getresponse()
        recording_id = json.loads(response.read())["recording"]["id"]
        assert response.status == 201
        connection.close()
        process.send_signal(number)
        assert process.wait(20) == 0
    manifest = Recordings(tmp_path).get(recording_id)
    assert (manifest.state, manifest.stopped is not None) == ("finished", True)


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "server.py", "--port", port, "--output", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 7
    assert done.stderr.count("\n") == 1
    assert f"port {port} of 127.0.0.1 cannot be used" in done.stderr
    assert not any(tmp_path.iterdir())


def test_the_server_carries_nothing_heavy() -> None:
    heavy = ("cv2", "pandas", "av", "serial", "zxingcpp", "simulator")
    program = f"import sys, server; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
