"""What a virtual GoPro writes on its card: the files of each model, as other programs read them."""

import json
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.camera import Camera
from simulator.hero import models
from simulator.hero.media import Card, Names
from tests.gopros import SERIAL, Client, catch, listening, open_video, receive, running

HEIGHT = 360
BLACKS = [name for name in models.names() if not name.endswith("Mini")]
GPS = {"HERO9 Black": {"GPS5"}, "HERO10 Black": {"GPS5"}, "HERO11 Black": {"GPS5", "GPS9"}, "HERO13 Black": {"GPS9"}}


def choose(get: Client, preset: int) -> None:
    assert get(f"/gopro/camera/presets/load?id={preset}").status == 200
    get.wait(8, 0)


def download(get: Client, name: str) -> bytes:
    reply = get(f"/videos/DCIM/100GOPRO/{name}")
    assert reply.status == 200, name
    return reply.body


@pytest.fixture(scope="module", params=BLACKS)
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[Camera, str, str]]:
    """A camera with a video and a photo, whose names follow."""
    firmware = "01.22.00" if request.param == "HERO9 Black" else None
    with running(model=request.param, firmware=firmware) as camera:
        get = Client(camera)
        get.record(1.5)
        choose(get, 65536)
        get("/gopro/camera/shutter/start")
        get.wait(10, 0)
        get.wait(8, 0)
        video, photo = (item["n"] for item in get.files())
        yield camera, video, photo


def test_files_are_named_by_codec(filled: tuple[Camera, str, str]) -> None:
    camera, video, photo = filled
    old = camera.model in ("HERO9 Black", "HERO10 Black")
    assert (video, photo) == ("GH010001.MP4" if old else "GX010001.MP4", "GOPR0002.JPG")


def test_a_video_has_a_film_sound_timecode_and_telemetry(filled: tuple[Camera, str, str]) -> None:
    camera, video, _ = filled
    data = download(Client(camera), video)
    with open_video(data) as container:
        kinds = [stream.type for stream in container.streams]
        assert kinds[:2] == ["video", "audio"]
        assert [stream.metadata["handler_name"].strip("\x0b ") for stream in container.streams] == [
            "GoPro AVC",
            "GoPro AAC",
            "GoPro TCD",
            "GoPro MET",
        ]
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.rate, sound.layout.name) == ("aac", 48_000, "stereo")
        packets = [packet for packet in container.demux(sound) if packet.pts is not None]
        assert packets[0].pts == 0
        film = container.streams.video[0]
        assert film.duration is not None
        assert film.time_base is not None
        assert len(packets) * 1024 / 48_000 == pytest.approx(float(film.duration * film.time_base), abs=0.05)
    gps = {key for key, start in (("GPS5", b"GPS5l"), ("GPS9", b"GPS9?")) if start in data}
    assert gps == GPS.get(camera.model, set())
    assert all(key in data for key in (b"SHUTf", b"GYROs", b"ACCLs", b"STMPJ"))


def test_hidden_files_come_with_a_video(filled: tuple[Camera, str, str]) -> None:
    camera, video, _ = filled
    get = Client(camera)
    small = download(get, f"GL{video[2:-4]}.LRV")
    item = get.files()[0]
    assert (item["glrv"], item["ls"]) == (str(len(small)), "-1")
    with open_video(small) as container, open_video(download(get, video)) as whole:
        assert container.streams.video[0].height == HEIGHT // 4 // 2 * 2
        assert container.streams.video[0].frames == whole.streams.video[0].frames
    assert download(get, f"{video[:-4]}.THM") == get(f"/gopro/media/thumbnail?path=100GOPRO/{video}").body


def test_gpmf_is_told_of_videos_and_photos(filled: tuple[Camera, str, str]) -> None:
    camera, video, photo = filled
    get = Client(camera)
    for name in (video, photo):
        gpmf = get(f"/gopro/media/gpmf?path=100GOPRO/{name}").body
        assert gpmf.startswith(b"DEVC\0")
        assert gpmf in download(get, name)
    assert get("/gopro/media/telemetry?path=100GOPRO/NONE.MP4").status == 404


def exiftool(data: bytes, folder: Path, name: str) -> dict[str, Any]:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool (libimage-exiftool-perl) is not installed")
    path = folder / name
    path.write_bytes(data)
    done = subprocess.run(
        ["exiftool", "-json", "-all", "-validate", "-n", "-ee", "-a", "-G1", path],
        capture_output=True,
        check=True,
        timeout=60,
    )
    told: dict[str, Any] = json.loads(done.stdout)[0]
    return told


def test_exiftool_reads_a_video_as_a_gopros(filled: tuple[Camera, str, str], tmp_path: Path) -> None:
    camera, video, _ = filled
    told = exiftool(download(Client(camera), video), tmp_path, video)
    known = models.load(camera.model, "01.22.00" if camera.model == "HERO9 Black" else None)
    assert told["GoPro:Model"] == camera.model.replace("HERO", "Hero")
    assert (told["GoPro:CameraSerialNumber"], told["GoPro:FirmwareVersion"]) == (SERIAL, known.firmware)
    assert told["UserData:FirmwareVersion"] == known.firmware
    assert told["GoPro:SensorReadoutTime"] == 15
    assert float(told["Track4:ExposureTimes"].split()[0]) == pytest.approx(0.008)
    assert ("Track4:GPSLatitude" in told) == ("GPS5" in GPS.get(camera.model, ()))  # GPS9 is too new for Debian's


