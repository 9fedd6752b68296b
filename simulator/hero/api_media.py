"""The HTTP interface of a GoPro: the files on its card."""

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType

from simulator.hero.device import Device
from simulator.hero.httpd import BYTES_TYPE, Answer, Pace, Request, answer_json
from simulator.hero.media import Card, MediaFile

DOWNLOADS = "/videos/DCIM/"
MAX_HILIGHTS = 99
UNREADABLE_CARD = (2, 3)  # status 33: removed, format error

Route = Callable[[Device, Request], Answer]


def download(device: Device, request: Request) -> Answer:
    """`/videos/DCIM/<path>`: the bytes of a file, once it is closed."""
    if request.method not in ("GET", "HEAD"):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED)
    where = device.card.locate(request.path.removeprefix(DOWNLOADS))
    if where is None or device.faults.get("card_status", 0) in UNREADABLE_CARD:
        return Answer(HTTPStatus.NOT_FOUND)
    faults = device.faults
    pace = Pace(
        cut_after_bytes=faults.get("download_cut_bytes", math.inf),
        bytes_per_s=faults.get("download_mb_per_s", math.inf) * 1e6,
        stall_s=faults.get("download_stall_s", 0.0),
    )
    return Answer(file=where, pace=pace)


def _list(device: Device, request: Request) -> Answer:
    if "media_list_404" in device.faults or device.faults.get("card_status", 0) in UNREADABLE_CARD:
        return Answer(HTTPStatus.NOT_FOUND)
    return answer_json(device.card.listing())


def _info(device: Device, request: Request) -> Answer:
    file = _asked(device, request)
    if file is None or (file.chapter > 1 and "chapter_info_404" in device.faults):
        return Answer(HTTPStatus.NOT_FOUND)
    return answer_json(device.card.info(file))


def _last_captured(device: Device, request: Request) -> Answer:
    last = device.card.last_captured()
    return Answer(HTTPStatus.NO_CONTENT) if last is None else answer_json(last)


def _bytes_of(content: Callable[[Card, MediaFile], bytes | None]) -> Route:
    def answer(device: Device, request: Request) -> Answer:
        file = _asked(device, request)
        data = None if file is None else content(device.card, file)
        return Answer(HTTPStatus.NOT_FOUND) if data is None else Answer(body=data, kind=BYTES_TYPE)

    return answer


def _delete_file(device: Device, request: Request) -> Answer:
    file = _asked(device, request)
    return _delete(device, [] if file is None else [file])


def _delete_group(device: Device, request: Request) -> Answer:
    file = device.card.find(request.query.get("p", ""))
    group = [] if file is None else device.card.companions(file)
    return _delete(device, group if file in group[:1] else [])  # it must be the first of its group


def _delete_all(device: Device, request: Request) -> Answer:
    device.card.delete(device.card.files())
    return Answer()


def _delete(device: Device, files: list[MediaFile]) -> Answer:
    device.card.delete(files)
    return Answer(HTTPStatus.OK if files else HTTPStatus.BAD_REQUEST)


def _mark_moment(device: Device, request: Request) -> Answer:
    if device.video is None:
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
    device.video.mark()
    return Answer()


def _mark_file(device: Device, request: Request) -> Answer:
    file, moment = _asked(device, request), _moment_ms(request)
    if file is None or moment not in file.moments_ms or len(file.hilights_ms) >= MAX_HILIGHTS:
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
    file.hilights_ms.append(moment)
    return Answer()


def _unmark_file(device: Device, request: Request) -> Answer:
    file, moment = _asked(device, request), _moment_ms(request)
    if file is None or moment not in file.hilights_ms:
        return Answer(HTTPStatus.INTERNAL_SERVER_ERROR)
    file.hilights_ms.remove(moment)
    return Answer()


def _moment_ms(request: Request) -> int:
    return request.number("ms", 0)  # a photo has no other


def _turbo_transfer(device: Device, request: Request) -> Answer:
    on = request.number("p")
    if on not in (0, 1):
        return Answer(HTTPStatus.BAD_REQUEST)
    device.switches.turbo_transfer = on
    return Answer()


def _asked(device: Device, request: Request) -> MediaFile | None:
    return device.card.find(request.query.get("path", ""))


def _once_written(route: Route) -> Route:
    def refuse_while_writing(device: Device, request: Request) -> Answer:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE) if device.is_writing else route(device, request)

    return refuse_while_writing


MEDIA_ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        "/gopro/media/list": _once_written(_list),
        "/gopro/media/info": _once_written(_info),
        "/gopro/media/last_captured": _last_captured,
        "/gopro/media/thumbnail": _once_written(_bytes_of(Card.thumbnail)),
        "/gopro/media/screennail": _once_written(_bytes_of(Card.screennail)),
        "/gopro/media/gpmf": _once_written(_bytes_of(Card.gpmf)),
        "/gopro/media/telemetry": _once_written(_bytes_of(Card.gpmf)),
        "/gopro/media/delete/file": _once_written(_delete_file),
        "/gp/gpControl/command/storage/delete/group": _once_written(_delete_group),
        "/gp/gpControl/command/storage/delete/all": _once_written(_delete_all),
        "/gopro/media/hilight/moment": _mark_moment,
        "/gopro/media/hilight/file": _mark_file,
        "/gopro/media/hilight/remove": _unmark_file,
        "/gopro/media/turbo_transfer": _turbo_transfer,
    }
)
