"""The virtual GoPro, held against GoPro's documents, users' logs and its own truth."""

import csv
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import pytest
from zeroconf import ServiceBrowser, ServiceListener, Zeroconf

from simulator.camera import Camera
from simulator.camera_faults import Faults
from simulator.film import read_number
from simulator.hero import api, device, models
from simulator.hero.device import Absence
from simulator.hero.httpd import parse_range
from simulator.hero.rtc import Rtc
from simulator.hero.settings import UNKNOWN_OPTION, UNKNOWN_SETTING
from simulator.world import SECOND_NS, World
from tests.gopros import (
    CRYSTAL_PPM,
    HEIGHT,
    LATENCY_MS,
    SERIAL,
    VIDEO_PID,
    Caught,
    Client,
    Reply,
    await_connection,
    catch,
    clock_reference,
    listening,
    now_world,
    open_video,
    pid,
    receive,
    running,
    split,
)
from tests.machine import wait_for

ROOT = Path(__file__).parents[1]
TICKS_30, TICKS_25 = 3003, 3600
PROGRAM_PID, NULL_PID = 0x100, 0x1FFF


@pytest.fixture(scope="module")
def shared_data() -> Path:
    """GoPro's own documents, where they are at hand."""
    folder = ROOT / "../shared/data"
    if not folder.is_dir():
        pytest.skip("GoPro's documents are not beside the project (../shared/data)")
    return folder


@pytest.fixture(scope="module")
def camera() -> Iterator[Camera]:
    with running() as camera:
        yield camera


@pytest.fixture
def get(camera: Camera) -> Client:
    return Client(camera)


@dataclass(frozen=True)
class Frame:
    number: int
    stream: str
    pts: int
    utc_ns: int


def luma(frame: av.VideoFrame) -> Any:
    return frame.to_ndarray(format="yuv420p")[: frame.height]


