"""The HTTP interface of a GoPro: its own network (COHN) and its firmware. It answers; neither is really there."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

from simulator.hero.api_media import Route
from simulator.hero.device import Device
from simulator.hero.httpd import Answer, Request, answer_json

CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nc2ltdWxhdGVk\n-----END CERTIFICATE-----\n"
UNPROVISIONED, INIT = 0, 0  # of the document's EnumCOHNStatus and EnumCOHNNetworkState
OK, BAD_PARAMETERS = 0, 2  # of its OtaStatus
UPDATE_REQUESTS = ("delete", "showui", "start", "progress", "canceled")


def _network(device: Device, request: Request) -> Answer:
    words = dict.fromkeys(("username", "password", "ipaddress", "macaddress", "ssid"), "")
    return answer_json({"status": UNPROVISIONED, "state": INIT, "enabled": 0} | words)


def _certificate(device: Device, request: Request) -> Answer:
    return Answer(body=CERTIFICATE, kind="text/plain")


def _accept(device: Device, request: Request) -> Answer:
    return Answer()


def _update(device: Device, request: Request) -> Answer:
    return answer_json({"status": OK})


def _update_in_parts(device: Device, request: Request) -> Answer:
    known = request.query.get("request", "progress") in UPDATE_REQUESTS
    told = {"status": OK, "message": "OK"} if known else {"status": BAD_PARAMETERS, "message": "Bad Params"}
    code = HTTPStatus.OK if known else HTTPStatus.BAD_REQUEST
    return answer_json(told | {"sha1": "", "bytes_complete": 0, "complete": False}, code)


NETWORK_ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        "/GoProRootCA.crt": _certificate,
        "/gopro/cohn/cert/create": _accept,
        "/gopro/cohn/cert/clear": _accept,
        "/gopro/cohn/setting": _accept,
        "/gopro/cohn/status": _network,
        "/gp/gpUpdate": _update,
        "/gp/gpSoftUpdate": _update_in_parts,
    }
)
