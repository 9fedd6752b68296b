"""What the car's status says, as Prometheus reads it (text format 0.0.4)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

STATES = ("idle", "starting", "recording", "degraded", "stopping")
LEVELS = ("error", "warning", "info")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[str, Mapping[str, str], float | int | None]

HELP = {
    "edencar_up": "1 while the supervision of the devices runs.",
    "edencar_state": "1 for the state that the car is in.",
    "edencar_recording_elapsed_seconds": "Age of the recording that runs, 0 without one.",
    "edencar_camera_up": "1 for a camera that answers.",
    "edencar_camera_battery_ratio": "Charge of a camera's battery.",
    "edencar_camera_card_seconds_left": "Recording time left on a camera's card.",
    "edencar_camera_fps": "Pictures a second that arrive from a camera.",
    "edencar_camera_lost_datagrams_total": "Datagrams of a camera's stream that never came.",
    "edencar_receiver_up": "1 for a receiver that sends.",
    "edencar_fix_age_seconds": "Age of the newest fix.",
    "edencar_correction_age_seconds": "Age of the corrections of the newest fix.",
    "edencar_satellites": "Satellites used.",
    "edencar_position_sigma_metres": "Horizontal, one sigma.",
    "edencar_fix_rate_hertz": "Epochs a second.",
    "edencar_time_sigma_seconds": "One sigma of the time.",
    "edencar_disk_free_bytes": "Room on the disk of the recordings.",
    "edencar_disk_seconds_left": "Recording time that fits on the disk.",
    "edencar_jobs": "Jobs that wait or run.",
    "edencar_problems": "What is wrong now, by level.",
    "edencar_http_responses_total": "Answers since the start, by status class.",
}
COUNTERS = tuple(name for name in HELP if name.endswith("_total"))


def render(status: Mapping[str, Any], alive: bool, responses: Mapping[str, int]) -> str:
    """The text of GET /metrics; `status` as GET /api/status has it, `responses` by class such as 2xx."""
    samples = [
        *_samples(status, alive),
        *(("edencar_http_responses_total", {"class": k}, n) for k, n in responses.items()),
    ]
    lines: list[str] = []
    for name, text in HELP.items():
        lines += (f"# HELP {name} {text}", f"# TYPE {name} {'counter' if name in COUNTERS else 'gauge'}")
        lines += [
            f"{name}{_labels(labels)} {float(value):g}"
            for other, labels, value in samples
            if other == name and value is not None
        ]
    return "\n".join(lines) + "\n"


def _samples(status: Mapping[str, Any], alive: bool) -> Iterator[Sample]:
    receiver, storage, time = status["receiver"], status["storage"], status["time"]
    yield "edencar_up", {}, alive
    for state in STATES:
        yield "edencar_state", {"state": state}, status["state"] == state
    yield "edencar_recording_elapsed_seconds", {}, (status["recording"] or {"elapsed_s": 0})["elapsed_s"]
    for camera in status["cameras"]:
        yield from _camera(camera)
    yield "edencar_receiver_up", {}, receiver["state"] == "listening"
    for name, key in (
        ("edencar_fix_age_seconds", "fix_age_s"),
        ("edencar_correction_age_seconds", "correction_age_s"),
        ("edencar_satellites", "satellites"),
        ("edencar_position_sigma_metres", "sigma_m"),
        ("edencar_fix_rate_hertz", "rate_hz"),
    ):
        yield name, {}, receiver[key]
    yield "edencar_time_sigma_seconds", {"source": time["source"]}, time["sigma_ms"] / 1000
    yield "edencar_disk_free_bytes", {}, storage["bytes_free"]
    yield "edencar_disk_seconds_left", {}, storage["seconds_left"]
    yield "edencar_jobs", {}, len(status["jobs"])
    for level in LEVELS:
        yield "edencar_problems", {"level": level}, _count(status["problems"], level)


def _camera(camera: Mapping[str, Any]) -> Iterator[Sample]:
    labels = {"serial": camera["serial"]}
    battery = camera["battery_percent"]
    yield "edencar_camera_up", labels, camera["state"] != "lost"
    yield "edencar_camera_battery_ratio", labels, None if battery is None else battery / 100
    yield "edencar_camera_card_seconds_left", labels, camera["card_seconds_left"]
    yield "edencar_camera_fps", labels, camera["fps"]
    yield "edencar_camera_lost_datagrams_total", labels, camera["lost_datagrams"]


def _count(problems: Sequence[Mapping[str, Any]], level: str) -> int:
    return sum(problem["level"] == level for problem in problems)


def _labels(labels: Mapping[str, str]) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels.items()) + "}" if labels else ""
