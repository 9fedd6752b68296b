"""HTTP manners for a Flask application: problems in words, checked bodies, safe headers, small answers."""

import gzip
import ipaddress
import json
import logging
import re
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import ifaddr
from flask import Flask, Response, current_app, request
from werkzeug.exceptions import Forbidden, HTTPException

from rig.errors import EdencarError, NoSpaceError, UsageError
from rig.files import is_full
from rig.http.access import READING
from rig.http.pages import render

PROBLEM_TYPE = "application/problem+json"
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
LOCAL_DOMAINS = ("", ".local", ".lan", ".home", ".home.arpa", ".internal")  # of this machine's own name
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # all but tab and line feed, and what is no character
BYTE_RANGE = re.compile(r"bytes=\s*(\d+-\d*|-\d+)\s*", re.ASCII)  # a single one; any other is ignored (RFC 9110, 14.2)
SMALL_BYTES = 1000  # not worth compressing
COMPRESSED = ("text/html", "text/css", "text/javascript", "application/json", PROBLEM_TYPE)

CURES = {  # where an error has none of its own
    400: "send HTTP and JSON as /api/openapi.json describes it",
    401: "give the PIN: curl -u edencar:PIN, Authorization: Bearer PIN, or the lock on the page",
    403: "call this server by its own name or address, and change things from its own pages or from none",
    404: "the page / shows all there is; the API is described by /api/openapi.json",
    405: "the header Allow says what can be asked here",
    412: "ask without If-Match: the file is another one by now",
    413: "send less",
    416: "the header Content-Range says how many bytes there are",
    429: "wait as long as the header Retry-After says",
    431: "send a shorter address, and fewer or shorter headers",
    501: "send HTTP as RFC 9112 has it",
    503: "try again after as long as the header Retry-After says",
}

Rules = Mapping[str, Mapping[str, Any]]  # a JSON schema for each key of a body

log = logging.getLogger(__name__)


def addresses(host: str, port: int) -> list[str]:
    """Where a browser finds a server: one that listens everywhere has an address on each interface."""
    own = [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]
    return [f"http://{address}:{port}" for address in (own if host == "0.0.0.0" else [host])]


def install(app: Flask, host_names: Sequence[str]) -> None:
    """Give an application its manners; `host_names` are what it may be called besides its addresses and own name."""
    own = socket.gethostname().lower().split(".")[0]
    names = {*map(str.lower, host_names), socket.gethostname().lower(), *(own + domain for domain in LOCAL_DOMAINS)}
    app.extensions["responses"] = Counter[str]()

    def tell(response: Response) -> Response:
        wants_page = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
        if wants_page and not request.path.startswith("/api/"):
            response.set_data(render("error.html", problem=json.loads(response.get_data())))
            response.mimetype = "text/html"
        return response

    app.before_request(lambda: _refuse_foreign(names))
    app.before_request(_forget_bad_range)
    app.after_request(_protect)
    app.register_error_handler(EdencarError, lambda error: tell(_tell_error(error)))
    app.register_error_handler(
        HTTPException, lambda error: error if _is_answer(error) else tell(_tell_http_error(error))
    )
    app.register_error_handler(OSError, lambda error: tell(_tell_disk_error(error)))
    app.register_error_handler(Exception, lambda error: tell(_tell_defect(error)))


