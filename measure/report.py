"""One page for a measurement that a browser shows without any network: a verdict in words, figures, charts."""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar

from measure import charts
from measure.words import LANGUAGES, Phrase, translated
from rig.files import write_atomically

NAME = "report.html"
SCRIPT = Path(__file__).resolve().parent.parent / "web" / "report" / "language.js"
STYLE = """
:root { color-scheme: light dark; --quiet: #6b7280; --line: #d5d9df; --good: #1a7f4b; --bad: #b3261e }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 900px; padding: 16px }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 8px 0 }
#language { float: right; font: inherit; margin: 0 0 8px 12px; padding: 6px 12px }
figure { margin: 24px 0 } figcaption span { margin-left: 12px; white-space: nowrap }
.chart { width: 100%; height: auto; font: 12px system-ui, sans-serif } .chart text { fill: currentColor }
.grid { stroke: var(--line); stroke-width: 0.6 } .axis { fill: none; stroke: var(--quiet) }
table { border-collapse: collapse; margin: 24px 0; max-width: 100%; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid var(--line); padding: 6px 0 6px 14px; text-align: right }
th { vertical-align: bottom; line-height: 1.25 } td { white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 } .quiet { color: var(--quiet) }
.verdict { border-left: 6px solid var(--good); padding: 4px 12px; margin: 8px 0 } .bad { border-color: var(--bad) }
@media (max-width: 600px) { .chart { font-size: 17px } }
:root[lang=en] main:lang(fr), :root[lang=fr] main:lang(en) { display: none }
"""
TEXT = re.compile(r">[^<]+<")
POINT = re.compile(r"(?<=\d)\.(?=\d)")

Said = str | Phrase
Item = TypeVar("Item")


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

    text: Said
    good: bool


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of words and figures under their headings."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Said, ...], ...]

    @classmethod
    def of(cls, items: Iterable[Item], columns: Mapping[str, Callable[[Item], Said]]) -> "Table":
        """A row for each item; `columns` say of it what stands below their headings."""
        return cls(tuple(columns), tuple(tuple(tell(item) for tell in columns.values()) for item in items))


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves of `measure.charts` over a common axis."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[charts.Series]


def write_report(
    folder: Path, title: str, about: Phrase, verdicts: Sequence[Verdict], content: Sequence[Table | Chart]
) -> dict[str, Any]:
    """`report.html` in a folder, in both languages; where it lies and the verdicts, as a command tells them."""
    mains = (_main(language, title, about, verdicts, content) for language in LANGUAGES)
    script = f"{SCRIPT.read_text(encoding='utf-8')}speak(() => {{}});"
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f'<button id="language"></button>{"".join(mains)}<script>{script}</script></html>\n'
    )
    path = folder / NAME
    write_atomically(path, page.encode())
    return {"report": str(path), "verdicts": [str(item.text) for item in verdicts]}


def write_csv(path: Path, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """The figures of a measurement, for those who draw their own charts."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([headings, *rows])


def in_words(result: Mapping[str, Any]) -> str:
    """What a command of measure/ prints for people: its verdicts, and where the report lies."""
    return "\n".join([*result["verdicts"], result["report"]])


def _main(
    language: str, title: str, about: Phrase, verdicts: Sequence[Verdict], content: Sequence[Table | Chart]
) -> str:
    def said(text: Said) -> str:
        return escape(translated(text, language))

    words = "".join(_verdict(said(item.text), item.good) for item in verdicts)
    body = "".join(_table(part, said) if isinstance(part, Table) else _chart(part, language) for part in content)
    main = f'<main lang="{language}"><h1>{said(title)}</h1><p class="quiet">{said(about)}</p>{words}{body}</main>'
    return TEXT.sub(_with_commas, main) if language == "fr" else main


def _with_commas(text: re.Match[str]) -> str:
    return POINT.sub(",", text.group())


def _verdict(text: str, good: bool) -> str:
    kind, mark = ("verdict", "&#10003;") if good else ("verdict bad", "&#9888;")
    return f'<p class="{kind}">{mark} {text}</p>'


def _table(table: Table, said: Callable[[Said], str]) -> str:
    head = "".join(f"<th>{said(text)}</th>" for text in table.headings)
    rows = "".join("<tr>" + "".join(f"<td>{said(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _chart(chart: Chart, language: str) -> str:
    title, x_label, y_label = (translated(text, language) for text in (chart.title, chart.x_label, chart.y_label))
    return charts.chart(title, x_label, y_label, chart.series)
