"""What the car's status says, as Prometheus reads it (text format 0.0.4)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from rig.status import DEGRADED, ERROR, IDLE, INFO, RECORDING, STARTING, STOPPING, WARNING

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Sample = tuple[Mapping[str, str], float | None]  # labels and value, None for what nobody knows
Metric = tuple[str, str, Sequence[Sample]]  # name, meaning, samples


def render(status: Mapping[str, Any], alive: bool, responses: Mapping[str, int]) -> str:
    """The text of GET /metrics; `status` as GET /api/status has it, `responses` by class such as 2xx."""
    lines: list[str] = []
    for name, text, samples in _metrics(status, alive, responses):
        kind = "counter" if name.endswith("_total") else "gauge"
        lines += (f"# HELP edencar_{name} {text}", f"# TYPE edencar_{name} {kind}")
        lines += (f"edencar_{name}{_labels(labels)} {value:g}" for labels, value in samples if value is not None)
    return "\n".join(lines) + "\n"


def _metrics(status: Mapping[str, Any], alive: bool, responses: Mapping[str, int]) -> Iterator[Metric]:
    receiver, storage, time = status["receiver"], status["storage"], status["time"]
    states = [({"state": name}, status["state"] == name) for name in (IDLE, STARTING, RECORDING, DEGRADED, STOPPING)]
    levels = [problem["level"] for problem in status["problems"]]

    def one(value: float | None) -> Sequence[Sample]:
        return [({}, value)]

    yield "up", "1 while the supervision of the devices runs.", one(alive)
    yield "state", "1 for the state that the car is in.", states
    elapsed_s = status["recording"]["elapsed_s"] if status["recording"] else 0
    yield "recording_elapsed_seconds", "Age of the recording that runs, 0 without one.", one(elapsed_s)
    yield from _camera_metrics(status["cameras"])
    yield "receiver_up", "1 for a receiver that sends.", one(receiver["state"] == "listening")
    yield "fix_age_seconds", "Age of the newest fix.", one(receiver["fix_age_s"])
    yield "correction_age_seconds", "Age of the corrections of the newest fix.", one(receiver["correction_age_s"])
    yield "satellites", "Satellites used.", one(receiver["satellites"])
    yield "position_sigma_metres", "Horizontal, one sigma.", one(receiver["sigma_m"])
    yield "fix_rate_hertz", "Epochs a second.", one(receiver["rate_hz"])
    yield "time_sigma_seconds", "One sigma of the time.", [({"source": time["source"]}, time["sigma_ms"] / 1000)]
    yield "disk_free_bytes", "Room on the disk of the recordings.", one(storage["bytes_free"])
    yield "disk_seconds_left", "Recording time that fits on the disk.", one(storage["seconds_left"])
    yield "jobs", "Jobs that wait or run.", one(len(status["jobs"]))
    counts = [({"level": level}, levels.count(level)) for level in (ERROR, WARNING, INFO)]
    yield "problems", "What is wrong now, by level.", counts
    answers = [({"class": kind}, count) for kind, count in responses.items()]
    yield "http_responses_total", "Answers since the start, by status class.", answers


def _camera_metrics(cameras: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    def each(value: Callable[[Mapping[str, Any]], float | None]) -> Sequence[Sample]:
        return [({"serial": camera["serial"]}, value(camera)) for camera in cameras]

    def share(camera: Mapping[str, Any]) -> float | None:
        percent = camera["battery_percent"]
        return None if percent is None else percent / 100

    yield "camera_up", "1 for a camera that answers.", each(lambda camera: camera["state"] != "lost")
    yield "camera_battery_ratio", "Charge of a camera's battery.", each(share)
    left = each(itemgetter("card_seconds_left"))
    yield "camera_card_seconds_left", "Recording time left on a camera's card.", left
    yield "camera_fps", "Pictures a second that arrive from a camera.", each(itemgetter("fps"))
    lost = each(itemgetter("lost_datagrams"))
    yield "camera_lost_datagrams_total", "Datagrams of a camera's stream that never came.", lost


def _labels(labels: Mapping[str, str]) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

    return "{" + ",".join(f'{name}="{escape(value)}"' for name, value in labels.items()) + "}" if labels else ""
