"""Each fault of a virtual GoPro does what users saw, from when it is switched on until it is switched off or healed."""

import http.client
import itertools
import json
import random
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from simulator import camera_control, measure
from simulator.camera import Camera
from simulator.camera_faults import FAULTS, FaultError, Faults, parse
from simulator.hero.stream import overtake
from tests.gopros import Client, await_connection, catch, pid, running, split

VIDEO_1 = "100GOPRO/GX010001.MP4"
GUIDE = Path(__file__).parents[1] / "docs/simulator.md"


@pytest.fixture
def camera() -> Iterator[Camera]:
    with running(size=180) as camera:
        yield camera


@pytest.fixture
def get(camera: Camera) -> Client:
    return Client(camera)


def wait_gone(get: Client) -> None:
    await_connection(get, is_there=False)


def heal(camera: Camera, get: Client) -> None:
    camera.cycle_power(1.0)
    wait_gone(get)
    await_connection(get, is_there=True)


# --- how they are switched


def test_unknown_faults_are_refused_in_one_line() -> None:
    with pytest.raises(FaultError, match="unknown fault 'gremlin'; the camera knows log_line"):
        parse("gremlin")
    with pytest.raises(FaultError, match="udp_loss has the value 'much'"):
        parse("udp_loss=much")
    with pytest.raises(FaultError, match=r"udp_loss has the value '2'.*share"):
        parse("udp_loss=2")
    with pytest.raises(FaultError):
        Faults({})["gremlin"] = 1.0
    assert parse("udp_loss") == ("udp_loss", FAULTS["udp_loss"][0])


def test_faults_that_happen_so_many_times_are_off_after_them() -> None:
    faults = Faults({"webcam_error_once": 2})
    assert [faults.take("webcam_error_once") for _ in range(3)] == [True, True, False]
    assert not faults


def test_faults_and_power_have_an_interface_of_their_own(camera: Camera, get: Client) -> None:
    with closing(camera_control.serve(camera, "127.0.0.1", 0)) as server:
        server.start()

        def ask(method: str, path: str) -> tuple[int, object]:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            with closing(connection):
                connection.request(method, path)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())

        assert ask("PUT", "/faults/udp_loss?value=0.25") == (200, {})
        assert camera.faults == {"udp_loss": 0.25}
        status, told = ask("GET", "/faults")
        assert isinstance(told, dict)
        assert (status, told["on"], set(told["known"])) == (200, {"udp_loss": 0.25}, set(FAULTS))
        assert ask("PUT", "/faults/gremlin")[0] == 400
        assert ask("POST", "/faults/udp_loss")[0] == 405
        assert ask("DELETE", "/faults/udp_loss") == (200, {})
        assert not camera.faults
        assert ask("GET", "/elsewhere")[0] == 404
        for encoding in (1, 0):
            assert ask("POST", "/shutter") == (200, {})
            get.wait(10, encoding)
        assert ask("POST", "/unplug?for_s=1") == (200, {})
        wait_gone(get)
        await_connection(get, is_there=True)
        assert ask("POST", "/power?off_s=1") == (200, {})
        wait_gone(get)
        await_connection(get, is_there=True)


def test_the_guide_explains_each_fault() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert [name for name in FAULTS if f"`{name}`" not in guide] == []


def test_a_pulled_cable_ends_streams_but_no_recording(camera: Camera, get: Client) -> None:
    get("/gopro/webcam/start?port=9")
    camera.unplug(1.0)
    wait_gone(get)
    await_connection(get, is_there=True)
    assert get("/gopro/webcam/status").json == {"status": 0, "error": 0}
    get("/gopro/camera/shutter/start")
    get.wait(10, 1)
    camera.unplug(1.0)
    wait_gone(get)
    await_connection(get, is_there=True)
    assert get.status(10) == 1


# --- one by one, in the order of the table


