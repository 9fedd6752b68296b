"""The client of a GoPro, against servers as odd as users saw cameras be, and against the virtual camera."""

import contextlib
import json
import random
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests

import configs
import gopro
from configs import Settings
from rig.camera import camerasettings, cardfiles, finding, opengopro, streamcapture
from rig.camera.cardfiles import download, download_all
from rig.camera.finding import discover
from rig.camera.goproanswers import Media, RefusedError, added, limits, newest
from rig.camera.opengopro import GoPro
from rig.camera.streamcapture import StreamCapture
from rig.camera.vigil import Vigil
from rig.errors import ConflictError, DeviceError, DeviceNotFoundError, UsageError
from rig.recordings import INTERRUPTED, Recordings
from rig.workers import StartCapture, StopCapture
from simulator.camera import Camera
from tests.gopros import Driver, make_camera, names_in
from tests.machine import free_port, wait_for

Query = Mapping[str, str]
Reply = Callable[[Query, Mapping[str, str]], bytes | None]
STATE = "/gopro/camera/state"
SHUTTER = "/gopro/camera/shutter/start"
LOG_LINE = b"gpHttpServer: [12][INFO ] conn 0: /gopro/media/list @civetweb.c:17872\r\n"


# Servers that answer what a test wants


def answer(body: object = None, status: str = "200 OK", **headers: object) -> bytes:
    content = body if isinstance(body, bytes) else (json.dumps(body or {}) + "\n").encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *(f"{key}: {headers[key]}" for key in headers)]
    return ("\r\n".join(lines).replace("_", "-") + "\r\n\r\n").encode() + content


def state(status: Mapping[str, object] | None = None, **more: object) -> bytes:
    return answer({"status": {"8": 0, "10": 0, "30": "HERO11 Black", **(status or {})}, "settings": {"2": 9}, **more})


