"""One page for a measurement that a browser shows without any network: a verdict in words, figures, charts."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rig.files import write_atomically

NAME = "report.html"
STYLE = """
:root { color-scheme: light dark; --quiet: #6b7280; --line: #d5d9df; --good: #1a7f4b; --bad: #b3261e }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 760px; padding: 16px }
h1 { font-size: 1.4rem } figure { margin: 24px 0 } figcaption span { margin-left: 12px; white-space: nowrap }
.chart { width: 100%; height: auto; font: 12px system-ui, sans-serif } .chart text { fill: currentColor }
.grid { stroke: var(--line); stroke-width: 0.6 } .axis { fill: none; stroke: var(--quiet) }
table { border-collapse: collapse; width: 100%; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid var(--line); padding: 6px 10px 6px 0; text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left } .quiet { color: var(--quiet) }
.verdict { border-left: 6px solid var(--good); padding: 4px 12px; margin: 8px 0 } .bad { border-color: var(--bad) }
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure and the half-width that holds the truth in 99 % of cases."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:+.2f} ± {self.error:.2f}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A sentence that answers the question, and whether that is as it should be."""

    text: str
    good: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words and figures under their headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def write_report(
    folder: Path, title: str, about: str, verdicts: Sequence[Verdict], content: Sequence[Table | str]
) -> Path:
    """`report.html` in a folder, from tables and the charts of `rig.charts`; its path."""
    body = "".join(part if isinstance(part, str) else _table(part) for part in content)
    words = "".join(map(_verdict, verdicts))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f'<h1>{escape(title)}</h1><p class="quiet">{escape(about)}</p>{words}{body}</html>\n'
    )
    path = folder / NAME
    write_atomically(path, page.encode())
    return path


def _verdict(item: Verdict) -> str:
    kind, mark = ("verdict", "&#10003;") if item.good else ("verdict bad", "&#9888;")
    return f'<p class="{kind}">{mark} {escape(item.text)}</p>'


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(text)}</th>" for text in table.headings)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
