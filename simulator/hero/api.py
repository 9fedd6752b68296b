"""The HTTP interface of a GoPro: control, state, settings and live pictures, path by path."""

import dataclasses
import time
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from itertools import groupby
from types import MappingProxyType

from simulator.hero import models
from simulator.hero.api_media import DOWNLOADS, MEDIA_ROUTES, Route, download
from simulator.hero.api_network import NETWORK_ROUTES
from simulator.hero.device import RESET, SLEEP, Device
from simulator.hero.httpd import Answer, Request, answer_json
from simulator.hero.models import Preset
from simulator.hero.rtc import as_datetime
from simulator.hero.settings import Refusal

API_VERSION = "2.0"
UI_CONTROLLERS = (0, 2)  # the others are set by the camera alone
WEBCAM_VERSION = {"version": 2, "max_lens_support": True, "usb_3_1_compatible": True}
ZONE_MIN = range(-12 * 60, 14 * 60 + 1)
SHUTTER, LEGACY_SHUTTER = "/gopro/camera/shutter/", "/gp/gpControl/command/shutter"
OLD_SETTING = "/gopro/camera/setting/"
SET_DATE_TIME = "/gopro/camera/set_date_time"
UPDATE_CUSTOM = "/gopro/camera/presets/update_custom"
METHODS = {UPDATE_CUSTOM: "PUT"} | dict.fromkeys(NETWORK_ROUTES, "POST")  # of a path; GET for all others
OF_LATER_CAMERAS = ("/gopro/camera/name", "/gopro/camera/presets/set_visibility")  # in the document, but of none here
LEGACY_RESOLUTIONS = {"1080": "12", "720": "7", "480": "4"}
MAX_QR_CODE = 400
CAPTIONS = (models.RESOLUTION, models.FRAMES_PER_SECOND, models.FRAME_RATE, models.VIDEO_LENS)
PRESETS_BY_GROUP = {group: list(some) for group, some in groupby(models.PRESETS, key=lambda preset: preset.group)}


def handle(device: Device, request: Request) -> Answer:
    """Answer a request. Commands are handled one at a time, downloads beside them."""
    if request.path.startswith(DOWNLOADS):
        answer = download(device, request)
    else:
        with device.lock:
            if device.faults.take("anti_flicker_50_hz"):
                device.settings.choose_50_hz()
            answer = _route(device, request)(device, request)
    return dataclasses.replace(answer, log_line=device.faults.take("log_line_before_status"))


def _route(device: Device, request: Request) -> Route:
    path, model = request.path, device.model
    is_shutter = path.startswith((SHUTTER, LEGACY_SHUTTER))
    if is_shutter and not model.has_shutter:
        return _always(HTTPStatus.INTERNAL_SERVER_ERROR)
    is_more_than_told = is_shutter or _sets_plain_date(request)  # the document's lists are not all
    if path.startswith(OF_LATER_CAMERAS) or (model.lacks_path(path) and not is_more_than_told):
        return _always(HTTPStatus.NOT_IMPLEMENTED)
    if path.startswith(OLD_SETTING):
        return _always(HTTPStatus.BAD_REQUEST)
    if path in ROUTES and request.method != METHODS.get(path, "GET"):
        return _always(HTTPStatus.METHOD_NOT_ALLOWED)
    return ROUTES.get(path, _always(HTTPStatus.NOT_FOUND))


def _always(status: HTTPStatus) -> Route:
    return lambda device, request: Answer(status)


def _sets_plain_date(request: Request) -> bool:
    """What the document leaves to HERO9 and 10, which it says know no zone, although it lists the path for neither."""
    return request.path == SET_DATE_TIME and request.query.keys() == {"date", "time"}


def _done(succeeded: bool, otherwise: HTTPStatus = HTTPStatus.INTERNAL_SERVER_ERROR) -> Answer:
    return Answer(HTTPStatus.OK if succeeded else otherwise)


def _version(device: Device, request: Request) -> Answer:
    return answer_json({"version": API_VERSION})


def _info(device: Device, request: Request) -> Answer:
    return answer_json(
        {
            "ap_mac_addr": "0641" + device.serial[-8:],
            "ap_ssid": "GP" + device.serial[-8:],
            "firmware_version": device.model.firmware,
            "model_name": device.model.name,
            "model_number": str(device.model.number),
            "serial_number": device.serial,
        }
    )


def _state(device: Device, request: Request) -> Answer:
    return answer_json({"status": device.statuses(), "settings": device.settings.all()})


