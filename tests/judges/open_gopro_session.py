"""A session of GoPro's own SDK with one camera, in the SDK's own Python; what it found is printed as JSON.

PYTHON open_gopro_session.py HOST:PORT FOLDER [shutter]      a session
PYTHON open_gopro_session.py HOST:PORT demo video|photo ARGUMENTS...      one of the SDK's own programs
"""

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from open_gopro import WiredGoPro
from open_gopro.models import constants, proto, streaming
from open_gopro.models.constants import settings


def point_to(address: str) -> None:
    """The SDK makes a camera's address of its serial number, and has no option for another."""
    host, port = address.split(":")
    WiredGoPro._BASE_IP = host
    WiredGoPro._BASE_ENDPOINT = f"http://{{ip}}:{port}/"


async def tour(folder: Path, has_shutter: bool) -> dict[str, Any]:
    """Do all that edenCar does with a camera, the SDK's way."""
    found: dict[str, Any] = {}
    async with WiredGoPro("000", poll_period=0.1) as gopro:
        http = gopro.http_command
        state = (await http.get_camera_state()).data
        found["statuses"] = {int(key): value for key, value in state.items() if isinstance(key, constants.StatusId)}
        found["settings"] = sum(isinstance(key, constants.SettingId) for key in state)
        found["version"] = (await http.get_open_gopro_api_version()).data
        found["keep_alive"] = (await http.set_keep_alive()).ok
        found["presets"] = len((await http.get_preset_status()).data["presetGroupArray"])
        found["auto_power_down"] = (await gopro.http_setting.auto_power_down.set(settings.AutoPowerDown.NEVER)).ok
        found["anti_flicker"] = await change_anti_flicker(gopro)
        if has_shutter:
            found["date"] = (await http.set_date_time(date_time=datetime(2026, 1, 5, 3, 4, 5))).ok  # noqa: DTZ001
            await record(gopro)
            await take_photo(gopro)
        found["media"] = await media(gopro, folder)
        found["webcam"] = await webcam(gopro)
        found["preview"] = [
            (await http.set_preview_stream(mode=mode)).ok
            for mode in (constants.Toggle.ENABLE, constants.Toggle.DISABLE)
        ]
    return found


async def change_anti_flicker(gopro: WiredGoPro) -> list[int]:
    """To 50 Hz and back; what the camera told after each."""
    told = []
    is_hero13 = int((await gopro.http_command.get_camera_state()).data[constants.SettingId.ANTI_FLICKER]) < 2
    modes = settings.Anti_Flicker
    for option in (modes.PAL, modes.NTSC) if is_hero13 else (modes.NUM_50HZ, modes.NUM_60HZ):
        await gopro.http_setting.anti_flicker.set(option)
        state = (await gopro.http_command.get_camera_state()).data
        told.append(int(state[constants.SettingId.ANTI_FLICKER]))
    return told


async def record(gopro: WiredGoPro) -> None:
    """A video of a second."""
    http = gopro.http_command
    assert (await http.load_preset_group(group=proto.EnumPresetGroup.PRESET_GROUP_ID_VIDEO)).ok
    assert (await http.set_shutter(shutter=constants.Toggle.ENABLE)).ok
    await asyncio.sleep(1)
    assert (await http.set_shutter(shutter=constants.Toggle.DISABLE)).ok


async def take_photo(gopro: WiredGoPro) -> None:
    """One photo."""
    http = gopro.http_command
    assert (await http.load_preset_group(group=proto.EnumPresetGroup.PRESET_GROUP_ID_PHOTO)).ok
    assert (await http.set_shutter(shutter=constants.Toggle.ENABLE)).ok


async def media(gopro: WiredGoPro, folder: Path) -> dict[str, Any]:
    """List, look at, download and delete all files."""
    http = gopro.http_command
    files = (await http.get_media_list()).data.files
    found: dict[str, Any] = {}
    for file in files:
        data = (await http.get_media_metadata(path=file.filename)).data
        target = folder / Path(file.filename).name
        await http.download_file(camera_file=file.filename, local_file=target)
        await http.get_thumbnail(camera_file=file.filename, local_file=target.with_suffix(".thumb.jpg"))
        await http.get_gpmf_data(camera_file=file.filename, local_file=target.with_suffix(".gpmf"))
        await http.get_telemetry(camera_file=file.filename, local_file=target.with_suffix(".telemetry"))
        if target.suffix == ".JPG":
            await http.get_screennail(camera_file=file.filename, local_file=target.with_suffix(".screen.jpg"))
        found[target.name] = {"type": type(data).__name__, "bytes": int(data.file_size), "width": int(data.width)}
        assert (await http.delete_file(path=file.filename)).ok
    found["left"] = len((await http.get_media_list()).data.files)
    return found


async def webcam(gopro: WiredGoPro) -> list[list[int]]:
    """Start, preview, stop and leave; status and error of each."""
    http = gopro.http_command
    answers = [
        await http.webcam_start(resolution=streaming.WebcamResolution.RES_1080, fov=streaming.WebcamFOV.WIDE),
        await http.webcam_status(),
        await http.webcam_preview(),
        await http.webcam_stop(),
        await http.webcam_exit(),
    ]
    return [[int(answer.data.status), int(answer.data.error)] for answer in answers]


def main(arguments: list[str]) -> None:
    """See above."""
    point_to(arguments[0])
    if arguments[1] != "demo":
        print(json.dumps(asyncio.run(tour(Path(arguments[1]), "shutter" in arguments[2:]))))
        return
    from open_gopro.demos import photo, video

    sys.argv = arguments[2:]
    {"video": video, "photo": photo}[arguments[2]].entrypoint()


if __name__ == "__main__":
    main(sys.argv[1:])