def test_a_log_line_comes_before_the_status_line_once(camera: Camera) -> None:
    camera.faults["log_line_before_status"] = 1
    answers = []
    for _ in range(2):
        host, port = camera.address.split(":")
        with socket.create_connection((host, int(port))) as tcp, tcp.makefile("rb") as answer:
            tcp.sendall(b"GET /gopro/version HTTP/1.1\r\nConnection: close\r\n\r\n")
            answers.append(answer.read())
    assert answers[0].startswith(b"gpHttpServer: ")
    assert b"@civetweb.c" in answers[0].splitlines()[0]
    assert answers[0].split(b"\r\n", 1)[1] == answers[1]


def test_the_first_start_of_the_webcam_fails(camera: Camera, get: Client) -> None:
    camera.faults["webcam_error_once"] = 1
    assert [get("/gopro/webcam/start?port=9").json for _ in range(2)] == [
        {"status": 0, "error": 1},
        {"status": 2, "error": 0},
    ]


def test_the_webcam_is_unavailable_while_usb_control_is_on(camera: Camera, get: Client) -> None:
    camera.faults["webcam_unavailable"] = 1
    get("/gopro/camera/control/wired_usb?p=1")
    assert get("/gopro/webcam/start?port=9").json == {"status": 4, "error": 7}
    assert get("/gopro/webcam/status").json == {"status": 4, "error": 7}
    get("/gopro/camera/control/wired_usb?p=0")
    assert get("/gopro/webcam/start?port=9").json == {"status": 2, "error": 0}
    camera.faults["webcam_unavailable"] = 2
    assert get("/gopro/webcam/start?port=9").json == {"status": 4, "error": 7}


def test_the_webcam_answers_500(camera: Camera, get: Client) -> None:
    camera.faults["webcam_500"] = 1
    assert [get(f"/gopro/webcam/{what}").status for what in ("start", "preview", "exit")] == [500] * 3
    assert get("/gopro/webcam/status").status == 200


def test_the_preview_conflicts_until_a_reboot(camera: Camera, get: Client) -> None:
    camera.faults["preview_409"] = 1
    assert [get(f"/gopro/camera/stream/{what}").status for what in ("start", "stop", "start")] == [409] * 3
    heal(camera, get)
    assert get("/gopro/camera/stream/start?port=9").status == 200


def test_a_preview_that_a_recording_killed_seems_to_go_on(camera: Camera, get: Client) -> None:
    camera.faults["preview_stuck"] = 1
    get("/gopro/camera/stream/start?port=9")
    get.record(0.3)
    assert get.status(32) == 1
    assert camera._device.preview.streamer is None
    assert get("/gopro/camera/stream/start").status == 409
    assert get("/gopro/camera/stream/stop").status == 200
    assert get.status(32) == 0
    assert get("/gopro/camera/stream/start?port=9").status == 200


def test_media_list_404_and_counts_that_stand_still(camera: Camera, get: Client) -> None:
    get.record(0.3)
    assert get.status(39) == 1
    camera.faults["media_list_404"] = 1
    get.record(0.3)
    assert (get("/gopro/media/list").status, get.status(39)) == (404, 1)
    heal(camera, get)
    assert (len(get.files()), get.status(39)) == (2, 2)


def test_media_info_tells_large_sizes_modulo_4_gib(camera: Camera, get: Client) -> None:
    size = 4_300_000_000
    camera.faults["large_files_bytes"] = size
    get.record(0.3)
    assert get.files()[0]["s"] == str(size)
    assert get(f"/videos/DCIM/{VIDEO_1}", method="HEAD").headers["content-length"] == str(size)
    assert get(f"/gopro/media/info?path={VIDEO_1}").json["s"] == str(size - 2**32)
    tail = get(f"/videos/DCIM/{VIDEO_1}", Range=f"bytes={size - 10}-")
    assert (tail.status, tail.body) == (206, bytes(10))


def test_media_info_knows_first_chapters_only() -> None:
    with running(chapter_bytes=20_000, faults={"chapter_info_404": 1}) as camera:
        get = Client(camera)
        get.record(1.2)
        names = [item["n"] for item in get.files()]
        statuses = [get(f"/gopro/media/info?path=100GOPRO/{name}").status for name in names]
    assert len(names) >= 2
    assert statuses == [200] + [404] * (len(names) - 1)