def _setting(device: Device, request: Request) -> Answer:
    setting = request.number("setting")
    if setting is None:
        return Answer(HTTPStatus.BAD_REQUEST)
    if "option" not in request.query:
        present = device.settings.get(setting)
        return Answer(HTTPStatus.NOT_FOUND) if present is None else answer_json({"option": present})
    wanted = request.number("option")
    if wanted is None:
        return Answer(HTTPStatus.BAD_REQUEST)
    refusal = device.change_setting(setting, wanted)
    return Answer() if refusal is None else _refused(device, setting, wanted, refusal)


def _refused(device: Device, setting: int, option: int, refusal: Refusal) -> Answer:
    options = [{"display_name": text, "id": number} for number, text in refusal.options.items()]
    body = {
        "error": refusal.error,
        "setting_id": setting,
        "option_id": option,
        device.model.traits.refusal_lists: options,
    }
    return answer_json(body, HTTPStatus.FORBIDDEN)


def _keep_alive(device: Device, request: Request) -> Answer:
    device.keep_alive()
    return Answer()


def _wired_usb(device: Device, request: Request) -> Answer:
    on = request.number("p")
    if on not in (0, 1):
        return Answer(HTTPStatus.BAD_REQUEST)
    if on and "no_battery" in device.faults:
        device.absence = SLEEP  # github.com/gopro/labs/issues/1321
    changes, device.switches.wired_usb = device.switches.wired_usb != on, on
    return _done(changes)  # 500 when it is so already, as users' code expects


def _ui_controller(device: Device, request: Request) -> Answer:
    who = request.number("p")
    if who not in UI_CONTROLLERS:
        return Answer(HTTPStatus.BAD_REQUEST)
    device.switches.ui_controller = who
    return Answer()


def _zoom(device: Device, request: Request) -> Answer:
    percent = request.number("percent", -1)
    if percent not in range(101):
        return Answer(HTTPStatus.BAD_REQUEST)
    device.switches.zoom_percent = percent
    return Answer()


def _shutter_start(device: Device, request: Request) -> Answer:
    return _done(device.press_shutter())


def _shutter_stop(device: Device, request: Request) -> Answer:
    device.release_shutter()
    return Answer()