class OddCamera(socketserver.ThreadingTCPServer):
    """Answers by `replies`, 404 else; bytes as they are, None is no answer at all. Notes what it was asked."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, replies: dict[str, bytes | Reply]) -> None:
        self.replies = {STATE: state(), "/gopro/version": answer({"version": "2.0"}), **replies}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(socketserver.StreamRequestHandler):
    server: OddCamera

    def handle(self) -> None:
        parts = urlsplit(self.rfile.readline().split()[1].decode())
        lines = iter(lambda: self.rfile.readline().decode().strip(), "")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.server.asked.append(parts.path + ("?" + parts.query if parts.query else ""))
        reply = self.server.replies.get(parts.path, answer(status="404 Not Found"))
        content = reply if isinstance(reply, bytes) else reply(dict(parse_qsl(parts.query)), headers)
        self.wfile.write(content or b"")


@contextlib.contextmanager
def odd(replies: dict[str, bytes | Reply] | None = None) -> Iterator[tuple[GoPro, OddCamera]]:
    with OddCamera(replies or {}) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        camera = GoPro(server.address)
        try:
            yield camera, server
        finally:
            camera.close()
            server.shutdown()
            thread.join()


def in_turn(*replies: bytes | None) -> Reply:
    """One reply after the other, the last one for ever."""
    left = list(replies)
    return lambda query, headers: left.pop(0) if len(left) > 1 else left[0]


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POLL_S", "BUSY_PAUSE_S", "RETRY_PAUSE_S", "RESTART_PAUSE_S"):
        monkeypatch.setattr(opengopro, name, 0.05)
    monkeypatch.setattr(cardfiles, "RETRY_PAUSE_S", 0.05)


# Tolerance


def test_log_line_before_the_status_line_is_tried_again() -> None:
    with odd({STATE: in_turn(LOG_LINE + state(), state({"70": 55}))}) as (camera, server):
        assert camera.state().battery_percent == 55
        assert server.asked == [STATE, STATE]


def test_busy_camera_is_asked_again() -> None:
    busy = answer(status="503 Service Unavailable")
    media = answer({"media": [{"d": "100GOPRO", "fs": [{"n": "GX010001.MP4", "s": "12"}]}]})
    with odd({"/gopro/media/list": in_turn(busy, busy, media)}) as (camera, _):
        assert camera.media() == [Media("100GOPRO", "GX010001.MP4", 12)]


def test_numbers_may_be_texts_and_ids_unknown() -> None:
    status = {"1": "1", "70": "20", "35": 14286, "33": "2", "62": 4, "37": "?", "6": 1, "10": "1", "96": None}
    with odd({STATE: state(status)}) as (camera, _):
        seen = camera.state()
    assert (seen.battery_percent, seen.card_seconds_left, seen.hot, seen.encoding) == (20, None, True, True)
    assert seen.card_problem == "there is no card"
    assert seen.settings == {2: 9}


def test_without_a_battery_there_is_no_percentage() -> None:
    with odd({STATE: state({"1": 0, "70": 0})}) as (camera, _):
        assert camera.state().battery_percent is None


def test_older_model_is_named_by_its_state() -> None:
    with odd() as (camera, _):
        assert camera.identify() == (None, "HERO11 Black")


def test_repeated_wired_usb_may_answer_500() -> None:
    error = answer(status="500 Internal Server Error")
    with odd({"/gopro/camera/control/wired_usb": error}) as (camera, server):
        camera.take_control(["2=1"])
    assert "/gopro/camera/setting?setting=2&option=1" in server.asked


def test_refused_setting_lists_what_is_possible() -> None:
    body = {"error": 3, "setting_id": 3, "option_id": 250, "available_options": [{"display_name": "25", "id": 9}]}
    with (
        odd({"/gopro/camera/setting": answer(body, status="403 Forbidden")}) as (camera, _),
        pytest.raises(RefusedError, match=r"possible now: 9 \(25\)"),
    ):
        camera.set(3, 250)


def test_redirect_is_not_followed() -> None:
    with (
        odd() as (_, other),
        odd({STATE: answer(status="302 Found", Location=f"http://{other.address}{STATE}")}) as (
            camera,
            _,
        ),
    ):
        with pytest.raises(DeviceError):
            camera.state()
        assert other.asked == []


def test_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with odd() as (camera, _):
        assert camera.version() == "2.0"


@pytest.mark.parametrize("body", [b"<html>", b"[1, 2]", b'{"status": 3}'])
def test_something_else_than_a_camera_is_told(body: bytes) -> None:
    with odd({STATE: answer(body)}) as (camera, _), pytest.raises(DeviceError, match="is it a GoPro"):
        camera.state()


def test_nobody_there_is_told() -> None:
    with pytest.raises(DeviceNotFoundError, match="no camera answers"):
        GoPro(f"127.0.0.1:{free_port()}").state()


@pytest.mark.parametrize("address", ["", "a b", "host:", "host:0", "host:99999", "http://host", "::1"])
def test_address_that_is_none_is_told(address: str) -> None:
    with pytest.raises(UsageError, match="HOST"):
        GoPro(address)


def test_camera_without_battery_is_not_told_to_be_wired() -> None:
    with odd({STATE: state({"1": 0})}) as (camera, server):
        camera.take_control()
    assert not [path for path in server.asked if "wired_usb" in path]


# Settings


@pytest.mark.parametrize(
    ("text", "model", "numbers"),
    [
        ("resolution=4K", "HERO9 Black", (2, 1)),
        ("resolution=5.3k-8:7", "HERO11 Black", (2, 26)),
        ("resolution=5.3k-8:7", "HERO12 Black", (2, 107)),
        ("fps=30", "HERO12 Black", (3, 8)),
        ("fps=30", "HERO13 Black", (234, 8)),
        ("anti-flicker=50", "HERO12 Black", (134, 3)),
        ("anti-flicker=50", "HERO13 Black", (134, 1)),
        ("135=0", "HERO13 Black", (135, 0)),
    ],
)
def test_settings_have_names(text: str, model: str, numbers: tuple[int, int]) -> None:
    assert camerasettings.parse(text, model) == numbers


@pytest.mark.parametrize("text", ["resolution", "resolution=9k", "zoom=1", "2=", "=1", "-1=2", "resolution=5.3k-21:9"])
def test_settings_that_are_none_are_told(text: str) -> None:
    with pytest.raises(UsageError, match=r"choose one of|give NAME=OPTION"):
        camerasettings.parse(text, "HERO12 Black")


@pytest.mark.parametrize("model", ["HERO9 Black", "HERO10 Black", "HERO11 Black", "HERO12 Black", "HERO13 Black"])
def test_recommended_settings_are_taken_by_each_model(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with make_camera(model=model) as camera:
        code, result, _ = run(capsys, "settings", "recommended", "--address", camera.address)
        assert (code, result["refused"]) == (0, [])
        assert {"resolution": "4k", "fps": "30", "lens": "linear", "hypersmooth": "off"}.items() <= result[
            "named"
        ].items()
        named = run(capsys, "settings", "anti-flicker=50", "fps=60", "--address", camera.address)[1]["named"]
        assert (named["anti-flicker"], named["fps"]) == ("50", "60")


def test_limits_of_a_model_are_told_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    assert any("shutter" in limit for limit in limits("HERO9 Black"))
    assert limits("HERO13 Black") == limits("HERO99") == ()
    with make_camera(model="HERO9 Black") as camera:
        result = run(capsys, "status", "--address", camera.address)[1]
    assert (result["model"], result["temperature"], result["card_errors"]) == ("HERO9 Black", "ok", 0)
    assert any("8554" in limit for limit in result["limits"])


# Clock and shutter


def test_clock_is_set_to_the_nearest_second_without_zone() -> None:
    with odd({"/gopro/camera/set_date_time": answer()}) as (camera, server):
        camera.set_clock(datetime(2026, 12, 31, 23, 59, 59, 700_000, tzinfo=UTC))
    assert server.asked == ["/gopro/camera/set_date_time?date=2027_01_01&time=00_00_00&tzone=0&dst=0"]


def test_older_camera_gets_its_clock_without_zone() -> None:
    def reply(query: Query, _: Mapping[str, str]) -> bytes:
        return answer(status="400 Bad Request") if "tzone" in query else answer()

    with odd({"/gopro/camera/set_date_time": reply}) as (camera, server):
        camera.set_clock()
        assert len(server.asked) == 2


def test_lost_answer_to_the_shutter_is_not_repeated() -> None:
    states = in_turn(state(), state(), state({"10": 1}))
    with odd({SHUTTER: in_turn(None), STATE: states}) as (camera, server):
        camera.start_recording()
        assert server.asked.count(SHUTTER) == 1


def test_lost_command_to_the_shutter_is_repeated() -> None:
    begun = threading.Event()

    def press(query: Query, headers: Mapping[str, str]) -> bytes | None:
        if server.asked.count(SHUTTER) == 1:
            return None
        begun.set()
        return answer()

    replies: dict[str, bytes | Reply] = {
        SHUTTER: press,
        STATE: lambda query, headers: state({"10": int(begun.is_set())}),
    }
    with odd(replies) as (camera, server):
        camera.start_recording()
        assert server.asked.count(SHUTTER) == 2


def test_running_camera_is_not_started() -> None:
    with odd({STATE: state({"10": 1})}) as (camera, server):
        with pytest.raises(DeviceError, match="recording already"):
            camera.start_recording()
        assert SHUTTER not in server.asked


def test_hero9_is_started_the_old_way() -> None:
    states = in_turn(state(), state(), state({"10": 1}))
    with odd({"/gp/gpControl/command/shutter": answer(), STATE: states}) as (camera, server):
        camera.start_recording()
    assert "/gp/gpControl/command/shutter?p=1" in server.asked


# Webcam


def webcam_orders(server: OddCamera) -> list[str]:
    return [path.split("/")[-1].split("?")[0] for path in server.asked if "/webcam/" in path or "wired_usb" in path]


@pytest.mark.parametrize("said", [{}, {"status": 2}, {"status": 4, "error": 0}, {"status": "2", "error": "0"}])
def test_webcam_may_say_little(said: dict[str, object]) -> None:
    with odd({"/gopro/webcam/start": answer(said)}) as (camera, server):
        camera.start_webcam(5555, "1080", "linear", lambda: None)
    assert server.asked[-1] == "/gopro/webcam/start?res=12&fov=4&port=5555"


def test_idle_that_may_be_stale_is_started_twice_once() -> None:
    ok = answer({"error": 0})
    with odd({"/gopro/webcam/start": ok, "/gopro/webcam/stop": ok, "/gopro/webcam/status": answer({"status": 1})}) as (
        camera,
        server,
    ):
        camera.start_webcam(5555, "1080", "linear", lambda: server.asked.append("/webcam/READY"))
        camera.start_webcam(5555, "1080", "linear", lambda: None)
    first = ["wired_usb", "status", "start", "stop", "READY", "start"]
    assert webcam_orders(server) == [*first, "wired_usb", "status", "start"]


def test_streaming_webcam_is_stopped_first() -> None:
    with odd({"/gopro/webcam/start": answer(), "/gopro/webcam/status": answer({"status": 2})}) as (camera, server):
        camera.start_webcam(5555, "720", "wide", lambda: None)
    assert webcam_orders(server) == ["wired_usb", "status", "stop", "start"]


def test_webcam_that_fails_at_first_is_started_again() -> None:
    replies = in_turn(answer({"status": 1, "error": 1}), None, answer({"status": 2, "error": 0}))
    with odd({"/gopro/webcam/start": replies}) as (camera, server):
        camera.start_webcam(5555, "1080", "linear", lambda: None)
    assert webcam_orders(server).count("start") == 3


def test_webcam_that_does_not_start_is_told() -> None:
    with (
        odd({"/gopro/webcam/start": answer({"status": 4, "error": 7})}) as (camera, _),
        pytest.raises(DeviceError, match="unavailable"),
    ):
        camera.start_webcam(5555, "1080", "linear", lambda: None)


def test_webcam_knows_what_the_settings_allow_and_they_allow_nothing_else(tmp_path: Path) -> None:
    known = {"webcam_resolution": (*opengopro.RESOLUTIONS,), "webcam_lens": (*camerasettings.LENSES,)}
    assert known == configs.CHOICES
    with pytest.raises(configs.SettingError, match="linear"):
        configs.load({"EDENCAR_WEBCAM_LENS": "fisheye"}, tmp_path / "none")


# Media


def media_list(*items: Mapping[str, object], folder: str = "100GOPRO") -> bytes:
    return answer({"id": "1", "media": [{"d": folder, "fs": list(items)}]})


def test_groups_are_listed_by_member() -> None:
    group = {"n": "G0010008.JPG", "b": "8", "l": "12", "m": ["10"], "g": "1", "s": "773977407", "t": "t"}
    with odd({"/gopro/media/list": media_list(group)}) as (camera, _):
        names = [media.name for media in camera.media()]
    assert names == [f"G001{number:04}.JPG" for number in (8, 9, 11, 12)]


def test_names_that_leave_the_folder_are_passed_over() -> None:
    items = [{"n": name, "s": 1} for name in ("../../etc/passwd", ".ssh", "a/b", "", "GX010001.MP4")]
    with odd({"/gopro/media/list": media_list(*items)}) as (camera, _):
        assert [media.name for media in camera.media()] == ["GX010001.MP4"]
    with odd({"/gopro/media/list": media_list(*items, folder="..")}) as (camera, _):
        assert camera.media() == []


def test_new_files_come_with_all_chapters() -> None:
    names = ["GX010007.MP4", "GX010008.MP4", "GX020008.MP4", "GX010009.MP4", "GOPR0010.JPG"]
    card = [Media("100GOPRO", name, 1) for name in names]
    before = [f"100GOPRO/{name}" for name in ("GX010007.MP4", "GX010008.MP4", "GX010009.MP4")]
    assert [media.name for media in added(before, card)] == ["GX010008.MP4", "GX020008.MP4", "GOPR0010.JPG"]


def test_newest_video_is_that_of_the_highest_number() -> None:
    names = ["GX010009.MP4", "GX010010.MP4", "GX020010.MP4", "GOPR0011.JPG"]
    assert [media.name for media in newest([Media("100GOPRO", name, 1) for name in names])] == names[1:3]
    assert newest([]) == ()


CONTENT = bytes(range(256)) * 12_000
FILE = Media("100GOPRO", "GX010001.MP4", len(CONTENT))
PATH = "/videos/DCIM/100GOPRO/GX010001.MP4"


def ranged(content: bytes, limit: int = 1 << 40) -> Reply:
    """A server that knows Range, and hangs up after `limit` bytes."""

    def reply(query: Query, headers: Mapping[str, str]) -> bytes:
        begin = int(headers.get("range", "bytes=0-")[6:-1])
        body = content[begin:]
        span = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if begin >= len(content):
            return answer(status="416 Range Not Satisfiable")
        status = "206 Partial Content" if begin else "200 OK"
        return answer(body, status, Content_Range=span)[
            : limit + len(answer(body, status, Content_Range=span)) - len(body)
        ]

    return reply


def test_download_that_breaks_off_goes_on_where_it_was(tmp_path: Path) -> None:
    told: list[int] = []
    with odd({PATH: ranged(CONTENT, 1_500_000)}) as (camera, server):
        path = download(camera, FILE, tmp_path, lambda name, done: told.append(done))
    assert path.read_bytes() == CONTENT
    assert told[-1] == len(CONTENT)
    assert len(server.asked) > 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["GX010001.MP4"]


def test_download_that_was_ended_resumes(tmp_path: Path) -> None:
    class EnoughError(Exception):
        pass

    def stop(name: str, done: int) -> None:
        if done > 2_000_000:
            raise EnoughError

    with odd({PATH: ranged(CONTENT)}) as (camera, server):
        with pytest.raises(EnoughError):
            download(camera, FILE, tmp_path, stop)
        assert (tmp_path / "GX010001.MP4.part").stat().st_size > 2_000_000
        first: list[int] = []
        download(camera, FILE, tmp_path, lambda name, done: first.append(done))
        assert first[0] > 1_000_000
        count = len(server.asked)
        download(camera, FILE, tmp_path)
        assert len(server.asked) == count  # it is here already
    assert (tmp_path / FILE.name).read_bytes() == CONTENT


def test_download_survives_twenty_cuts(tmp_path: Path) -> None:
    dice = random.Random(20)
    cuts = iter(sorted(dice.sample(range(1, len(CONTENT)), 20)))

    def reply(query: Query, headers: Mapping[str, str]) -> bytes:
        begin = int(headers.get("range", "bytes=0-")[6:-1])
        limit = max(next(cuts, len(CONTENT)) - begin, 0)
        return ranged(CONTENT, limit)(query, headers) or b""

    with odd({PATH: reply}) as (camera, server):
        assert download(camera, FILE, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 21


def test_several_files_come_at_once_and_one_failure_spoils_no_other(tmp_path: Path) -> None:
    names = [f"GX0{number}0001.MP4" for number in range(1, 5)]
    card = [Media("100GOPRO", name, len(CONTENT)) for name in names]
    busy: list[int] = []
    most: list[int] = []

    def reply(query: Query, headers: Mapping[str, str]) -> bytes:
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.1)
        busy.pop()
        return ranged(CONTENT)(query, headers) or b""

    replies: dict[str, bytes | Reply] = {f"/videos/DCIM/{media.path}": reply for media in card[:3]}
    with odd(replies) as (camera, _), pytest.raises(RefusedError, match="GX040001"):
        download_all(camera.address, card, tmp_path)
    assert max(most) == cardfiles.AT_ONCE
    assert [path.read_bytes() == CONTENT for path in sorted(tmp_path.iterdir())] == [True] * 3


@pytest.mark.parametrize("length", [2_000_000, len(CONTENT), len(CONTENT) + 5_000_000])
def test_part_of_another_file_is_not_continued(tmp_path: Path, length: int) -> None:
    (tmp_path / "GX010001.MP4.part").write_bytes(b"\0" * length)
    with odd({PATH: ranged(CONTENT)}) as (camera, _):
        assert download(camera, FILE, tmp_path).read_bytes() == CONTENT


def test_server_without_range_sends_all_again(tmp_path: Path) -> None:
    (tmp_path / "GX010001.MP4.part").write_bytes(CONTENT[:2_000_000])
    with odd({PATH: answer(CONTENT)}) as (camera, _):
        assert download(camera, FILE, tmp_path).read_bytes() == CONTENT


def test_download_shorter_than_the_list_says_is_refused(tmp_path: Path) -> None:
    with odd({PATH: answer(CONTENT[:-1])}) as (camera, _), pytest.raises(DeviceError, match="does not send"):
        download(camera, FILE, tmp_path)
    assert not (tmp_path / FILE.name).exists()


def test_file_that_grew_after_the_list_is_taken_whole(tmp_path: Path) -> None:
    with odd({PATH: answer(CONTENT)}) as (camera, _):
        assert download(camera, replace(FILE, size_bytes=1000), tmp_path).read_bytes() == CONTENT


# Finding


def plug_in(usb: Path, name: str, vendor: str, serial: str | None) -> None:
    (usb / name).mkdir(parents=True)
    (usb / name / "idVendor").write_text(vendor + "\n")
    if serial is not None:
        (usb / name / "serial").write_text(serial + "\n")


def test_usb_serials_give_the_addresses(tmp_path: Path) -> None:
    plug_in(tmp_path, "1-1", "2672", "C3501324500789")
    plug_in(tmp_path, "1-2", "1d6b", "C3501324500123")
    plug_in(tmp_path, "1-3", "2672", None)
    assert finding._on_usb(tmp_path) == {"172.27.189.51": "C3501324500789"}
    assert finding.usb_serial_at("172.27.189.51", tmp_path) == "C3501324500789"
    assert finding.usb_serial_at("172.27.188.51", tmp_path) is None
    assert finding.camera_address("no digits") is None


def test_cameras_at_given_addresses_are_found_and_others_passed_over(tmp_path: Path) -> None:
    info = answer({"serial_number": "C3501324500711", "model_name": "HERO12 Black"})
    with odd({"/gopro/camera/info": info}) as (_, first), odd() as (_, second):
        began = time.monotonic()
        found = discover([second.address, f"127.0.0.1:{free_port()}", first.address, first.address], tmp_path)
        assert time.monotonic() - began < 3
    assert [(camera.serial, camera.model, camera.address) for camera in found] == [
        (second.address, "HERO11 Black", second.address),
        ("C3501324500711", "HERO12 Black", first.address),
    ]
    assert {camera.host_address for camera in found} == {"127.0.0.1"}


def test_nothing_plugged_in_is_nothing_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "_announced", dict)
    assert discover([], tmp_path) == []


def test_camera_that_announces_itself_is_found(tmp_path: Path) -> None:
    with make_camera(serial="C3461324500777", model="HERO11 Black", mdns=True) as camera:
        found = {camera.serial: camera for camera in discover([], tmp_path)}
    assert (found["C3461324500777"].model, found["C3461324500777"].address) == ("HERO11 Black", camera.address)


# Commands


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any], str]:
    code = gopro.main([*argv, "--json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out), captured.err


def test_exit_codes_say_what_happened(capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    for verb in ("discover", "status", "media"):
        code, result, errors = run(capsys, verb, "--address", nobody)
        assert (code, result["exit_code"], errors.count("\n")) == (6, 6, 1)
    with odd({"/gopro/camera/setting": answer({"error": 4}, status="403 Forbidden")}) as (_, server):
        assert run(capsys, "settings", "2=250", "--address", server.address)[0] == 7
        assert run(capsys, "settings", "two", "--address", server.address)[0] == 2
        assert run(capsys, "status", "--address", server.address, "--serial", "other")[0] == 6
        assert run(capsys, "status", "--address", "a b")[0] == 2
        assert run(capsys, "download", "GX019999.MP4", "--address", server.address)[0] == 7


def test_download_of_what_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with odd({"/gopro/media/list": media_list({"n": "GX010001.MP4", "s": "1"})}) as (_, server):
        code, _, errors = run(capsys, "download", "x", "--address", server.address, "--output", str(tmp_path / "new"))
    assert code == 3
    assert "not on the card" in errors


def test_a_folder_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for verb in ("stream", "download"):
        for folder in ("/proc/x", "/proc", str(tmp_path / "file")):
            code, _, errors = run(capsys, verb, "--output", folder, "--address", f"127.0.0.1:{free_port()}")
            assert (code, errors.count("\n")) == (3, 1)
            assert f"{folder} cannot be written" in errors


def test_a_length_of_time_is_above_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for verb, seconds in (("record", "-3"), ("stream", "0"), ("record", "nan"), ("stream", "inf")):
        assert run(capsys, verb, "--seconds", seconds, "--address", f"127.0.0.1:{free_port()}")[0] == 2


# A stream that does not come


def test_a_stream_of_which_nothing_arrives_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamcapture, "FIRST_DATAGRAM_S", 0.1)
    monkeypatch.setattr(streamcapture, "WEBCAM_PORT", free_port())  # another program may have the real one
    streaming = answer({"status": 2, "error": 0})
    with odd({"/gopro/webcam/start": streaming, "/gopro/webcam/stop": answer()}) as (camera, server):
        capture = StreamCapture(camera, "HERO12 Black", tmp_path, Settings())
        with pytest.raises(DeviceError, match="says that it streams, but nothing arrives"):
            capture.start()
        ports = [dict(parse_qsl(urlsplit(path).query))["port"] for path in server.asked if "webcam/start" in path]
    assert len(ports) == 2  # one of ours, then the one to which some models send whatever they are told
    assert ports[1] == str(streamcapture.WEBCAM_PORT) != ports[0]


def test_a_model_that_sends_to_one_port_only_wants_that_one(tmp_path: Path) -> None:
    with contextlib.ExitStack() as held, odd() as (camera, server):
        with contextlib.suppress(OSError):  # another program may have it: that is what is tested
            holder = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            holder.bind(("127.0.0.1", streamcapture.WEBCAM_PORT))
        capture = StreamCapture(camera, "HERO9 Black", tmp_path, Settings())
        with pytest.raises(DeviceError, match=f"cannot receive at UDP port {streamcapture.WEBCAM_PORT}"):
            capture.start()
        assert not [path for path in server.asked if "webcam/start" in path]


def test_a_stream_that_falls_silent_is_ordered_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[int] = []

    def send(port: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(10):
                time.sleep(0.05)
                sender.sendto(b"G" + bytes(187), ("127.0.0.1", port))

    def begin(query: Query, _: Mapping[str, str]) -> bytes:
        orders.append(int(query["port"]))
        if len(orders) == 3:
            return answer({"status": 1, "error": 3})
        threading.Thread(target=send, args=(orders[-1],)).start()
        return answer({"status": 2, "error": 0})

    monkeypatch.setattr(opengopro, "TRIES", 1)
    monkeypatch.setattr(streamcapture, "SILENCE_S", 60.0)
    with odd({"/gopro/webcam/start": begin, "/gopro/webcam/stop": answer()}) as (camera, _):
        capture = StreamCapture(camera, "HERO12 Black", tmp_path, Settings())
        capture.start()

        def ordered_thrice() -> bool:
            capture.watch()
            return len(orders) == 3

        try:
            capture.watch()
            assert len(orders) == 1  # it is not silent yet
            monkeypatch.setattr(streamcapture, "SILENCE_S", 0.3)
            wait_for(ordered_thrice)
            assert capture.problems[-1].startswith(f"{camera.address} does not start its webcam (error 3")
        finally:
            capture.halt()
        capture.watch()
        assert len(orders) == 3  # what has ended stays so


# The virtual camera


@pytest.fixture(scope="module")
def camera() -> Iterator[Camera]:
    with make_camera() as camera:
        yield camera


def test_commands_work_on_a_camera(camera: Camera, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = ("--address", camera.address)
    assert run(capsys, "discover", *at)[1]["cameras"][0]["serial"] == camera.serial
    assert run(capsys, "status", *at)[1]["state"] == "idle"
    assert run(capsys, "settings", "91=4", *at)[1]["settings"]["91"] == 4
    recorded = run(capsys, "record", "--seconds", "0.5", *at)[1]["files"]
    taken = run(capsys, "photo", *at)[1]["files"]
    assert [file["name"][-4:] for file in recorded + taken] == [".MP4", ".JPG"]
    fetched = run(capsys, "download", "--output", str(tmp_path), recorded[0]["name"], *at)[1]["files"]
    assert [Path(path).stat().st_size for path in fetched] == [recorded[0]["size_bytes"]]
    gone = run(capsys, "media", "--delete", taken[0]["name"], *at)[1]
    assert gone["deleted"] == [taken[0]["path"]]
    assert [file["name"] for file in gone["files"]] == [recorded[0]["name"]]
    assert run(capsys, "media", "--delete", "GOPR9999.JPG", *at)[0] == 3
    streamed = run(capsys, "stream", "--output", str(tmp_path), "--seconds", "1", *at)[1]
    assert streamed["lost_datagrams"] == 0
    assert Path(streamed["files"][0]).stat().st_size > 50_000


def test_commands_speak_in_words(camera: Camera, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def said(*argv: str) -> str:
        assert gopro.main([*argv, "--address", camera.address]) == 0
        return capsys.readouterr().out

    assert said("discover").startswith(f"{camera.serial}  HERO12 Black  {camera.address}\n")
    assert f"serial: {camera.serial}\n" in (status := said("status"))
    assert "limits: it has no GPS\n" in status
    assert "anti-flicker=" in said("settings")
    assert said("set-clock") == f"address: {camera.address}\nclock: UTC\n"
    (taken,) = said("photo").splitlines()
    assert re.fullmatch(r"\d{3}GOPRO/\w+\.JPG  \d+", taken)
    *_, gone = said("media", "--delete", taken.split()[0]).splitlines()  # behind the files that are left
    assert gone == f"deleted: {taken.split()[0]}"


def test_of_several_cameras_one_must_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with odd() as (_, first), odd() as (_, second):
        monkeypatch.setenv("EDENCAR_CAMERAS", f"{first.address},{second.address}")
        code, _, errors = run(capsys, "status")
        assert (code, errors.count("\n")) == (2, 1)
        assert "choose one with --serial" in errors
        assert run(capsys, "status", "--serial", second.address)[1]["address"] == second.address


def test_ctrl_c_ends_what_was_started_without_a_time(
    camera: Camera, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Vigil] = []

    def interrupt(vigil: Vigil) -> None:
        looks.append(vigil)
        if len(looks) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Vigil, "look", interrupt)  # which is done while it waits
    code, result, _ = run(capsys, "record", "--address", camera.address)
    assert code == 0
    assert [file["name"][-4:] for file in result["files"]] == [".MP4"]


def test_card_of_a_camera_that_records_is_told_to_wait(camera: Camera, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(GoPro(camera.address)) as client:
        client.start_recording()
        try:
            code, _, errors = run(capsys, "media", "--address", camera.address)
        finally:
            client.stop_recording()
    assert code == 7
    assert "it is recording: stop first" in errors


@pytest.fixture
def driver(camera: Camera, tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(camera, tmp_path)
    driver.wait(lambda status: status.state == "idle")
    yield driver
    driver.worker.stop()


def test_stream_is_recorded_and_stopped(camera: Camera, driver: Driver) -> None:
    folder = driver.folder("2026-11-22_14-03-12")
    driver.ask(StartCapture(folder, "video"))
    driver.ask(StartCapture(folder, "video"))  # told again: nothing changes
    with pytest.raises(ConflictError, match="already"):
        driver.ask(StartCapture(folder, "camera"))
    status = driver.wait(lambda status: status.state == "streaming" and (status.fps or 0) > 25)
    assert (status.serial, status.model) == (camera.serial, camera.model)
    assert status.battery_percent is not None
    files = driver.ask(StopCapture())
    assert [path.name for path in sorted(folder.glob("*.ts"))] == list(files)
    driver.wait(lambda status: status.state == "idle")
    assert requests.get(f"http://{camera.address}/gopro/webcam/status", timeout=5).json()["status"] != 2
    assert driver.ask(StopCapture()) == ()


def test_refusal_reaches_the_one_who_asked(camera: Camera, driver: Driver) -> None:
    camera.faults["webcam_500"] = 1
    try:
        with pytest.raises(DeviceError, match="500"):
            driver.ask(StartCapture(driver.folder("2026-11-22_14-03-13"), "video"))
    finally:
        del camera.faults["webcam_500"]
    with pytest.raises(UsageError):
        driver.ask(StartCapture(driver.output, "photos"))
    assert driver.worker.status.state == "idle"


def test_video_on_the_card_is_fetched_even_by_another_worker(camera: Camera, driver: Driver) -> None:
    folder = driver.folder("2026-11-22_14-03-14")
    driver.ask(StartCapture(folder, "camera"))
    driver.wait(lambda status: status.state == "recording")
    time.sleep(0.7)  # a camera needs a moment for its first picture
    camera.faults["download_cut_bytes"] = 3000
    files = driver.ask(StopCapture())
    driver.wait(lambda status: status.state == "fetching" and status.fetched_bytes > 0)
    driver.worker.stop(0.1)
    assert not (folder / files[0]).exists()
    assert (folder / f"{files[0]}.part").exists()
    del camera.faults["download_cut_bytes"]
    other = Driver(camera, driver.output)
    try:
        other.wait(lambda status: status.state == "idle" and names_in(folder) == {*files})
    finally:
        other.worker.stop()
    sizes = {media.name: media.size_bytes for media in GoPro(camera.address).media()}
    assert {path.name: path.stat().st_size for path in folder.iterdir()} == {name: sizes[name] for name in files}


def test_recording_of_a_killed_worker_is_stopped_by_the_next(camera: Camera, driver: Driver) -> None:
    folder = driver.folder("2026-11-22_14-03-15")
    driver.ask(StartCapture(folder, "camera"))
    time.sleep(0.7)
    driver.kill()
    other = Driver(camera, driver.output)
    try:
        other.ask(StartCapture(folder, "camera"))
        files = other.ask(StopCapture())
        other.wait(lambda status: status.state == "idle" and names_in(folder) == {*files})
    finally:
        other.worker.stop()
    assert [path.suffix for path in folder.iterdir()] == [".MP4"]


def test_recording_in_the_trash_is_stopped_and_fetched_when_restored(camera: Camera, driver: Driver) -> None:
    store = Recordings(driver.output)
    names = [store.create(utc_ns, "camera").id for utc_ns in (0, 10**9)]
    folders = [driver.folder(name) for name in names]
    driver.ask(StartCapture(folders[0], "camera"))
    time.sleep(0.7)
    driver.kill()
    store.update(names[0], state=INTERRUPTED)
    other = Driver(camera, driver.output)
    try:
        other.wait(lambda status: status.state == "recording")
        store.trash(names[0])
        other.ask(StartCapture(folders[1], "camera"))
        time.sleep(0.7)
        (second,) = other.ask(StopCapture())
        other.wait(lambda status: status.state == "idle" and (folders[1] / second).exists())
        store.restore(names[0])
        other.wait(lambda status: status.state == "idle" and [*folders[0].glob("*.MP4")] != [])
    finally:
        other.worker.stop()
    (first,) = (path.name for path in folders[0].iterdir())
    assert first < second


def test_recording_that_nobody_claims_is_soon_stopped_and_fetched(camera: Camera, driver: Driver) -> None:
    folder = driver.folder("2026-11-22_14-03-17")
    driver.ask(StartCapture(folder, "camera"))
    time.sleep(0.7)
    driver.kill()
    other = Driver(camera, driver.output)
    try:
        other.wait(lambda status: status.state == "recording")
        other.wait(lambda status: status.state == "idle" and [path.suffix for path in folder.iterdir()] == [".MP4"])
    finally:
        other.worker.stop()
    with contextlib.closing(GoPro(camera.address)) as client:
        assert not client.state().encoding


def test_a_worker_says_that_nobody_answers_only_once_it_has_asked(tmp_path: Path) -> None:
    with make_camera() as camera:
        driver = Driver(camera, tmp_path)
        try:
            wait_for(lambda: driver.worker.status is not None)
            first = driver.worker.status
            assert (first.state in ("connecting", "idle"), first.problems) == (True, ())
        finally:
            driver.worker.stop()


def test_camera_that_vanishes_comes_back(tmp_path: Path) -> None:
    port = free_port()
    first = make_camera(http_port=port)
    first.start()
    driver = Driver(first, tmp_path)
    try:
        driver.wait(lambda status: status.state == "idle")
        folder = driver.folder("2026-11-22_14-03-16")
        driver.ask(StartCapture(folder, "video"))
        first.stop()
        driver.wait(lambda status: status.state == "lost" and bool(status.problems))
        with make_camera(http_port=port):
            driver.wait(lambda status: status.state == "streaming" and not status.problems)
            assert driver.ask(StopCapture())[-1] > "stream-001.ts"
    finally:
        driver.worker.stop()
        first.stop()


def test_another_camera_at_the_same_address_is_not_taken_for_the_first(tmp_path: Path) -> None:
    port = free_port()
    with make_camera(http_port=port) as first:
        driver = Driver(first, tmp_path)
        driver.wait(lambda status: status.state == "idle")
        driver.ask(StartCapture(driver.folder("2026-11-22_14-03-16"), "video"))
    try:
        driver.wait(lambda status: status.state == "lost", 20.0)
        with (
            make_camera(http_port=port, serial="C3531350013906") as other,
            contextlib.closing(GoPro(other.address)) as client,
        ):
            driver.wait(lambda status: any("another camera (C3531350013906)" in text for text in status.problems), 20.0)
            assert driver.worker.status.state == "lost"
            assert client.webcam_status() in (None, 0, 1)  # off or idle
        with make_camera(http_port=port):
            driver.wait(lambda status: status.state == "streaming" and not status.problems, 20.0)
    finally:
        driver.worker.stop()
