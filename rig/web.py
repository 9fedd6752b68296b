"""HTTP manners for a Flask application: problems in words, checked bodies, safe headers, a description of itself."""

import ipaddress
import json
import logging
import re
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, request
from werkzeug.exceptions import Forbidden, HTTPException

from rig.errors import EdencarError, UsageError

READING = ("GET", "HEAD", "OPTIONS")
PROBLEM_TYPE = "application/problem+json"
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # all but tab and line feed, and what is no character

Rules = Mapping[str, Mapping[str, Any]]  # a JSON schema for each key of a body

log = logging.getLogger(__name__)


def install(app: Flask, host_names: Sequence[str]) -> None:
    """Give an application its manners; `host_names` are what it may be called besides its addresses."""
    names = {*host_names, socket.gethostname(), f"{socket.gethostname()}.local"}
    app.before_request(lambda: _refuse_foreign({name.lower() for name in names}))
    app.after_request(_protect)
    app.register_error_handler(EdencarError, _tell_error)
    app.register_error_handler(HTTPException, _tell_http_error)
    app.register_error_handler(OSError, _tell_disk_error)
    app.register_error_handler(Exception, _tell_defect)


def answer(value: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """A JSON object."""
    return Response(json.dumps(value, ensure_ascii=False), status, headers, mimetype="application/json")


def problem(status: int, title: str, detail: str, cure: str = "", kind: str = "about:blank") -> Response:
    """What went wrong, as RFC 9457 has it, and in `cure` what to do."""
    value = {"type": kind, "title": title, "status": status, "detail": detail, "cure": cure, "instance": request.path}
    return Response(json.dumps(value, ensure_ascii=False), status, mimetype=PROBLEM_TYPE)


def read_body(rules: Rules) -> dict[str, Any]:
    """The JSON object of the request, empty without a body, whatever content type curl gave it.

    Raises UsageError for anything that `rules` do not allow.
    """
    data = request.get_data()
    if not data:
        return {}
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON", cure="send an object such as {}, or nothing") from error
    if not isinstance(values, dict):
        raise UsageError("the body is not a JSON object", cure="send an object such as {}, or nothing")
    for name, value in values.items():
        if name not in rules:
            raise UsageError(f"{name[:40]!r} is unknown here", cure=f"known are: {', '.join(rules) or 'none'}")
        _check(name, value, rules[name])
    return values


def describe(
    app: Flask, title: str, version: str, bodies: Mapping[str, Rules], uploads: Mapping[str, str]
) -> dict[str, Any]:
    """The application in OpenAPI 3.1, made from its routes; `uploads` are fields for files, by endpoint.

    The docstring of a route says what it does in its first sentences and closes with `Answers 200, 404.`
    """
    paths: dict[str, dict[str, Any]] = {}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            text = " ".join((app.view_functions[rule.endpoint].__doc__ or "").split())
            if " Answers " in text:
                operation = paths.setdefault(path, {})[method.lower()] = _operation(rule.endpoint, rule.arguments, text)
                content = _contents(rule.endpoint, bodies, uploads)
                operation |= {"requestBody": {"required": False, "content": content}} if content else {}
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "cure", "instance")}
    schema = {"type": "object", "properties": {**texts, "status": {"type": "integer"}}}
    failed = {"description": "a problem (RFC 9457)", "content": {PROBLEM_TYPE: {"schema": schema}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {"responses": {"problem": failed}},
    }


def _operation(endpoint: str, arguments: set[str], text: str) -> dict[str, Any]:
    summary, _, codes = text.rpartition(" Answers ")
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": summary,
        "responses": {code: _response(int(code)) for code in re.findall(r"\d{3}", codes)},
    }
    operation["responses"]["default"] = _response(500)
    if arguments:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in sorted(arguments)
        ]
    return operation


def _contents(endpoint: str, bodies: Mapping[str, Rules], uploads: Mapping[str, str]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint in bodies:
        schema = {"type": "object", "properties": bodies[endpoint], "additionalProperties": False}
        content["application/json"] = {"schema": schema}
    if endpoint in uploads:
        schema = {"type": "object", "properties": {uploads[endpoint]: {"type": "string", "format": "binary"}}}
        content["multipart/form-data"] = {"schema": schema}
    return content


def _response(code: int) -> dict[str, Any]:
    return {"description": "done"} if code < 400 else {"$ref": "#/components/responses/problem"}


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
        and re.search(rule.get("pattern", ""), value) is not None
    )


def _is_number(value: object, rule: Mapping[str, Any], kinds: Sequence[str]) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float if "number" in kinds else int):
        return False
    return bool(rule["minimum"] <= value <= rule["maximum"])  # NaN is not


def _range(rule: Mapping[str, Any], kinds: Sequence[str]) -> str:
    return "plain text, not too long" if "string" in kinds else f"a number from {rule['minimum']} to {rule['maximum']}"


def _refuse_foreign(names: set[str]) -> None:
    """Let no other site's page change anything, neither directly nor under a name that it made point here."""
    if request.method in READING:
        return
    host = request.host.lower()
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host:
        raise Forbidden("the request comes from the page of another site")
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name not in names and not _is_address(name):
        raise Forbidden(f"this server is not called {name[:80]}; names are added by the setting host_names")


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
        response.headers["Cache-Control"] = "no-store"
    return response


def _tell_error(error: EdencarError) -> Response:
    words = re.findall("[A-Z][a-z]+", type(error).__name__.removesuffix("Error"))
    kind = f"urn:edencar:{'-'.join(words).lower()}"
    return problem(error.status, error.title, error.message, error.cure, kind)


def _tell_http_error(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:  # a redirection
        return error
    response = problem(error.code, error.name, error.description or error.name)
    for name, value in error.get_headers():
        if name not in ("Content-Type", "Content-Length"):  # Allow, Retry-After, Content-Range
            response.headers[name] = value
    return response


def _tell_disk_error(error: OSError) -> Response:
    log.exception("%s %s", request.method, request.path)
    return problem(503, "Disk failed", error.strerror or "the disk cannot be used", "look at the disk and its cable")


def _tell_defect(_error: Exception) -> Response:
    log.exception("%s %s", request.method, request.path)
    return problem(500, "Defect", "the server has a defect", "its log says where; please report it")