def answer(value: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """A JSON object."""
    return Response(json.dumps(value, ensure_ascii=False), status, headers, mimetype="application/json")


def problem(status: int, title: str, detail: str, cure: str = "", kind: str = "about:blank") -> Response:
    """What went wrong, as RFC 9457 has it, and in `cure` what to do."""
    return Response(write_problem(status, title, detail, cure, kind, request.path), status, mimetype=PROBLEM_TYPE)


def write_problem(status: int, title: str, detail: str, cure: str, kind: str, path: str = "") -> str:
    """The text of a problem that was met at a path."""
    told = cure or CURES.get(status, "see the log of the server")
    value = {"type": kind, "title": title, "status": status, "detail": detail, "cure": told, "instance": path}
    return json.dumps(value, ensure_ascii=False)


def kind_of(error: EdencarError) -> str:
    """The `type` of a problem."""
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
    return f"urn:edencar:{'-'.join(words).lower()}"


def read_body(rules: Rules, required: Sequence[str] = ()) -> dict[str, Any]:
    """The JSON object of the request, empty without a body, whatever content type curl gave it.

    Raises UsageError for anything that `rules` do not allow.
    """
    data = request.get_data()
    if not data:
        data = b"{}"
    try:
        values = json.loads(data, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON", cure="send an object such as {}, or nothing") from error
    if not isinstance(values, dict):
        raise UsageError("the body is not a JSON object", cure="send an object such as {}, or nothing")
    for name, value in values.items():
        if name not in rules:
            raise UsageError(f"{name[:40]!r} is unknown here", cure=f"known are: {', '.join(rules) or 'none'}")
        _check(name, value, rules[name])
    for name in required:
        if name not in values:
            raise UsageError(f"{name!r} is missing", cure="see /api/openapi.json")
    return values


def _check(name: str, value: object, rule: Mapping[str, Any]) -> None:
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if value is None and "null" in kinds:
        return
    if "array" in kinds:
        if not isinstance(value, list) or not rule.get("minItems", 0) <= len(value) <= rule["maxItems"]:
            raise UsageError(f"{name!r} must be a list of at most {rule['maxItems']}", cure="see /api/openapi.json")
        for item in value:
            _check(name, item, rule["items"])
        return
    if not (_is_text(value, rule) if "string" in kinds else _is_number(value, rule, kinds)):
        hint = rule.get("description") or ", ".join(rule.get("enum", ())) or _range(rule, kinds)
        raise UsageError(f"{name!r} is not what it must be", cure=f"for instance: {hint}")


def _is_text(value: object, rule: Mapping[str, Any]) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= rule.get("maxLength", 40)
        and not CONTROL.search(value)
        and value in rule.get("enum", (value,))
        and ("pattern" not in rule or re.fullmatch(rule["pattern"][1:-1], value) is not None)  # they are ^...$
    )


def _is_number(value: object, rule: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float if "number" in kinds else int):
        return False
    return bool(rule["minimum"] <= value <= rule["maximum"])  # NaN is not


def _number(text: str) -> float:
    """For JSON Schema 2.0 is an integer."""
    value = float(text)
    return int(value) if value.is_integer() else value


def _range(rule: Mapping[str, Any], kinds: Sequence[str]) -> str:
    return "plain text, not too long" if "string" in kinds else f"a number from {rule['minimum']} to {rule['maximum']}"


def _refuse_foreign(names: set[str]) -> None:
    """Let no other site's page read or change anything under a name that it made point here, nor change it directly."""
    host = request.host.lower()
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")  # werkzeug has made sure that it is one
    if name not in names and not _is_address(name):
        raise Forbidden(f"this server is not called {name[:80]}; names are added by the setting host_names")
    origin = request.headers.get("Origin")
    if request.method not in READING and origin is not None and not _is_at(origin, host):
        raise Forbidden("the request comes from the page of another site")


def _forget_bad_range() -> None:
    if not BYTE_RANGE.fullmatch(request.headers.get("Range", "")):
        request.environ.pop("HTTP_RANGE", None)


def _is_at(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host
    except ValueError:
        return False


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _protect(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if response.mimetype in ("application/json", PROBLEM_TYPE):
        response.headers.setdefault("Cache-Control", "no-store")
    request_counts: Counter[str] = current_app.extensions["responses"]
    request_counts[f"{response.status_code // 100}xx"] += 1
    return _shrink(response)


def _shrink(response: Response) -> Response:
    """Compress texts for who takes that."""
    if (
        response.is_streamed
        or response.direct_passthrough
        or response.mimetype not in COMPRESSED
        or "Content-Encoding" in response.headers
    ):
        return response
    response.vary.add("Accept-Encoding")
    data = response.get_data() if request.accept_encodings.quality("gzip") > 0 else b""
    if len(data) > SMALL_BYTES:
        response.set_data(gzip.compress(data, 5))
        response.headers["Content-Encoding"] = "gzip"
    return response


def _tell_error(error: EdencarError) -> Response:
    return problem(error.status, error.title, error.message, error.cure, kind_of(error))


def _is_answer(error: HTTPException) -> bool:
    return error.code is None or error.code < 400  # a redirection


def _tell_http_error(error: HTTPException) -> Response:
    response = problem(error.code or 500, error.name, error.description or error.name)
    for name, value in error.get_headers(request.environ):
        if name not in ("Content-Type", "Content-Length"):  # Allow, Retry-After, Content-Range, WWW-Authenticate
            response.headers[name] = value
    return response


def _tell_disk_error(error: OSError) -> Response:
    log.exception("%s %s", request.method, request.path)
    if is_full(error):
        return _tell_error(NoSpaceError("the disk is full", cure="delete recordings"))
    return problem(503, "Disk failed", error.strerror or "the disk cannot be used", "look at the disk and its cable")


def _tell_defect(_error: Exception) -> Response:
    log.exception("%s %s", request.method, request.path)
    return problem(500, "Defect", "the server has a defect", "its log says where; please report it")