def test_a_download_is_cut_slowed_and_stalled(camera: Camera, get: Client) -> None:
    camera.faults["large_files_bytes"] = 300_000
    get.record(0.3)
    whole = get(f"/videos/DCIM/{VIDEO_1}").body
    camera.faults["download_cut_bytes"] = 1000
    with pytest.raises(http.client.IncompleteRead) as cut:
        get(f"/videos/DCIM/{VIDEO_1}", Range="bytes=500-")
    assert cut.value.partial == whole[500:1500]
    del camera.faults["download_cut_bytes"]
    for name, value, least_s in (("download_mb_per_s", 0.5, len(whole) / 0.5e6), ("download_stall_s", 0.6, 0.6)):
        camera.faults[name] = value
        began = time.monotonic()
        assert get(f"/videos/DCIM/{VIDEO_1}").body == whole
        assert time.monotonic() - began > 0.8 * least_s
        del camera.faults[name]


def test_a_camera_without_battery_goes_off_at_wired_control(camera: Camera, get: Client) -> None:
    camera.faults["no_battery"] = 1
    assert [get.status(number) for number in (1, 2, 70)] == [0, 0, 0]
    assert get("/gopro/camera/control/wired_usb?p=1").status == 200
    wait_gone(get)


def test_a_recording_ends_by_itself(camera: Camera, get: Client) -> None:
    camera.faults["recording_stops_s"] = 0.5
    get("/gopro/camera/shutter/start")
    get.wait(10, 1)
    get.wait(10, 0)
    get.wait(8, 0)
    assert len(get.files()) == 1


def test_usb_vanishes_when_a_recording_begins_and_the_recording_goes_on(camera: Camera, get: Client) -> None:
    camera.faults["usb_vanishes_s"] = 1.5
    assert get("/gopro/camera/shutter/start").status == 200
    wait_gone(get)
    await_connection(get, is_there=True)
    assert get.status(10) == 1
    get("/gopro/camera/shutter/stop")
    get.wait(10, 0)
    get.wait(8, 0)
    assert len(get.files()) == 1


def test_a_camera_sleeps_without_keep_alive_even_while_it_records(camera: Camera, get: Client) -> None:
    camera.faults["sleeps_s"] = 2.5
    get("/gopro/camera/keep_alive")
    get("/gopro/camera/shutter/start")
    for _ in range(4):
        time.sleep(0.8)
        get("/gopro/camera/keep_alive")
    wait_gone(get)
    del camera.faults["sleeps_s"]
    heal(camera, get)
    assert len(get.files()) == 1


def test_an_overheated_camera_ends_its_work_and_then_goes_off(camera: Camera, get: Client) -> None:
    get("/gopro/webcam/start?port=9")
    camera.faults["overheating"] = 3
    assert (get.status(6), get("/gopro/webcam/status").json["status"]) == (1, 2)
    deadline = time.monotonic() + 10
    while get("/gopro/webcam/status").json["status"] == 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    wait_gone(get)
    heal(camera, get)
    assert get.status(6) == 0


def test_a_full_card_ends_the_recording_and_allows_no_other(camera: Camera, get: Client) -> None:
    get("/gopro/camera/shutter/start")
    get.wait(10, 1)
    time.sleep(0.4)
    camera.faults["card_status"] = 1
    get.wait(10, 0)
    get.wait(8, 0)
    assert (get.status(33), get("/gopro/camera/shutter/start").status) == (1, 500)
    assert len(get.files()) == 1


def test_a_card_that_was_taken_out_has_no_media(camera: Camera, get: Client) -> None:
    get.record(0.3)
    camera.faults["card_status"] = 2
    assert (get("/gopro/media/list").status, get(f"/videos/DCIM/{VIDEO_1}").status) == (404, 404)
    del camera.faults["card_status"]
    assert len(get.files()) == 1


def test_a_slow_card_counts_its_errors(camera: Camera, get: Client) -> None:
    camera.faults["card_errors"] = 3
    assert (get.status(111), get.status(112)) == (1, 3)


