"""Each answer of each virtual GoPro fits GoPro's own OpenAPI document."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simulator.camera import Camera
from simulator.hero import models
from tests.gopros import Client, Reply, running

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema judges the answers")

VIDEO, PHOTO, SERIES, NONE = "100GOPRO/{video}", "100GOPRO/GOPR0002.JPG", "100GOPRO/G0010003.JPG", "100GOPRO/NO.JPG"
# Each GET path of the document with what is asked of it, and the status; those that destroy come last.
PLAN = (
    ("/gopro/version", "", 200),
    ("/gopro/camera/info", "", 200),
    ("/gopro/camera/state", "", 200),
    ("/gopro/camera/keep_alive", "", 200),
    ("/gopro/camera/analytics/set_client_info", "", 200),
    ("/gopro/camera/control/wired_usb", "?p=1", 200),
    ("/gopro/camera/control/set_ui_controller", "?p=2", 200),
    ("/gopro/camera/digital_zoom", "?percent=50", 200),
    ("/gopro/camera/set_date_time", "?date=2026_01_31&time=03_04_05&tzone=-120&dst=1", 200),
    ("/gopro/camera/get_date_time", "", 200),
    ("/gopro/camera/name", "", 200),
    ("/gopro/camera/presets/get", "?include-hidden=0", 200),
    ("/gopro/camera/presets/load", "?id=131072", 200),
    ("/gopro/camera/presets/set_group", "?id=1000", 200),
    ("/gopro/camera/presets/set_visibility/v2", "?id=0&visible=0", 200),
    ("/gopro/qrcode", "?labs=1", 400),
    ("/gopro/qrcode", "?labs=1&code=!S", 500),
    ("/gopro/media/list", "", 200),
    ("/gopro/media/info", f"?path={VIDEO}", 200),
    ("/gopro/media/info", f"?path={PHOTO}", 200),
    ("/gopro/media/info", f"?path={SERIES}", 200),
    ("/gopro/media/last_captured", "", 200),
    ("/gopro/media/thumbnail", f"?path={VIDEO}", 200),
    ("/gopro/media/screennail", f"?path={PHOTO}", 200),
    ("/gopro/media/gpmf", f"?path={PHOTO}", 200),
    ("/gopro/media/telemetry", f"?path={VIDEO}", 200),
    ("/gopro/media/turbo_transfer", "?p=1", 200),
    ("/gopro/media/hilight/moment", "", 500),
    ("/gopro/media/hilight/file", f"?path={VIDEO}&ms=100", 200),
    ("/gopro/media/info", f"?path={VIDEO}", 200),  # now with a hilight
    ("/gopro/media/hilight/remove", f"?path={VIDEO}&ms=100", 200),
    ("/gopro/media/hilight/remove", f"?path={VIDEO}&ms=100", 500),
    ("/gopro/webcam/version", "", 200),
    ("/gopro/webcam/start", "?res=12&fov=0&port=9", 200),
    ("/gopro/webcam/status", "", 200),
    ("/gopro/webcam/preview", "", 200),
    ("/gopro/webcam/stop", "", 200),
    ("/gopro/webcam/exit", "", 200),
    ("/gopro/camera/stream/start", "?port=9", 200),
    ("/gopro/camera/stream/stop", "", 200),
    ("/gopro/camera/shutter/{mode}", "start", 200),
    ("/gopro/camera/shutter/{mode}", "stop", 200),
    ("/gopro/media/delete/file", f"?path={NONE}", 400),
    ("/gopro/media/delete/file", f"?path={PHOTO}", 200),
    ("/gp/gpControl/command/storage/delete/group", f"?p={NONE}", 400),
    ("/gp/gpControl/command/storage/delete/group", f"?p={SERIES}", 200),
    ("/gp/gpControl/command/storage/delete/all", "", 200),
    ("/gopro/media/last_captured", "", 204),
    ("/gp/gpControl/command/system/reset", "", 200),
    ("/gp/gpControl/command/system/sleep", "", 200),
)
# And each path of another method.
OTHERS = (
    ("PUT", "/gopro/camera/name", "", 200),
    ("PUT", "/gopro/camera/presets/update_custom", "", 400),  # no preset is a custom one
    ("POST", "/GoProRootCA.crt", "", 200),
    ("POST", "/gopro/cohn/cert/clear", "", 200),
    ("POST", "/gopro/cohn/cert/create", "", 200),
    ("POST", "/gopro/cohn/setting", "", 200),
    ("POST", "/gopro/cohn/status", "", 200),
    ("POST", "/gp/gpSoftUpdate", "?request=progress", 200),
    ("POST", "/gp/gpUpdate", "", 200),
)
SETTING, DOWNLOAD, WEBCAM = "/gopro/camera/setting?", "/videos/", "/gopro/webcam/"
TEXTS = ("id", "d", "n", "gumi", "ao", "folder", "file", "t")


@pytest.fixture(scope="module")
def document(shared_data: Path) -> Any:
    return json.loads((shared_data / "openapi.json").read_text())


@pytest.fixture(scope="module", params=models.names())
def camera(request: pytest.FixtureRequest) -> Iterator[Camera]:
    """A camera that holds a video, a photo and a series of photos."""
    with running(model=request.param, size=180) as camera:
        get = Client(camera)
        for preset, seconds in ((models.PRESETS[0], 0.6), (models.PRESETS[1], 0.0), (models.PRESETS[3], 1.2)):
            camera._device.choose_preset(preset.number)
            camera.press_shutter()
            if seconds:
                time.sleep(seconds)
                camera.press_shutter()
            get.wait(10, 0)
            get.wait(8, 0)
        yield camera


def judge(document: Any, path: str, reply: Reply, method: str = "get") -> None:
    """The answer has a status that the document names for the path, and the content it describes."""
    answers = document["paths"][path][method]["responses"]
    assert str(reply.status) in answers, f"{path}: {reply.status}"
    answer = answers[str(reply.status)]
    if "$ref" in answer:
        answer = document["components"]["responses"][answer["$ref"].rsplit("/", 1)[1]]
    if reply.status == 204:  # has no content, by HTTP
        return
    for kind, content in answer.get("content", {}).items():
        assert reply.headers["content-type"] == kind, path
        if kind == "application/json":
            schema = content["schema"] | {"components": document["components"]}
            told = as_numbers(reply.json) if path.startswith("/gopro/media") else reply.json
            jsonschema.Draft202012Validator(schema).validate(told)


def as_numbers(content: Any) -> Any:
    """The document describes the values of media answers as numbers, and notes that they come as strings."""
    if isinstance(content, dict):
        return {key: value if key in TEXTS else as_numbers(value) for key, value in content.items()}
    if isinstance(content, list):
        return [as_numbers(item) for item in content]
    assert isinstance(content, str), content
    return int(content)


def is_supported(document: Any, model: str, path: str, method: str = "get") -> bool:
    if path.startswith(WEBCAM):  # only HERO13 has it in the document: GoPro's internal build of it knows better
        return not model.endswith("Mini")
    return model in document["paths"][path][method]["x-supported-cameras"]


def test_each_answer_fits_the_document(camera: Camera, document: Any) -> None:
    get = Client(camera)
    video = get.files()[0]["n"]
    for path, query, status in PLAN:
        where = path.replace("{mode}", query) if "{mode}" in path else path + query.format(video=video)
        reply = get(where)
        if is_supported(document, camera.model, path):
            assert reply.status == status, where
            judge(document, path, reply)
        elif "shutter" in path:
            assert reply.status == 500  # of a HERO9, as users saw; the document only says that it has none
        else:
            assert reply.status == 501, where
        get.wait(10, 0) if where.endswith("stop") else None
        get.wait(8, 0) if "system" not in path else None


def test_each_answer_to_another_method_fits_the_document(camera: Camera, document: Any) -> None:
    ask = Client(camera)
    for method, path, query, status in OTHERS:
        reply = ask(path + query, method=method)
        if is_supported(document, camera.model, path, method.lower()):
            assert reply.status == status, path
            judge(document, path, reply, method.lower())
            assert ask(path + query).status == 405, path
        else:
            assert reply.status == 501, path


def test_no_path_of_the_document_is_left_out(document: Any) -> None:
    asked = {("get", path) for path, _, _ in PLAN} | {(method.lower(), path) for method, path, _, _ in OTHERS}
    there = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert {(method, path) for method, path in there if not path.startswith((SETTING, DOWNLOAD))} == asked


@pytest.mark.parametrize("name", models.names())
def test_each_option_of_each_setting_is_taken_and_others_are_refused(name: str, document: Any) -> None:
    with running(model=name, size=180) as camera:
        get = Client(camera)
        if models.CONTROL_MODE in camera._device.model.settings:
            assert get(f"/gopro/camera/setting?setting={models.CONTROL_MODE}&option=1").status == 200
        for number, setting in camera._device.model.settings.items():
            path = f"{SETTING}setting={number}"
            for option in setting.options:
                judge(document, path, get(f"{path}&option={option}"))
                answer = get(path)
                judge(document, path, answer)
                assert answer.json == {"option": option}
            refused = get(f"{path}&option=-1")
            judge(document, path, refused)
            assert refused.status == 403
            judge(document, "/gopro/camera/state", get("/gopro/camera/state"))