def test_exiftool_reads_a_photo_as_a_gopros(filled: tuple[Camera, str, str], tmp_path: Path) -> None:
    camera, _, photo = filled
    told = exiftool(download(Client(camera), photo), tmp_path, photo)
    assert told["ExifTool:Validate"] == "0 0 0"
    assert (told["IFD0:Make"], told["IFD0:Model"]) == ("GoPro", camera.model)
    assert told["IFD0:ImageDescription"] == f"DCIM\\100GOPRO\\{photo}"
    assert told["GoPro:CameraSerialNumber"] == SERIAL
    assert ("GPS:GPSLatitude" in told) == (camera.model in GPS)
    fraction = str(told["ExifIFD:SubSecTimeOriginal"])
    assert 0 <= int(fraction) < 1000
    assert fraction == str(int(fraction))  # without leading zeros, as GoPro writes it


def test_a_series_of_photos_is_one_item_of_the_list() -> None:
    with running(size=180) as camera:
        get = Client(camera)
        choose(get, 131073)
        assert get.status(89) == 20
        get.record(1.9)
        item: dict[str, Any] = {**get.files()[0]}
        assert len(get.files()) == 1
        first, last = int(item["b"]), int(item["l"])
        assert (item["n"], item["g"], item["t"], item["m"]) == ("G0010001.JPG", "1", "t", [])
        assert 3 <= last == int(item["s"])  # one each half second
        assert get("/gopro/media/delete/file?path=100GOPRO/G0010002.JPG").status == 200
        item = {**get.files()[0]}
        assert item["m"] == ["2"]
        assert get("/gopro/media/last_captured").json == {"folder": "100GOPRO", "file": "G0010001.JPG"}
        names = [f"G001{number:04d}.JPG" for number in range(first, last + 1) if number != 2]
        assert all(download(get, name).startswith(b"\xff\xd8\xff") for name in names)
        assert get("/gp/gpControl/command/storage/delete/group?p=100GOPRO/G0010001.JPG").status == 200
        assert get.files() == []


def test_a_time_lapse_is_a_film_of_few_pictures() -> None:
    with running(size=180) as camera:
        get = Client(camera)
        choose(get, 131072)
        assert get.status(89) == 13
        get.record(1.9)
        (item,) = get.files()
        assert get(f"/gopro/media/info?path=100GOPRO/{item['n']}").json["ct"] == "3"
        with open_video(download(get, item["n"])) as film:
            assert 3 <= film.streams.video[0].frames < 20
            assert film.streams.video[0].average_rate == pytest.approx(29.97, abs=0.01)


def test_a_film_may_be_hevc() -> None:
    with running(size=180, hevc=True) as camera:
        get = Client(camera)
        get.record(0.6)
        with open_video(download(get, "GX010001.MP4")) as film:
            assert film.streams.video[0].codec_context.name == "hevc"
            assert film.streams.video[0].codec_context.codec_tag == "hvc1"
            assert len(list(film.decode(video=0))) == film.streams.video[0].frames > 3


@pytest.mark.parametrize(
    ("model", "codec", "height"),
    [("HERO12 Black", "h264", 720), ("HERO13 Black", "hevc", 720)],
)
def test_the_preview_has_the_codec_of_the_model(model: str, codec: str, height: int) -> None:
    with running(model=model, size=720) as camera:
        data = catch(camera, "/gopro/camera/stream/start?", 1.0).data
    with open_video(data) as stream:
        context = stream.streams.video[0].codec_context
        assert (context.name, context.height) == (codec, height)
        assert next(stream.decode(video=0)).height == height


def test_the_webcam_of_a_hero10_has_sound_beside_the_film() -> None:
    with listening() as udp, running(model="HERO10 Black", size=180, udp_port=udp.getsockname()[1]) as camera:
        assert Client(camera)("/gopro/webcam/start?port=9").status == 200  # it knows no other port than its own
        data = receive(udp, 1.5).data
    with open_video(data) as stream:
        assert [found.type for found in stream.streams] == ["video", "audio"]
        assert stream.streams.audio[0].rate == 48_000


def test_directories_hold_999_files() -> None:
    card = Card(random.Random(1))
    names = [card.next_photo() for _ in range(1000)]
    assert names[998] == Names("100GOPRO", "GOPR0999.JPG")
    assert names[999] == Names("101GOPRO", "GOPR1000.JPG")


def test_numbers_begin_again_after_9999() -> None:
    card = Card(random.Random(1))
    assert [card.next_photo().file for _ in range(10_000)][-2:] == ["GOPR9999.JPG", "GOPR0001.JPG"]