def read_truth(folder: Path) -> list[Frame]:
    with (folder / f"frames-{SERIAL}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Frame(int(r["number"]), r["stream"], int(r["pts_90khz"]), int(r["utc_ns"])) for r in rows]


# --- the answers


def test_the_table_of_models_is_that_of_the_document(shared_data: Path) -> None:
    document = json.loads((shared_data / "settings_by_model.json").read_text())
    webcam = document["webcam_endpoints_in_root_.openapi.json"]  # openapi.json has them wrong: HERO13 only
    assert set(models.names()) == set(document["models"])
    for name, described in document["models"].items():
        model = models.load(name)
        assert model.number == described["model_number"]
        assert model.statuses == tuple(map(int, described["statuses"]))
        wanted = {
            int(k): (v["name"], {int(o): n for o, n in v["options"].items()}) for k, v in described["settings"].items()
        }
        assert {k: (v.name, dict(v.options)) for k, v in model.settings.items()} == wanted
        for path in (entry.split()[1] for entry in described["endpoints"] if entry.startswith("GET ")):
            assert not model.lacks_path(path)
        assert all(model.lacks_path(path) == (name not in having) for path, having in webcam.items())


def test_json_is_written_as_a_gopro_does(get: Client) -> None:
    done = get("/gopro/camera/keep_alive")
    assert done.body == b"{}\n"
    assert (done.headers["content-length"], done.headers["content-type"]) == ("3", "application/json")
    assert b'\n\t"error": 0' in get("/gopro/webcam/status").body
    assert get("//gopro/version").json == {"version": "2.0"}  # the SDK sends double slashes


def test_unknown_paths_and_what_the_model_lacks(get: Client) -> None:
    assert get("/gopro/camera/nothing").status == 404
    assert get("/gopro/qrcode?labs=1&code=!S").status == 501
    assert get("/gopro/version", method="HEAD").status == 405


def test_a_hero9_of_old_firmware_records() -> None:
    with running(model="HERO9 Black", firmware="01.22.00") as camera:
        assert Client(camera)("/gopro/camera/shutter/start").status == 200


def test_a_hero9_has_no_shutter_and_a_clock_without_zone() -> None:
    with running(model="HERO9 Black") as camera:
        get = Client(camera)
        date = "/gopro/camera/set_date_time?date=2026_1_5&time=3_4_5"
        assert get(f"{date}&tzone=0&dst=0").status == 501  # so the document's list of cameras
        assert get(date).status == 200  # so its notes on tzone and dst
        for path in ("control/wired_usb?p=1", "get_date_time", "info"):
            assert get(f"/gopro/camera/{path}").status == 501
        assert get("/gopro/camera/shutter/start").status == get("/gp/gpControl/command/shutter?p=1").status == 500
        assert get("/gopro/webcam/start?res=4").json == {"status": 2, "error": 0}


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown model 'HERO3'"):
        models.load("HERO3")


# --- settings


def change(get: Client, setting: int, option: int) -> Reply:
    return get(f"/gopro/camera/setting?option={option}&setting={setting}")


def test_frame_rate_needs_pro_control(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "SETTLING_S", 1.0)
    with running() as camera:
        get = Client(camera)
        refused = change(get, 3, 5)
        assert (refused.status, refused.json["error"], refused.json["supported_options"]) == (403, 1, [])
        assert change(get, 175, 1).status == 200
        assert get.status(8) == 1
        get.wait(8, 0)
        assert change(get, 3, 5).status == 200
        assert get("/gopro/camera/setting?setting=3").json == {"option": 5}
        assert get("/gopro/camera/state").json["settings"]["3"] == 5


def test_an_impossible_option_lists_the_possible_ones(get: Client) -> None:
    refused = change(get, 59, 250)
    assert refused.status == 403
    assert refused.json["error"] == UNKNOWN_OPTION
    assert {"display_name": "Never", "id": 0} in refused.json["supported_options"]
    assert change(get, 999, 1).json["error"] == UNKNOWN_SETTING


def test_a_hero13_names_the_list_otherwise_and_has_two_ids_for_the_frame_rate() -> None:
    with running(model="HERO13 Black") as camera:
        get = Client(camera)
        assert "available_options" in change(get, 134, 250).json
        change(get, 175, 1)
        assert change(get, 234, 10).status == 200
        assert get("/gopro/camera/setting?setting=3").json == {"option": 10}


# --- clock


def test_the_date_is_set_without_leading_zeros_and_told_with_them(get: Client) -> None:
    assert get("/gopro/camera/set_date_time?date=2026_1_5&time=3_4_5&tzone=-60&dst=0").status == 200
    told = get("/gopro/camera/get_date_time").json
    assert (told["date"], told["tzone"], told["dst"]) == ("2026_01_05", -60, 0)
    assert told["time"] in ("03_04_05", "03_04_06")
    for wrong in ("date=2026_13_5&time=3_4_5", "date=2026_1_5&time=3_4_5&tzone=0&dst=2"):
        assert get(f"/gopro/camera/set_date_time?{wrong}").status == 400


def test_the_clock_has_whole_seconds_and_a_fault() -> None:
    faults = Faults({})
    rtc = Rtc(offset_s=2.5, rate_ppm=1000.0, utc_ns=0, faults=faults)
    assert [rtc.local_s(ns) for ns in (0, 499_000_000, 500_000_000)] == [2, 2, 3]
    assert rtc.local_s(1000 * SECOND_NS) == 1003
    faults["clock_offset_s"] = -3600
    assert rtc.local_s(0) == -3598
    rtc.set(datetime(2026, 7, 1, 12, tzinfo=UTC), zone_min=120, is_dst=True, utc_ns=7)
    assert rtc.local_s(7) == datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp()  # it is right from now on
    assert rtc.local_s(7) - rtc.utc_s(7) == 7200


# --- USB, webcam, preview


def test_wired_control_is_told_and_500_when_it_is_so_already() -> None:
    with running() as camera:
        get = Client(camera)
        assert get("/gopro/camera/control/wired_usb?p=1").status == 200
        assert get("/gopro/camera/control/wired_usb?p=1").status == 500
        assert get.status(116) == 1
        assert get("/gopro/camera/control/wired_usb?p=2").status == 400


@pytest.fixture(scope="module")
def webcam(tmp_path_factory: pytest.TempPathFactory) -> tuple[Caught, list[Frame], World]:
    """A second of the webcam's stream, with the truth about it."""
    folder, world = tmp_path_factory.mktemp("truth"), now_world()
    with running(truth=folder, world=world) as camera:
        caught = catch(camera, "/gopro/webcam/start?", 1.3)
        assert Client(camera)("/gopro/webcam/stop").json == {"status": 1, "error": 0}
    return caught, read_truth(folder), world


def test_the_stream_comes_in_datagrams_of_seven_whole_packets(webcam: tuple[Caught, list[Frame], World]) -> None:
    caught, _, _ = webcam
    assert {len(datagram) for datagram in caught.datagrams} == {1316}
    assert all(packet[0] == 0x47 for packet in split(caught.data))
    counters = [packet[3] & 15 for packet in split(caught.data) if pid(packet) == VIDEO_PID and packet[3] & 0x10]
    assert all((after - before) % 16 == 1 for before, after in itertools.pairwise(counters))


def test_the_stream_has_a_key_frame_each_half_second_with_its_tables_before_it(
    webcam: tuple[Caught, list[Frame], World],
) -> None:
    caught, _, _ = webcam
    keys = [index for index, (_, _, is_key) in enumerate(caught.pictures()) if is_key]
    assert keys == list(range(0, len(caught.pictures()), 15))
    packets = [packet for packet in split(caught.data) if pid(packet) != NULL_PID]
    heads = [i for i, p in enumerate(packets) if pid(p) == VIDEO_PID and p[1] & 0x40 and p[5] & 0x40]
    assert len(heads) == len(keys)
    assert all([pid(packet) for packet in packets[head - 2 : head]] == [0, PROGRAM_PID] for head in heads)


def test_the_stream_carries_its_clock(webcam: tuple[Caught, list[Frame], World]) -> None:
    caught, _, _ = webcam
    references = [r for r in map(clock_reference, split(caught.data)) if r is not None]
    stamps = [stamp for stamp, _, _ in caught.pictures()]
    assert [stamp - reference for stamp, reference in zip(stamps, references, strict=True)] == [4500] * len(stamps)


def test_each_picture_of_the_stream_is_the_one_the_truth_tells(webcam: tuple[Caught, list[Frame], World]) -> None:
    caught, truth, _ = webcam
    by_pts = {frame.pts: frame for frame in truth}
    with open_video(caught.data) as container:
        frames = list(container.decode(video=0))
    assert len(frames) >= 10  # a busy machine leaves some out
    for frame in frames[:-1]:  # the last one is cut off
        assert frame.pts is not None
        assert read_number(luma(frame)) == by_pts[frame.pts].number
    steps = [after.pts - before.pts for before, after in itertools.pairwise(truth)]
    assert min(steps) == TICKS_30
    assert {step % TICKS_30 for step in steps} == {0}


def test_frames_follow_the_cameras_crystal_and_leave_after_its_latency(
    webcam: tuple[Caught, list[Frame], World],
) -> None:
    caught, truth, world = webcam
    seconds = (truth[-1].pts - truth[0].pts) / 90_000
    true_seconds = (truth[-1].utc_ns - truth[0].utc_ns) / SECOND_NS
    assert (seconds / true_seconds - 1) * 1e6 == pytest.approx(CRYSTAL_PPM, abs=0.1)
    by_pts = {frame.pts: frame for frame in truth}
    delays_ms = sorted((world.utc_ns(arrival) - by_pts[stamp].utc_ns) / 1e6 for stamp, arrival, _ in caught.pictures())
    assert LATENCY_MS <= delays_ms[0] < LATENCY_MS + 10  # the others wait for a busy machine


def test_webcam_and_recording_exclude_each_other() -> None:
    with running() as camera:
        get = Client(camera)
        assert get("/gopro/webcam/status").json == {"status": 0, "error": 0}
        assert get("/gopro/webcam/start?port=9").json == {"status": 2, "error": 0}
        assert get("/gopro/camera/shutter/start").status == 500
        assert get("/gopro/webcam/preview").json == {"status": 3, "error": 0}
        assert change(get, 135, 0).json["error"] == 1  # HyperSmooth only while the webcam is off
        assert get("/gopro/webcam/exit").json == {"status": 0, "error": 0}
        assert change(get, 135, 0).status == 200
        assert get("/gopro/camera/shutter/start").status == 200
        assert get("/gopro/webcam/start").json == {"status": 0, "error": 4}
        assert get("/gopro/camera/shutter/start").status == 500
        assert change(get, 59, 0).json["error"] == 1


def test_wrong_parameters_of_the_webcam(get: Client) -> None:
    for query in ("res=4", "res=x", "fov=9", "port=0", "protocol=HTTP"):
        assert get(f"/gopro/webcam/start?{query}").json["error"] == 6


def test_50_hz_means_25_frames_a_second(tmp_path: Path) -> None:
    with running(truth=tmp_path) as camera:
        assert change(Client(camera), 134, 3).status == 200
        stamps = [stamp for stamp, _, _ in catch(camera, "/gopro/webcam/start?", 1.0).pictures()]
    steps = [after - before for before, after in itertools.pairwise(stamps)]
    assert min(steps) == TICKS_25
    assert {step % TICKS_25 for step in steps} == {0}


def test_the_preview_conflicts_with_itself_and_dies_with_a_recording() -> None:
    with running() as camera:
        get = Client(camera)
        assert get("/gopro/camera/stream/stop").status == 409
        assert catch(camera, "/gopro/camera/stream/start?", 0.1).datagrams
        assert get.status(32) == 1
        assert get("/gopro/camera/stream/start").status == 409
        get("/gopro/camera/shutter/start")
        assert get.status(32) == 0


# --- recordings


@dataclass(frozen=True)
class Recorded:
    files: dict[str, bytes]
    listed: list[dict[str, str]]
    truth: list[Frame]
    states: list[tuple[int, int, int]]
    """Encoding, busy and the answer of the media list, as they changed."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two recordings; the second is long enough for two chapters."""
    folder = tmp_path_factory.mktemp("truth")
    with running(truth=folder, chapter_bytes=70_000) as camera:
        get = Client(camera)
        get("/gopro/camera/set_date_time?date=2026_7_1&time=12_0_0&tzone=120&dst=1")
        assert get("/gopro/media/last_captured").status == 204
        get("/gopro/camera/shutter/start")
        states = watch(get, 0.4)
        get("/gopro/camera/shutter/stop")
        states += watch(get, 0.8)
        get.record(1.7)
        listed = get.files()
        files = {item["n"]: get(f"/videos/DCIM/100GOPRO/{item['n']}").body for item in listed}
    return Recorded(files, listed, read_truth(folder), [state for state, _ in itertools.groupby(states)])


def watch(get: Client, seconds: float) -> list[tuple[int, int, int]]:
    found, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        state = get("/gopro/camera/state").json["status"]
        found.append((state["10"], state["8"], get("/gopro/media/list").status))
        time.sleep(0.02)
    return found


def test_a_recording_goes_through_the_states_of_a_gopro(recorded: Recorded) -> None:
    stable = [state for state in recorded.states if state in ((1, 0, 503), (0, 1, 503), (0, 0, 200))]
    assert stable == [(1, 0, 503), (0, 1, 503), (0, 0, 200)]


def test_files_are_named_numbered_and_dated_as_gopros(recorded: Recorded) -> None:
    assert [item["n"] for item in recorded.listed][:3] == ["GX010001.MP4", "GX010002.MP4", "GX020002.MP4"]
    local_noon = int(datetime(2026, 7, 1, 12, tzinfo=UTC).timestamp())
    for item in recorded.listed:
        assert all(isinstance(value, str) for value in item.values())
        assert 0 <= int(item["cre"]) - local_noon < 5  # local time, as if it were UTC
        assert int(item["s"]) == len(recorded.files[item["n"]])


def test_a_file_has_frames_of_exactly_equal_length_from_zero(recorded: Recorded) -> None:
    for name, data in recorded.files.items():
        with open_video(data) as container:
            video = container.streams.video[0]
            packets = [packet for packet in container.demux(video) if packet.pts is not None]
            assert video.time_base is not None
            assert video.time_base.denominator == 90_000
            assert [packet.pts for packet in packets] == [TICKS_30 * index for index in range(len(packets))]
            assert [i for i, packet in enumerate(packets) if packet.is_keyframe] == list(range(0, len(packets), 15))
            created = datetime.fromisoformat(container.metadata["creation_time"])
        assert 0 <= (created - datetime(2026, 7, 1, 10, tzinfo=UTC)).total_seconds() < 5, name  # UTC
        assert data.count(b"stts") == 4  # pictures first, then sound, time code and telemetry
        edit = data.index(b"elst") + 8
        assert int.from_bytes(data[edit : edit + 4]) == 1
        assert int.from_bytes(data[edit + 8 : edit + 12]) == 0  # nothing is left out at the beginning
        where = data.index(b"stts")
        assert int.from_bytes(data[where + 8 : where + 12]) == 1  # one entry: a constant rate
        assert data.index(b"moov") > data.index(b"mdat")


def test_each_picture_of_a_file_is_the_one_the_truth_tells(recorded: Recorded) -> None:
    for name, data in recorded.files.items():
        told = [frame for frame in recorded.truth if frame.stream == name]
        with open_video(data) as container:
            seen = [read_number(luma(frame)) for frame in container.decode(video=0)]
        assert seen == [frame.number for frame in told]
        assert [frame.pts for frame in told] == [TICKS_30 * index for index in range(len(told))]
    numbers = [frame.number for frame in recorded.truth]
    assert len(set(numbers)) == len(numbers)


def test_chapters_follow_each_other_without_a_gap(recorded: Recorded) -> None:
    chapters = [name for name in recorded.files if name.endswith("0002.MP4")]
    assert len(chapters) >= 2
    assert all(len(recorded.files[name]) > 70_000 for name in chapters[:-1])
    times = [frame.utc_ns for frame in recorded.truth if frame.stream in chapters]
    steps = [after - before for before, after in itertools.pairwise(times)]
    assert max(steps) - min(steps) < 1000


def test_older_models_write_local_time_where_utc_belongs() -> None:
    with running(model="HERO10 Black", clock_offset_s=3600.0) as camera:
        get = Client(camera)
        get.record(0.5)
        with open_video(get("/videos/DCIM/100GOPRO/GH010001.MP4").body) as container:
            created = datetime.fromisoformat(container.metadata["creation_time"])
        assert int(get.files()[0]["cre"]) == created.timestamp()


# --- media


@pytest.fixture(scope="module")
def card() -> Iterator[Camera]:
    with running() as camera:
        get = Client(camera)
        get("/gopro/camera/shutter/start")
        time.sleep(0.5)
        assert get.status(58) == 0
        assert get("/gopro/media/hilight/moment").status == 200
        assert get.status(58) == 1
        get("/gopro/camera/shutter/stop")
        get.wait(10, 0)
        get.wait(8, 0)
        assert get("/gopro/camera/presets/set_group?id=1001").status == 200
        assert get.status(96) == 1001
        get("/gopro/camera/shutter/start")
        assert get.status(10) == 1
        get.wait(10, 0)
        get.wait(8, 0)
        yield camera


def test_a_photo_is_taken_in_the_photo_preset(card: Camera) -> None:
    get = Client(card)
    assert [item["n"] for item in get.files()] == ["GX010001.MP4", "GOPR0002.JPG"]
    assert get("/gopro/media/last_captured").json == {"folder": "100GOPRO", "file": "GOPR0002.JPG"}
    assert get("/videos/DCIM/100GOPRO/GOPR0002.JPG").body.startswith(b"\xff\xd8\xff")
    assert (get.status(38), get.status(39)) == (1, 1)


def test_media_info_and_small_pictures(card: Camera) -> None:
    get = Client(card)
    info = get("/gopro/media/info?path=100GOPRO/GX010001.MP4").json
    assert (info["w"], info["h"], info["fps"], info["fps_denom"], info["hc"]) == (
        "640",
        str(HEIGHT),
        "30000",
        "1001",
        "1",
    )
    assert 300 < int(info["hi"][0]) < 1500
    assert get("/gopro/media/info?path=100GOPRO/GX010009.MP4").status == 404
    for path in ("thumbnail?path=100GOPRO/GX010001.MP4", "thumbnail?path=100GOPRO/GOPR0002.JPG"):
        assert get(f"/gopro/media/{path}").body.startswith(b"\xff\xd8\xff")
    assert get("/gopro/media/screennail?path=100GOPRO/GOPR0002.JPG").body.startswith(b"\xff\xd8\xff")
    assert get("/gopro/media/screennail?path=100GOPRO/GX010001.MP4").status == 404  # only photos have one


def test_hilights_are_added_and_removed(card: Camera) -> None:
    get = Client(card)
    where = "path=100GOPRO/GX010001.MP4&ms=123"
    assert get("/gopro/media/hilight/moment").status == 500  # not recording
    assert get(f"/gopro/media/hilight/file?{where}").status == 200
    assert get(f"/gopro/media/hilight/remove?{where}").status == 200
    assert get(f"/gopro/media/hilight/remove?{where}").status == 500
    for nowhere in ("path=100GOPRO/GX010001.MP4&ms=-1", "path=100GOPRO/GX010001.MP4&ms=99999"):
        assert get(f"/gopro/media/hilight/file?{nowhere}").status == 500
    photo = "path=100GOPRO/GOPR0002.JPG"  # has no moments: the document asks for none
    assert get(f"/gopro/media/hilight/file?{photo}").status == 200
    assert get(f"/gopro/media/info?{photo}").json["hc"] == "1"
    assert get(f"/gopro/media/hilight/remove?{photo}").status == 200


def test_downloads_by_range(card: Camera) -> None:
    get, path = Client(card), "/videos/DCIM/100GOPRO/GX010001.MP4"
    whole = get(path)
    head = get(path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert int(head.headers["content-length"]) == len(whole.body)
    part = get(path, Range="bytes=100-")
    assert (part.status, part.body) == (206, whole.body[100:])
    assert part.headers["content-range"] == f"bytes 100-{len(whole.body) - 1}/{len(whole.body)}"
    assert get(path, Range=f"bytes={len(whole.body)}-").status == 416
    assert get("/videos/DCIM/100GOPRO/../../etc/passwd").status == 404
    assert get(path, method="DELETE").status == 405


def test_ranges() -> None:
    assert parse_range("bytes=0-9", 100) == (0, 10)
    assert parse_range("bytes=90-200", 100) == (90, 100)
    assert parse_range("bytes=-10", 100) == (90, 100)
    assert parse_range("lines=1-2", 100) is None
    assert parse_range("", 100) is None
    with pytest.raises(ValueError, match="outside"):
        parse_range("bytes=100-", 100)


def test_a_download_is_cut_and_can_be_continued(card: Camera) -> None:
    get, path = Client(card), "/videos/DCIM/100GOPRO/GX010001.MP4"
    whole = get(path).body
    card.faults["download_cut_bytes"] = 1000
    try:
        with pytest.raises(http.client.IncompleteRead) as cut:
            get(path, Range="bytes=500-")
    finally:
        del card.faults["download_cut_bytes"]
    assert cut.value.partial == whole[500:1500]


def test_deleted_files_are_gone() -> None:
    with running(chapter_bytes=70_000) as camera:
        get = Client(camera)
        get.record(1.2)
        first, *others = [item["n"] for item in get.files()]
        assert get(f"/gp/gpControl/command/storage/delete/group?p=100GOPRO/{others[0]}").status == 400  # not the first
        assert get(f"/gopro/media/delete/file?path=100GOPRO/{others[0]}").status == 200  # one chapter only
        assert get("/gopro/media/delete/file?path=100GOPRO/NONE.MP4").status == 400
        assert get(f"/videos/DCIM/100GOPRO/{others[0]}").status == 404
        assert get(f"/gp/gpControl/command/storage/delete/group?p=100GOPRO/{first}").status == 200
        assert get.files() == []


# --- faults and power


def test_a_sleeping_camera_is_gone_and_a_reset_one_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "RESET", Absence(1.0))
    with running() as camera:
        get = Client(camera)
        assert get("/gp/gpControl/command/system/reset").status == 200
        await_connection(get, is_there=False)
        await_connection(get, is_there=True)
        assert get("/gp/gpControl/command/system/sleep").status == 200
        await_connection(get, is_there=False)


def test_a_camera_sleeps_when_both_timers_have_run_out() -> None:
    with running() as camera:
        timers = camera._device.timers
        assert not camera._device.check_timers()
        timers.activity_s -= 301
        timers.keep_alive_s += 1
        assert not camera._device.check_timers()
        timers.keep_alive_s -= 10
        await_connection(Client(camera), is_there=False)


# --- processes and what they leave


def test_a_stopped_camera_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    threads, sockets = set(threading.enumerate()), open_sockets()
    with running() as camera:
        host, port = camera.address.split(":")
        get = Client(camera)
        get.record(0.4)
        get("/gopro/webcam/start?port=9")
        idle = socket.create_connection((host, int(port)))
        time.sleep(0.4)
        assert list(tmp_path.iterdir())
    idle.close()
    assert set(threading.enumerate()) == threads
    assert open_sockets() == sockets
    assert not list(tmp_path.iterdir())


def open_sockets() -> int:
    links = (os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir())
    return sum("socket:" in link for link in links)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simulator", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("arguments", [[], ["fly"]])
def test_without_a_verb_there_is_the_list(arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(verb in done.stderr for verb in ("camera", "receiver", "car", "demo"))


def test_the_command_refuses_what_it_does_not_know() -> None:
    done = run("camera", "--fault", "gremlin")
    assert done.returncode == 2
    assert done.stderr.startswith("camera: unknown fault 'gremlin'")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_runs_until_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "simulator",
        "camera",
        "--size",
        "180",
        "--serial",
        SERIAL,
        "--fault",
        "udp_loss=0.1",
    ]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert (ready["serial"], ready["model"]) == (SERIAL, "HERO12 Black")
        connection = http.client.HTTPConnection(ready["address"], timeout=5)
        connection.request("GET", "/gopro/camera/shutter/start")
        assert connection.getresponse().status == 200
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(10) == 0
        connection.close()
    assert not list(tmp_path.iterdir())


# --- on a network


def test_several_cameras_on_addresses_of_their_own_answer_and_stream_to_whom_asked() -> None:
    serials = {"127.0.0.2": "C3501324500222", "127.0.0.3": "C3501324500333"}
    with ExitStack() as exits:
        cameras = [exits.enter_context(running(host=host, serial=serial, size=180)) for host, serial in serials.items()]
        udp = [exits.enter_context(listening()) for _ in cameras]
        for camera, socket_of_it in zip(cameras, udp, strict=True):
            assert Client(camera)("/gopro/camera/info").json["serial_number"] == serials[camera.address.split(":")[0]]
            Client(camera)(f"/gopro/webcam/start?port={socket_of_it.getsockname()[1]}")
        for socket_of_it in udp:
            counters = [p[3] & 15 for p in split(receive(socket_of_it, 0.5).data) if pid(p) == VIDEO_PID and p[3] & 16]
            assert all((after - before) % 16 == 1 for before, after in itertools.pairwise(counters))  # not mixed


def test_a_camera_announces_its_serial_number_and_says_goodbye() -> None:
    seen: list[tuple[str, str]] = []

    class Listener(ServiceListener):
        def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            seen.append(("is here", name.removesuffix(f".{type_}")))

        def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
            seen.append(("is gone", name.removesuffix(f".{type_}")))

    serial = f"C350132{time.monotonic_ns() % 10**7:07d}"
    with closing(Zeroconf(interfaces=["127.0.0.1"])) as network:
        ServiceBrowser(network, "_gopro-web._tcp.local.", Listener())
        with running(size=180, serial=serial, mdns=True):
            wait_for(lambda: ("is here", serial) in seen)
        wait_for(lambda: ("is gone", serial) in seen)
