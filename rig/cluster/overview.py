"""All recordings of a fleet at a glance: one HTML file and its figures as JSON."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from rig.cluster import store
from rig.gnss.fix import METRES_PER_DEGREE
from rig.photo import report

WIDTH = 1000  # of the map's view box
MOST_REMARKS = 5  # of a recording; all are in its own summary

Summary = Mapping[str, Any]


def write(folder: str, kind: str, made: Sequence[Summary], failures: Mapping[str, str]) -> str:
    """Write `<kind>.html` and `<kind>.json` into a fleet's folder; the address of the first. Raises EdencarError.

    They tell of what was made now and of all that was done there before.
    """
    marker = re.compile(re.escape(kind) + r"-.*-[0-9a-f]+\.json")
    names = sorted(name for name in store.listing(folder, deep=False) if marker.fullmatch(name))
    before = [json.loads(data) for data in store.each(store.read, (store.join(folder, name) for name in names))]
    known = {summary["recording"]: summary for summary in [*before, *made] if summary["recording"] not in failures}
    recordings = [known[name] for name in sorted(known)]
    totals = {
        "recordings": len(recordings) + len(failures),
        "done": len(recordings),
        "failed": len(failures),
        "photos": sum(summary["photos"] for summary in recordings),
        "doubtful": sum(_doubtful(summary) for summary in recordings),
    }
    data = {"totals": totals, "failures": dict(failures), "recordings": recordings}
    store.write(json.dumps(data, indent=1).encode(), store.join(folder, f"{kind}.json"))
    page = store.join(folder, f"{kind}.html")
    store.write(_page(totals, recordings, failures), page)
    return page


def _page(totals: Mapping[str, int], recordings: Sequence[Summary], failures: Mapping[str, str]) -> bytes:
    parts = {
        "@FIGURES@": "".join(_figures(totals)),
        "@FAILURES@": _failures(failures),
        "@MAP@": _map(recordings),
        "@ROWS@": "".join(_row(summary) for summary in recordings),
    }
    return report.page("fleet.html", ("language.js",), parts)


def _both(english: str, french: str) -> str:
    return f'<span lang="en">{english}</span><span lang="fr">{french}</span>'


def _figures(totals: Mapping[str, int]) -> Iterator[str]:
    words = {
        "recordings": ("recordings", "enregistrements"),
        "done": ("done", "traités"),
        "failed": ("failed", "en échec"),
        "photos": ("photos", "photos"),
        "doubtful": ("doubtful photos", "photos douteuses"),
    }
    for name, both in words.items():
        bad = " bad" if name == "failed" and totals[name] else ""
        yield f'<div class="figure{bad}"><b>{totals[name]:,}</b>{_both(*both)}</div>'.replace(",", " ")


def _failures(failures: Mapping[str, str]) -> str:
    if not failures:
        return ""
    lines = "".join(f"<li>{escape(why)}</li>" for _, why in sorted(failures.items()))
    return f'<section class="card notes bad"><h2>{_both("Failed", "En échec")}</h2><ul>{lines}</ul></section>'


def _map(recordings: Sequence[Summary]) -> str:
    """The ways of all recordings, north up, as they lie to each other."""
    ways = [(summary["recording"], summary["way"]) for summary in recordings if len(summary.get("way", ())) > 1]
    if not ways:
        return ""
    latitudes = [latitude for _, way in ways for latitude, _ in way]
    longitudes = [longitude for _, way in ways for _, longitude in way]
    narrow = math.cos(math.radians((min(latitudes) + max(latitudes)) / 2))
    span = max((max(longitudes) - min(longitudes)) * narrow, max(latitudes) - min(latitudes), 1e-9)
    scale = WIDTH / span

    def place(latitude: float, longitude: float) -> str:
        return f"{(longitude - min_lon) * narrow * scale:.1f} {(max_lat - latitude) * scale:.1f}"

    min_lon, max_lat = min(longitudes), max(latitudes)
    width = max(1.0, (max(longitudes) - min_lon) * narrow * scale)
    height = max(1.0, (max_lat - min(latitudes)) * scale)
    paths = "".join(
        f'<path class="way" d="M{"L".join(place(*point) for point in way)}"><title>{escape(name)}</title></path>'
        for name, way in ways
    )
    bar_m = 10.0 ** math.floor(math.log10(span * METRES_PER_DEGREE / 2))
    bar = f"M0 {height + 30:.0f}h{bar_m / METRES_PER_DEGREE * scale:.1f}"
    words = f"{bar_m / 1000:g} km" if bar_m >= 1000 else f"{bar_m:g} m"
    paths += f'<path class="bar" d="{bar}"/><text y="{height + 65:.0f}">{words}</text>'
    box = f"-20 -20 {width + 40:.0f} {height + 100:.0f}"
    return f'<section class="card"><svg viewBox="{box}" role="img" aria-label="Map">{paths}</svg></section>'


def _row(summary: Summary) -> str:
    times = [
        f"{escape(camera)} {values['error_ms']['middle']:.1f} ms"
        for camera, values in summary.get("calibration", {}).items()
    ]
    remarks = [*summary.get("failed", ()), *summary.get("warnings", ())]
    more = [f"… {len(remarks) - MOST_REMARKS} +"] if len(remarks) > MOST_REMARKS else []
    told = "".join(f'<p class="soft">{escape(text)}</p>' for text in [*remarks[:MOST_REMARKS], *more])
    name = escape(str(summary["recording"])).replace("/", "/<wbr>").replace("_", "_<wbr>")
    cells = (name + told, str(summary["photos"]), str(_doubtful(summary) or ""), "<br>".join(times))
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>\n"


def _doubtful(summary: Summary) -> int:
    """Photos with a flag, except those that a stop alone has given one."""
    flagged: Mapping[str, int] = summary.get("flagged", {})
    return sum(count for word, count in flagged.items() if word != "standing")
