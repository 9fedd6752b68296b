"""What stands behind the pages: resumable ZIP, digests, small pictures, events, metrics, self-test, tiles."""

import io
import itertools
import json
import os
import signal
import socket
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pmtiles import writer as pmtiles_writer
from pmtiles.tile import Compression, TileType, zxy_to_tileid

import server
from configs import SettingError
from rig.drive import selftest
from rig.drive.archive import Archive, _checksums
from rig.drive.digest import COLUMNS
from rig.drive.selftest import Surroundings, examine, look_around
from rig.errors import DeviceError, UnknownError, UnreadableError
from rig.http.tiles import Tiles
from rig.live.thumbnails import ANSWER_S, Shrink, Thumbnails, thumbnail_worker
from rig.recordings import Recordings
from rig.status import TOO_HOT
from rig.workers import Worker
from tests.browser.site import add_recording
from tests.films import steady, write_film
from tests.machine import PATIENCE_S, wait_for
from tests.test_car import a_car
from tests.test_server import an_app, problem

LIST_S = 0.3  # of 100 recordings


@pytest.fixture(scope="module")
def jpeg() -> bytes:
    return bytes(cv2.imencode(".jpg", np.full((1080, 1920, 3), (30, 120, 210), np.uint8))[1])


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, jpeg: bytes) -> Iterator[Flask]:
    output = tmp_path_factory.mktemp("rooms")
    add_recording(output, 0, seconds=30, jpeg=jpeg)
    add_recording(output, 1, seconds=10)
    with an_app(output, "C1") as (app, _):
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def recordings(app: Flask) -> Recordings:
    store: Recordings = app.extensions["car"].recordings
    return store