def _set_date_time(device: Device, request: Request) -> Answer:
    try:
        year, month, day = map(int, request.query["date"].split("_"))
        hour, minute, second = map(int, request.query["time"].split("_"))
        local = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001 (the camera's zone is apart)
    except (KeyError, ValueError):
        return Answer(HTTPStatus.BAD_REQUEST)
    zone, dst = request.number("tzone", 0), request.query.get("dst", "0")
    if zone not in ZONE_MIN or dst not in ("0", "1"):
        return Answer(HTTPStatus.BAD_REQUEST)
    device.rtc.set(local, zone, dst == "1", device.sensor.world.utc_ns())
    return Answer()


def _get_date_time(device: Device, request: Request) -> Answer:
    local = as_datetime(device.local_s())
    rtc = device.rtc
    return answer_json(
        {
            "date": local.strftime("%Y_%m_%d"),
            "time": local.strftime("%H_%M_%S"),
            "dst": int(rtc.is_dst),
            "tzone": rtc.zone_min,
        }
    )


def _presets(device: Device, request: Request) -> Answer:
    groups = [
        {
            "id": group,
            "presetArray": [_preset(device, preset) for preset in presets],
            "canAddPreset": False,
            "icon": index,
            "modeArray": [preset.flat_mode for preset in presets],
        }
        for index, (group, presets) in enumerate(PRESETS_BY_GROUP.items())
    ]
    return answer_json({"presetGroupArray": groups, "customIconIds": [], "customTitleIds": []})


def _preset(device: Device, preset: Preset) -> dict[str, object]:
    options = {number: device.settings.get(number) for number in CAPTIONS}
    return {
        "id": preset.number,
        "mode": preset.flat_mode,
        "titleId": preset.title,
        "titleNumber": 0,
        "userDefined": False,
        "icon": preset.icon,
        "settingArray": [{"id": n, "value": o, "isCaption": True} for n, o in options.items() if o is not None],
        "isModified": False,
        "isFixed": True,
    }


def _load_preset(device: Device, request: Request) -> Answer:
    return _done(device.choose_preset(request.number("id", -1)))


def _set_group(device: Device, request: Request) -> Answer:
    return _done(device.choose_group(request.number("id", -1)))


def _stream_start(device: Device, request: Request) -> Answer:
    free = not (device.is_writing or device.webcam.is_on)
    return _done(
        free and device.preview.start(request.number("port"), request.client, device.settings.webcam_rate),
        otherwise=HTTPStatus.CONFLICT,
    )


def _stream_stop(device: Device, request: Request) -> Answer:
    return _done(device.preview.stop(), otherwise=HTTPStatus.CONFLICT)


def _webcam_start(device: Device, request: Request) -> Answer:
    device.preview.stop()
    is_wired = bool(device.switches.wired_usb)
    device.webcam.start(request.query, request.client, device.settings.webcam_rate, device.is_writing, is_wired)
    time.sleep(device.faults.get("udp_early_s", 0.0))
    return _webcam_status(device, request)


def _webcam_preview(device: Device, request: Request) -> Answer:
    device.preview.stop()
    device.webcam.preview(request.client, device.settings.webcam_rate, device.is_writing)
    return _webcam_status(device, request)


def _webcam_stop(device: Device, request: Request) -> Answer:
    device.webcam.stop()
    return _webcam_status(device, request)


def _webcam_exit(device: Device, request: Request) -> Answer:
    device.webcam.exit()
    return _webcam_status(device, request)


def _webcam_status(device: Device, request: Request) -> Answer:
    return answer_json({"status": device.webcam.told_status, "error": device.webcam.error})


def _webcam_version(device: Device, request: Request) -> Answer:
    return answer_json(WEBCAM_VERSION)


def _unless(fault: str, status: HTTPStatus, route: Route) -> Route:
    return lambda device, request: Answer(status) if device.faults.get(fault) else route(device, request)


def _legacy_webcam_start(device: Device, request: Request) -> Answer:
    query = dict(request.query) | {"res": LEGACY_RESOLUTIONS.get(request.query.get("res", "1080"), "")}
    return _webcam_start(device, dataclasses.replace(request, query=query))


def _legacy_shutter(device: Device, request: Request) -> Answer:
    return (_shutter_start if request.number("p") == 1 else _shutter_stop)(device, request)


def _qr_code(device: Device, request: Request) -> Answer:
    if len(request.query.get("code", "")) not in range(1, MAX_QR_CODE + 1) or request.number("labs") != 1:
        return answer_json({"error": "Incorrect parameters for code request"}, HTTPStatus.BAD_REQUEST)
    return answer_json({"error": "Please install labs FW to use this interface"}, HTTPStatus.INTERNAL_SERVER_ERROR)


def _sleep(device: Device, request: Request) -> Answer:
    device.absence = SLEEP
    return Answer()


def _reset(device: Device, request: Request) -> Answer:
    device.absence = RESET
    return Answer()


ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        "/gopro/version": _version,
        "/gopro/camera/info": _info,
        "/gopro/camera/state": _state,
        "/gopro/camera/setting": _setting,
        "/gopro/camera/keep_alive": _keep_alive,
        "/gopro/camera/analytics/set_client_info": _always(HTTPStatus.OK),
        "/gopro/camera/control/wired_usb": _wired_usb,
        "/gopro/camera/control/set_ui_controller": _ui_controller,
        "/gopro/camera/digital_zoom": _zoom,
        f"{SHUTTER}start": _shutter_start,
        f"{SHUTTER}stop": _shutter_stop,
        SET_DATE_TIME: _set_date_time,
        "/gopro/camera/get_date_time": _get_date_time,
        "/gopro/camera/presets/get": _presets,
        "/gopro/camera/presets/load": _load_preset,
        "/gopro/camera/presets/set_group": _set_group,
        UPDATE_CUSTOM: _always(HTTPStatus.BAD_REQUEST),  # no preset of the camera is a custom one
        "/gopro/camera/stream/start": _unless("preview_409", HTTPStatus.CONFLICT, _stream_start),
        "/gopro/camera/stream/stop": _unless("preview_409", HTTPStatus.CONFLICT, _stream_stop),
        "/gopro/webcam/start": _unless("webcam_500", HTTPStatus.INTERNAL_SERVER_ERROR, _webcam_start),
        "/gopro/webcam/preview": _unless("webcam_500", HTTPStatus.INTERNAL_SERVER_ERROR, _webcam_preview),
        "/gopro/webcam/stop": _webcam_stop,
        "/gopro/webcam/exit": _unless("webcam_500", HTTPStatus.INTERNAL_SERVER_ERROR, _webcam_exit),
        "/gopro/webcam/status": _webcam_status,
        "/gopro/webcam/version": _webcam_version,
        "/gopro/qrcode": _qr_code,
        "/gp/gpWebcam/START": _legacy_webcam_start,
        "/gp/gpWebcam/STOP": _webcam_stop,
        "/gp/gpWebcam/SETTINGS": _webcam_status,
        LEGACY_SHUTTER: _legacy_shutter,
        "/gp/gpControl/command/system/sleep": _sleep,
        "/gp/gpControl/command/system/reset": _reset,
        **MEDIA_ROUTES,
        **NETWORK_ROUTES,
    }
)
