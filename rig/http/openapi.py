"""A Flask application's routes in OpenAPI 3.1, and the same as a page of Markdown with examples for curl."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from werkzeug.routing import Rule

from rig.http import contract
from rig.http.contract import JSON
from rig.http.web import PROBLEM_TYPE

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
HIDDEN = ("HEAD", "OPTIONS")


def describe(app: Flask, title: str, version: str) -> dict[str, Any]:
    """The document. The docstring of a route says what it does and closes with `Answers 200, 404.`"""
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, text in _routes(app):
        path = re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
        paths.setdefault(path, {})[method.lower()] = _operation(rule, method, text)
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "cure", "instance")}
    properties = {**texts, "status": {"type": "integer"}}
    problem = {"type": "object", "properties": properties, "required": [*properties]}
    failed = {"description": "a problem (RFC 9457)", "content": {PROBLEM_TYPE: {"schema": problem}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": dict(sorted(paths.items())),
        "components": {
            "responses": {"problem": failed},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def markdown(description: Mapping[str, Any], host: str) -> str:
    """The same for people: a table of all routes, then each with its body and an example."""
    operations = [
        (f"{method.upper()} {path}", operation)
        for path, methods in description["paths"].items()
        for method, operation in methods.items()
    ]
    table = [f"| `{name}` | {_first(operation)} | {_lock(operation)} |" for name, operation in operations]
    parts = ["| route | what it does | PIN |", "| --- | --- | --- |", *table, ""]
    for name, operation in operations:
        if name.split(" ")[1].startswith(("/api", "/metrics", "/healthz")):
            parts += [f"### {name}", "", operation["summary"], "", *_details(operation, host)]
    return "\n".join(parts)


def _routes(app: Flask) -> Iterator[tuple[Rule, str, str]]:
    for rule in app.url_map.iter_rules():
        text = " ".join((app.view_functions[rule.endpoint].__doc__ or "").split())
        if " Answers " in text:
            for method in sorted((rule.methods or set()) - set(HIDDEN)):
                yield rule, method, text


def _operation(rule: Rule, method: str, text: str) -> dict[str, Any]:
    summary, _, codes = text.rpartition(" Answers ")
    endpoint = rule.endpoint
    operation: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "summary": summary,
        "responses": {code: _response(int(code), endpoint) for code in re.findall(r"\d{3}", codes)},
    }
    operation["responses"]["default"] = _response(500, endpoint)
    if parameters := [*_parameters(rule)]:
        operation["parameters"] = parameters
    if content := _contents(endpoint):
        operation["requestBody"] = {"required": endpoint in contract.REQUIRED, "content": content}
    if method != "GET" or endpoint in contract.DOWNLOADING:
        operation["security"] = [{}, {"basic": []}, {"bearer": []}]  # the first: where no PIN is set
    if endpoint in contract.EXAMPLES:
        operation["x-curl"] = contract.EXAMPLES[endpoint]
    return operation


def _parameters(rule: Rule) -> Iterator[dict[str, Any]]:
    for name in sorted(rule.arguments):
        yield {"name": name, "in": "path", "required": True, "schema": contract.PATHS.get(name, TEXT)}
    for name, schema in contract.QUERIES.get(rule.endpoint, {}).items():
        yield {"name": name, "in": "query", "required": False, "schema": schema}


def _contents(endpoint: str) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if endpoint in contract.BODIES:
        required = list(contract.REQUIRED.get(endpoint, ()))
        schema = {"type": "object", "properties": contract.BODIES[endpoint], "additionalProperties": False}
        some = {"required": required} if required else {"minProperties": 1} if endpoint in contract.REQUIRED else {}
        content[JSON] = {"schema": schema | some}
    if endpoint in contract.UPLOAD_FIELDS:
        name = contract.UPLOAD_FIELDS[endpoint]
        schema = {"type": "object", "properties": {name: {"type": "string", "format": "binary"}}, "required": [name]}
        content["multipart/form-data"] = {"schema": schema}
    return content


def _response(code: int, endpoint: str) -> dict[str, Any]:
    if code >= 400:
        return {"$ref": "#/components/responses/problem"}
    if code in (204, 304):
        return {"description": "done"}
    kind = contract.TYPES.get(endpoint, JSON)
    keys = list(contract.KEYS.get(endpoint, ()))
    schema: dict[str, Any] = {"type": "object", "required": keys} if kind == JSON else {}
    return {"description": "done", "content": {kind: {"schema": schema}}}


def _first(operation: Mapping[str, Any]) -> str:
    return str(re.split(r"(?<=\.) (?=[A-Z])|; |: ", operation["summary"])[0]).rstrip(".")


def _lock(operation: Mapping[str, Any]) -> str:
    return "yes" if "security" in operation else ""


def _details(operation: Mapping[str, Any], host: str) -> Iterator[str]:
    codes = ", ".join(code for code in operation["responses"] if code != "default")
    yield from (f"Answers {codes}.", "")
    rows = [*_rows(operation)]
    if rows:
        yield from ("| name | where | values |", "| --- | --- | --- |", *rows, "")
    if "x-curl" in operation:
        yield from ("```sh", f"curl {operation['x-curl'].replace('HOST', host)}", "```", "")


def _rows(operation: Mapping[str, Any]) -> Iterator[str]:
    for parameter in operation.get("parameters", ()):
        yield f"| `{parameter['name']}` | {parameter['in']} | {_values(parameter['schema'])} |"
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        needed = content["schema"].get("required", ())
        for name, schema in content["schema"]["properties"].items():
            where = "JSON" if kind == JSON else "form"
            yield f"| `{name}` | {where}{', required' if name in needed else ''} | {_values(schema)} |"


def _values(schema: Schema) -> str:
    kinds = schema.get("type", "any")
    kind = kinds if isinstance(kinds, str) else " or ".join(kinds)
    parts = ["a file" if schema.get("format") == "binary" else kind]
    if "enum" in schema:
        parts = [", ".join(f"`{value}`" for value in schema["enum"])]
    if "maximum" in schema:
        parts.append(f"{schema['minimum']:g} to {schema['maximum']:g}")
    if "default" in schema:
        parts.append(f"default `{schema['default']}`")
    return "; ".join([*parts, *filter(None, [schema.get("description", "")])])