# The ZIP


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3000), max_size=4), data=st.data())
def test_any_part_of_a_zip_is_that_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: Any
) -> None:
    folder = tmp_path_factory.mktemp("zip")
    files = []
    for number, size in enumerate(sizes):
        (folder / f"é {number}").write_bytes(bytes(range(256)) * (size // 256 + 1))
        files.append((f"rue/é {number}", folder / f"é {number}"))
    archive = Archive(files)
    whole = b"".join(archive.read(0, archive.size))
    assert len(whole) == archive.size
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        assert opened.testzip() is None
        assert opened.namelist() == [name for name, _ in files]
    begin = data.draw(st.integers(0, archive.size - 1))
    end = data.draw(st.integers(begin + 1, archive.size))
    assert b"".join(Archive(files).read(begin, end)) == whole[begin:end]


def test_a_zip_resumes_after_a_restart_and_files_may_be_of_any_year(tmp_path: Path) -> None:
    files = []
    for year, seconds in ((1975, 157_766_400), (2026, 1_795_348_800), (2120, 4_733_510_400)):
        path = tmp_path / str(year)
        path.write_bytes(b"seen " * year)
        os.utime(path, (seconds, seconds))
        files.append((path.name, path))
    whole = b"".join((archive := Archive(files)).read(0, archive.size))
    with zipfile.ZipFile(io.BytesIO(whole)) as opened:
        assert opened.testzip() is None
        assert [info.date_time[:3] for info in opened.infolist()] == [(1980, 1, 1), (2026, 11, 22), (2107, 1, 1)]
    _checksums.clear()  # of files that this part does not read, but whose checksums stand at its end
    begin = archive.size - 400
    assert b"".join(Archive(files).read(begin, archive.size)) == whole[begin:]


def test_a_zip_beyond_four_gigabytes(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5 << 30)  # takes no room
    (tmp_path / "after").write_bytes(b"small")
    archive = Archive([("large", tmp_path / "large"), ("after", tmp_path / "after")])
    large = archive.members[0]
    _checksums[large.path, large.size, large.mtime_ns] = 0x1234  # reading it would take seconds
    end = b"".join(archive.read(5 << 30, archive.size))
    with zipfile.ZipFile(Holed(end, archive.size)) as opened:
        assert [info.file_size for info in opened.infolist()] == [5 << 30, 5]
        assert opened.read("after") == b"small"


class Holed(io.RawIOBase):
    """A file of which only the end is there."""

    def __init__(self, end: bytes, size: int) -> None:
        self._end, self._size, self._at = end, size, 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int = -1) -> bytes:
        begin = self._at - (self._size - len(self._end))
        assert begin >= 0
        data = self._end[begin:] if count is None or count < 0 else self._end[begin : begin + count]
        self._at += len(data)
        return data


def test_a_file_that_shrinks_or_becomes_a_link_breaks_off(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 1000)
    archive = Archive([("a", tmp_path / "a")])
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(OSError, match="shorter"):
        list(archive.read(0, archive.size))
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("/etc/hosts")
    with pytest.raises(OSError, match="symbolic"):
        list(archive.read(0, archive.size))


def test_a_download_resumes(client: FlaskClient, recordings: Recordings) -> None:
    where = f"/api/recordings/{recordings.list()[1].id}/download"
    whole = client.get(where)
    etag = whole.headers["ETag"]
    rest = client.get(where, headers={"Range": "bytes=1000-", "If-Range": etag})
    assert (rest.status_code, rest.data) == (206, whole.data[1000:])
    assert rest.headers["Content-Range"] == f"bytes 1000-{len(whole.data) - 1}/{len(whole.data)}"
    assert client.get(where, headers={"Range": "bytes=-10"}).data == whole.data[-10:]
    changed = client.get(where, headers={"Range": "bytes=1000-", "If-Range": '"other"'})
    assert (changed.status_code, len(changed.data)) == (200, len(whole.data))
    for nonsense in ("banana", "bytes=5-3,1-2", "rows=1-2"):
        assert client.get(where, headers={"Range": nonsense}).status_code == 200
    refused = client.get(where, headers={"Range": f"bytes={len(whole.data)}-"})
    problem(refused, 416)
    assert refused.headers["Content-Range"] == f"bytes */{len(whole.data)}"


def test_a_range_that_is_none_is_ignored_for_files_too(client: FlaskClient, recordings: Recordings) -> None:
    where = f"/api/recordings/{recordings.list()[0].id}/files/recording.json"
    assert client.get(where, headers={"Range": "banana"}).status_code == 200


# What lists show


def test_a_summary_says_what_a_drive_is_worth(client: FlaskClient, recordings: Recordings) -> None:
    shown: dict[str, Any] = {}

    def made() -> bool:
        for recording in json.loads(client.get("/api/recordings").data)["recordings"]:
            shown[recording["id"]] = recording["summary"]
        return None not in shown.values()

    wait_for(made)
    first, second = (shown[manifest.id] for manifest in recordings.list())
    assert first["fixes"] == 300
    assert 250 < first["distance_m"] < 400  # 30 s along a curve of about 10 m/s
    assert first["rtk_fixed_share"] == pytest.approx(1 - 69 / 300, abs=0.02)
    assert (first["photos"], first["located_photos"], len(first["thumbnails"])) == (60, 60, 3)
    assert first["time_error_ms"] == pytest.approx(4.2, abs=0.2)
    assert (second["photos"], second["thumbnails"], second["rtk_fixed_share"]) == (0, [], 1.0)


def test_a_summary_follows_its_files(client: FlaskClient, recordings: Recordings) -> None:
    recording = recordings.list()[1].id
    table = recordings.folder(recording) / "positions" / "positions.csv"
    lines = table.read_text().splitlines(keepends=True)
    lines[10] = lines[10].replace(",", ',"', 1)  # one damaged row, and a torn last one
    table.write_text("".join(lines[:50]) + lines[50][:30])

    def fixes() -> Any:
        summary = json.loads(client.get(f"/api/recordings/{recording}").data)["recording"]["summary"]
        return summary and summary["fixes"]

    wait_for(lambda: fixes() == 48)
    track = json.loads(client.get(f"/api/recordings/{recording}/track").data)
    assert len(track["utc_ms"]) == 48
    assert (recordings.folder(recording) / ".summary.json").is_file()
    assert ".summary.json" not in [file.path for file in recordings.files(recording)]


def test_photos_come_in_columns(client: FlaskClient, recordings: Recordings) -> None:
    first, second = (json.loads(client.get(f"/api/recordings/{one.id}/photos").data) for one in recordings.list())
    assert first["columns"] == list(COLUMNS)
    assert len(first["rows"]) == 60
    row = dict(zip(first["columns"], first["rows"][0], strict=True))
    assert row["utc_ms"] == 1_795_348_800_000
    assert row["quality"] == 4
    assert second["rows"] == []


@pytest.mark.parametrize("linked", ["photos.csv", "positions", "positions/positions.csv"])
def test_tables_behind_links_are_not_followed(
    tmp_path: Path, client: FlaskClient, recordings: Recordings, linked: str
) -> None:
    name = add_recording(recordings.output, 9, seconds=3, jpeg=b"none")
    at = recordings.folder(name) / linked
    at.rename(tmp_path / "elsewhere")
    at.symlink_to(tmp_path / "elsewhere")
    try:
        photos = json.loads(client.get(f"/api/recordings/{name}/photos").data)["rows"]
        track = json.loads(client.get(f"/api/recordings/{name}/track").data)["utc_ms"]
        assert (bool(photos), bool(track)) == ((False, True) if linked == "photos.csv" else (True, False))
    finally:
        recordings.trash(name)


def test_a_hundred_recordings_are_listed_at_once(tmp_path: Path) -> None:
    for number in range(100):
        add_recording(tmp_path, number, seconds=3)
    with an_app(tmp_path, "C1") as (app, _):
        client = app.test_client()

        def listed() -> list[Any]:
            return [one["summary"] for one in json.loads(client.get("/api/recordings").data)["recordings"]]

        wait_for(lambda: None not in listed(), 60)
        app.extensions["digests"]._known.clear()  # as after a restart
        spent = []
        for _ in range(3):
            begun_s = time.process_time()
            assert len(listed()) == 100
            spent.append(time.process_time() - begun_s)
    assert min(spent) < LIST_S, spent


# Small pictures


def test_thumbnails_of_photos_and_nothing_else(client: FlaskClient, recordings: Recordings) -> None:
    recording = recordings.list()[0].id
    photo = json.loads(client.get(f"/api/recordings/{recording}/photos").data)["rows"][0][0]
    where = f"/api/recordings/{recording}/thumbnails/{photo}"
    for width in (320, 1280):
        response = client.get(f"{where}?width={width}")
        picture = cv2.imdecode(np.frombuffer(response.data, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape[:2] == (width * 9 // 16, width)
        assert np.abs(picture.reshape(-1, 3).mean(0) - (30, 120, 210)).max() < 4
    assert (
        client.get(f"{where}?width=320", headers={"If-None-Match": client.get(where).headers["ETag"]}).status_code
        == 304
    )
    problem(client.get(f"{where}?width=5000"), 400)
    problem(client.get(f"/api/recordings/{recording}/thumbnails/positions/positions.csv"), 422)
    problem(client.get(f"/api/recordings/{recording}/thumbnails/photos/none.jpg"), 404)


def test_a_file_that_moves_away_meanwhile_is_unknown_and_no_defect(tmp_path: Path) -> None:
    worker = Worker("thumbnails", thumbnail_worker)
    worker.start()
    try:
        with pytest.raises(UnknownError, match="not there any more"):
            worker.ask(Shrink(tmp_path / "gone.jpg", 320), PATIENCE_S)
    finally:
        worker.stop()


def test_a_video_has_a_small_picture_too(tmp_path: Path) -> None:
    write_film(tmp_path / "film.mp4", steady(3))
    (tmp_path / "none.mp4").write_bytes(b"no film")
    thumbnails = Thumbnails()
    try:
        picture = cv2.imdecode(np.frombuffer(thumbnails.get(tmp_path / "film.mp4", 320), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        assert picture.shape[:2] == (180, 320)
        with pytest.raises(UnreadableError, match="holds no picture"):
            thumbnails.get(tmp_path / "none.mp4", 320)
    finally:
        thumbnails.close()


def test_a_hung_process_of_thumbnails_is_replaced(tmp_path: Path, jpeg: bytes) -> None:
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(jpeg)
    thumbnails = Thumbnails()
    try:
        thumbnails.get(tmp_path / "a.jpg", 320)
        worker = thumbnails._worker
        assert worker is not None
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.MonkeyPatch.context() as quick:
            quick.setattr("rig.live.thumbnails.ANSWER_S", 0.3)
            with pytest.raises(DeviceError, match="in time"):
                thumbnails.get(tmp_path / "b.jpg", 320)
        worker._status_monotonic_s -= ANSWER_S
        assert thumbnails.get(tmp_path / "b.jpg", 320).startswith(b"\xff\xd8")
        assert not worker.alive
    finally:
        thumbnails.close()


def test_the_process_of_thumbnails_comes_back(tmp_path: Path, jpeg: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg)
    (tmp_path / "b.jpg").write_bytes(b"")
    thumbnails = Thumbnails()
    try:
        first = thumbnails.get(tmp_path / "a.jpg", 320)
        worker = thumbnails._worker
        assert worker is not None
        worker.stop()
        assert thumbnails.get(tmp_path / "a.jpg", 320) == first  # kept
        with pytest.raises(UnreadableError):
            thumbnails.get(tmp_path / "b.jpg", 320)
    finally:
        thumbnails.close()


# Events, figures


def test_events_are_few_and_say_the_status(app: Flask) -> None:
    held = [app.test_client().get("/api/events", buffered=False) for _ in range(server.LISTENERS)]
    refused = app.test_client().get("/api/events")
    problem(refused, 503)
    assert refused.headers["Retry-After"] == str(server.LISTEN_RETRY_S)
    parts = b"".join(itertools.islice(held[0].iter_encoded(), 3)).decode().split("\n\n")
    assert parts[0] == "retry: 2000"
    assert [line.split(": ")[0] for line in parts[1].split("\n")] == ["id", "event", "data"]
    assert json.loads(parts[1].split("data: ")[1])["state"] == "idle"
    for response in held:
        response.close()
    resumed = app.test_client().get("/api/events", buffered=False, headers={"Last-Event-ID": "41"})
    assert b"id: 42\n" in b"".join(itertools.islice(resumed.iter_encoded(), 2))
    resumed.close()


def test_metrics_are_prometheus_text(client: FlaskClient) -> None:
    response = client.get("/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    values = {}
    for line in response.text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    assert values["edencar_up"] == 1
    assert values['edencar_state{state="idle"}'] == 1
    assert values['edencar_camera_battery_ratio{serial="C1"}'] == 0.8
    assert values["edencar_disk_free_bytes"] > 0
    names = {name.split("{")[0] for name in values}
    assert names <= {line.split()[2] for line in response.text.splitlines() if line.startswith("# TYPE")}


# Self-test


def steps(devices: list[selftest.Device], kind: str) -> dict[str, bool | None]:
    return {check.code: check.ok for device in devices if device.kind == kind for check in device.checks}


NOTHING = Surroundings(cameras={}, ports={}, stream_port_free=True)


def test_the_self_test_says_what_is_missing(tmp_path: Path) -> None:
    with a_car(tmp_path, receiver_port="nothing") as (car, _):
        status = car.status()
        devices = examine(status, NOTHING)
        assert steps(devices, "camera") == {"cable": False, "connect": None, "address": None, "answers": None}
        assert steps(devices, "receiver") == {"port": False, "speaks": None, "fix": None}
        for around, expected in (
            ((False, False), {"cable": True, "connect": False, "address": None, "answers": None}),
            ((True, False), {"cable": True, "connect": True, "address": False, "answers": None}),
            ((True, True), {"cable": True, "connect": True, "address": True, "answers": False}),
        ):
            assert steps(examine(status, replace(NOTHING, cameras={"C9": around})), "camera") == expected
        assert steps(examine(status, replace(NOTHING, ports={"ttyACM0": False})), "receiver")["right"] is False
        assert steps(examine(status, replace(NOTHING, ports={"ttyACM0": True})), "receiver")["speaks"] is False
        taken = examine(status, replace(NOTHING, stream_port_free=False))
        assert steps(taken, "pi")["stream_port"] is False
        for device in taken:
            assert all(check.cure for check in device.checks if check.ok is False)
            assert device.ok is all(check.ok for check in device.checks)


def test_the_self_test_of_a_car_that_is_well(tmp_path: Path) -> None:
    with a_car(tmp_path, "C1") as (car, _):
        devices = examine(car.status(), NOTHING)
    assert steps(devices, "camera") == {"answers": True, "battery": True}
    assert steps(devices, "receiver") == {"speaks": True, "fix": True, "corrections": True}
    assert steps(devices, "pi")["time"] is True


def test_the_self_test_of_a_car_whose_devices_are_not_well(tmp_path: Path) -> None:
    with a_car(tmp_path, "C3 lost") as (car, _):
        status = car.status()
    (lost,) = status.cameras
    assert steps(examine(status, NOTHING), "camera") == {"answers": False}
    hot = replace(lost, state="idle", problems=("it is too hot",), card_seconds_left=60, battery_percent=5)
    receiver = replace(status.receiver, problems=("its antenna is cut",), fix_age_s=60.0, correction_age_s=999.0)
    devices = examine(replace(status, cameras=(hot,), receiver=receiver), NOTHING)
    assert steps(devices, "camera") == {"answers": True, "battery": False, "card": False, "complaint": False}
    assert steps(devices, "receiver") == {"speaks": True, "fix": False, "corrections": False, "complaint": False}
    bare = replace(hot, problems=(TOO_HOT,), card_problem="there is no card", card_seconds_left=None)
    (camera, *_) = examine(replace(status, cameras=(bare,)), NOTHING)
    said = {check.code: (check.value, check.cure) for check in camera.checks if not check.ok}
    assert set(said) == {"battery", "card", "camera_hot"}
    assert said["card"][0] == "there is no card"
    assert said["camera_hot"] == ("the camera is too hot", "Give it shade and air")


def test_a_port_that_streams_come_to_may_be_taken() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 0))
        assert not selftest._is_free(other.getsockname()[1])


def test_looking_around_reads_usb_and_ports(tmp_path: Path) -> None:
    camera = tmp_path / "usb" / "1-1.2"
    (camera / "1-1.2:1.0" / "net" / "nothing0").mkdir(parents=True)
    (camera / "idVendor").write_text("2672\n")
    (camera / "serial").write_text("C3501324500711\n")
    other = tmp_path / "usb" / "1-1.3"
    other.mkdir()
    (other / "idVendor").write_text("1d6b\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "ttyACM0").touch()
    around = look_around(tmp_path / "usb", tmp_path / "dev")
    assert around.cameras == {"C3501324500711": (True, False)}
    assert around.ports == {"ttyACM0": True}


# The map's ground


def a_map(file: Path, kind: TileType = TileType.PNG) -> Path:
    picture = bytes(cv2.imencode(".png", np.zeros((8, 8), np.uint8))[1])
    with file.open("wb") as opened:
        maker: Any = pmtiles_writer  # it ships no types
        writer = maker.Writer(opened)
        writer.write_tile(zxy_to_tileid(1, 1, 0), picture)
        place = {f"{edge}_{axis}_e7": 0 for edge in ("min", "max", "center") for axis in ("lon", "lat")}
        zooms = {"min_zoom": 1, "max_zoom": 1, "center_zoom": 1}
        writer.finalize({"tile_type": kind, "tile_compression": Compression.NONE, **place, **zooms}, {})
    return file


def test_tiles_come_from_a_file(tmp_path: Path) -> None:
    with an_app(tmp_path / "output", "C1", map_tiles=str(a_map(tmp_path / "a.pmtiles"))) as (app, _):
        client = app.test_client()
        tile = client.get("/api/tiles/1/1/0")
        assert (tile.status_code, tile.mimetype, tile.data[:4]) == (200, "image/png", b"\x89PNG")
        for where in ("1/0/0", "9/1/1", "1/5/5", "99/1/1"):
            problem(client.get(f"/api/tiles/{where}"), 404)
        recording = add_recording(tmp_path / "output", seconds=2)
        page = client.get(f"/recordings/{recording}")
        assert 'data-tiles="/api/tiles/{z}/{x}/{y}"' in page.text
        assert "img-src 'self' blob: data:" in page.headers["Content-Security-Policy"]


def test_tiles_of_a_source_are_the_only_ones_allowed(tmp_path: Path) -> None:
    source = "https://tiles.example/{z}/{x}/{y}.png"
    recording = add_recording(tmp_path, seconds=2)
    with an_app(tmp_path, "C1", map_tiles=source) as (app, _):
        client = app.test_client()
        assert (
            "img-src 'self' https://tiles.example blob:"
            in client.get(f"/recordings/{recording}").headers["Content-Security-Policy"]
        )
        assert "tiles.example" not in client.get("/").headers["Content-Security-Policy"]


def test_what_is_no_ground_for_a_map(tmp_path: Path) -> None:
    assert Tiles("").template == ""
    with pytest.raises(UnknownError):
        Tiles("").get(0, 0, 0)
    (tmp_path / "text").write_text("not tiles")
    sources = [
        "https://tiles.example/",
        str(tmp_path / "text"),
        str(tmp_path / "none"),
        str(a_map(tmp_path / "v", TileType.MVT)),
    ]
    for source in sources:
        with pytest.raises(SettingError, match="map_tiles"):
            Tiles(source)