def test_a_stale_idle_webcam_needs_one_start_and_stop(camera: Camera, get: Client) -> None:
    camera.faults["stale_idle"] = 1
    assert get("/gopro/webcam/status").json == {"status": 1, "error": 0}
    assert get("/gopro/webcam/start?port=9").json == {"status": 2, "error": 0}
    time.sleep(0.7)
    assert camera.counts.sent == 0
    get("/gopro/webcam/stop")
    assert catch(camera, "/gopro/webcam/start?", 0.1).datagrams


def test_the_clock_is_wrong_by_an_offset_and_a_drift(camera: Camera, get: Client) -> None:
    get("/gopro/camera/set_date_time?date=2026_7_1&time=12_0_0")
    camera.faults["clock_offset_s"] = -3600
    assert get("/gopro/camera/get_date_time").json["time"].startswith("11_00_0")
    del camera.faults["clock_offset_s"]
    camera.faults["clock_drift_ppm"] = 50e6
    time.sleep(0.5)
    assert get("/gopro/camera/get_date_time").json["time"] > "12_00_20"


def test_somebody_sets_50_hz(camera: Camera, get: Client) -> None:
    camera.faults["anti_flicker_50_hz"] = 1
    stamps = [stamp for stamp, _, _ in catch(camera, "/gopro/webcam/start?", 1.0).pictures()]
    assert smallest_step(stamps) == 3600
    assert get("/gopro/camera/setting?setting=134").json == {"option": 3}
    get("/gopro/webcam/exit")
    get("/gopro/camera/setting?setting=134&option=2")
    assert get("/gopro/camera/setting?setting=134").json == {"option": 2}


def smallest_step(stamps: list[int]) -> int:
    """Of pictures that follow each other; a busy machine leaves some out."""
    steps = [after - before for before, after in itertools.pairwise(stamps)]
    assert {step % min(steps) for step in steps} == {0}
    return min(steps)


def continuity_gaps(data: bytes) -> int:
    counters = [packet[3] & 15 for packet in split(data) if pid(packet) == 0x1011 and packet[3] & 0x10]
    return sum((after - before) % 16 != 1 for before, after in itertools.pairwise(counters))


def test_datagrams_are_lost(camera: Camera) -> None:
    camera.faults["udp_loss"] = 0.2
    caught = catch(camera, "/gopro/webcam/start?", 1.0)
    assert continuity_gaps(caught.data) > 0
    assert [len(datagram) for datagram in caught.datagrams] == [1316] * len(caught.datagrams)


def test_datagrams_are_overtaken() -> None:
    with running(faults={"udp_reordering": 0.5}) as camera:
        caught = catch(camera, "/gopro/webcam/start?", 1.0)
    assert continuity_gaps(caught.data) > 0
    assert overtake([b"0", b"1", b"2", b"3", b"4"], 1.0, random.Random(1)) == [b"1", b"0", b"3", b"2", b"4"]
    stamps = [stamp for stamp, _, _ in caught.pictures()]
    assert smallest_step(stamps) == 3003  # only datagrams within a picture change places


def test_datagrams_have_a_prefix(camera: Camera) -> None:
    camera.faults["udp_prefix_bytes"] = 12
    datagrams = catch(camera, "/gopro/webcam/start?", 0.2).datagrams
    assert {(len(datagram), datagram[:13]) for datagram in datagrams} == {(1328, bytes(12) + b"\x47")}


def test_datagrams_come_before_the_answer(camera: Camera, get: Client) -> None:
    camera.faults["udp_early_s"] = 3.0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        udp.setblocking(False)
        assert get(f"/gopro/webcam/start?port={udp.getsockname()[1]}").status == 200
        assert len(udp.recv(2000)) == 1316


@pytest.mark.parametrize("fault", ["earthquake", "udp_loss=much"])
def test_a_measurement_says_itself_that_there_is_no_such_fault(fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        measure.main(["--camera-fault", fault, "delay"])
    assert ended.value.code == 2
    assert f"fault {fault.partition('=')[0]}" in capsys.readouterr().err.replace("'", "").splitlines()[-1]
