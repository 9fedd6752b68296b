"""What a stranger reads is true: commands, options, links, settings, routes, figures. The procedure fits two pages."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path

import pytest

from configs import ENVIRONMENT_PREFIX, Settings
from rig.photo.photos import COLUMNS
from tests.browser.chromium import browsing

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "Procédure.md", *sorted(DOCS.rglob("*.md"))]
SCRIPTS = ("parseVideo.py", "parsePhotos.py", "capturePositions.py", "gopro.py", "configs.py", "server.py")
VERBS = {
    "demo": ["-m", "simulator", "demo"],
    "serve": ["server.py"],
    "verify": ["-m", "rig.drive.checksums"],
    "measure": ["-m", "measure"],
}
MOST_LINES = 140
MOST_PAGES = 2
ALARMS = re.compile(r"\{\w+\}")  # what stands for a camera or a recording
INLINE = (
    (re.compile(r"!?\[([^]]*)\]\([^)]*\)"), r"<u>\1</u>"),
    (re.compile(r"`([^`]*)`"), r"<code>\1</code>"),
    (re.compile(r"\*\*([^*]*)\*\*"), r"<b>\1</b>"),
    (re.compile(r"\*([^*]*)\*"), r"<i>\1</i>"),
)
PAPER = """<style>
@page { margin: 12mm } body { font: 9.5pt/1.25 sans-serif } code { font-size: 8pt } p, ol { margin: 2pt 0 }
h1 { font-size: 15pt; margin: 0 } h2 { font-size: 11.5pt; margin: 6pt 0 2pt }
table { border-collapse: collapse; width: 100% }
td, th { border: 1px solid #999; padding: 1pt 3pt; text-align: left; font-size: 8.5pt }
</style>"""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def commands(page: Path) -> list[list[str]]:
    """The words of each line of a page's sh blocks and of each command within a line, without comments."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text(page), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`((?:sudo )?(?:\./edencar|python3?) [^`\n]+)`", text(page))
    return [words for line in lines if (words := _words(line))]


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a piece of a longer command
        return []
    return words[1:] if words[:1] == ["sudo"] else words


def called(words: list[str]) -> list[str]:
    """What tells a command's options: a script or module of ours, or what a verb of the entrance calls; else empty."""
    if words[0] == "./edencar":
        return VERBS.get(words[1], []) if len(words) > 1 else []
    if words[0].rpartition("/")[2] not in ("python", "python3") or len(words) < 2:
        return []
    if words[1] == "-m":
        return words[1:3] if words[2].partition(".")[0] in ("rig", "benchmarks", "simulator", "measure") else []
    return [words[1]] if words[1] in SCRIPTS else []


@cache
def help_of(*target: str) -> str:
    """What a command says of itself."""
    command = [sys.executable, *target, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_file_that_a_page_links_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text(page)):
        assert link.startswith("http") or (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_script_verb_and_module_of_a_page_is_there(page: Path) -> None:
    verbs = re.findall(r"^([a-z |]+)\)$", text(ROOT / "edencar"), re.MULTILINE)
    known = {verb.strip() for line in verbs for verb in line.split("|")}
    for words in commands(page):
        if words[0] == "./edencar" and len(words) > 1:
            assert words[1] in known, words
        if words[:2] == ["./edencar", "bench"] and len(words) > 2:
            assert (ROOT / "benchmarks" / f"{words[2]}.py").exists(), words
        if words[0] == "python" and words[1].endswith(".py"):
            assert (ROOT / words[1]).exists(), words
        if words[:2] == ["python", "-m"]:
            assert find_spec(words[2]) is not None, words


def test_each_benchmark_says_what_it_measures_before_it_does() -> None:
    for file in (ROOT / "benchmarks").glob("[!_]*.py"):
        assert "ArgumentParser(description=__doc__)" in text(file), file


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "troubleshooting.md"], ids=lambda page: page.name)
def test_each_option_of_a_page_exists(page: Path) -> None:
    asked = 0
    for words in commands(page):
        target = called(words)
        verb = [word for word in words[2:3] if word in ("discover", "status", "settings", "delay", "drift", "fov")]
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            if target:
                assert option in help_of(*target, *verb), words
                asked += 1
            if words[:2] == ["./edencar", "install"]:
                assert option in text(ROOT / "system/install"), words
    assert asked > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_setting_in_the_environment_exists(page: Path) -> None:
    for name in re.findall(rf"\b{ENVIRONMENT_PREFIX}([A-Z_]+)=", text(page)):
        assert name.lower() in Settings.__slots__, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_each_route_of_a_page_exists(page: Path) -> None:
    document = text(DOCS / "api.md")  # which is made from the routes: tests/test_api_document.py
    routes = {re.sub(r"\{\w+\}|<\w+>|\$\w+", "*", route) for route in re.findall(r"`[A-Z]+ (/\S*)`", document)}
    for route in re.findall(r"(?:[a-z]|>|GET |POST |PATCH |DELETE |`)(?::5000)?(/api/[^\s`\"'?)]+)", text(page)):
        general = re.sub(r"\{\w+\}|<\w+>|\$\w+", "*", route).rstrip(".,;->")
        pattern = "|".join(re.escape(known).replace(r"\*", ".+") for known in routes)
        assert "..." in general or general.endswith("/") or re.fullmatch(pattern, general), route


def test_the_readme_is_short_and_says_nothing_twice() -> None:
    lines = text(ROOT / "README.md").splitlines()
    assert len(lines) <= MOST_LINES
    long = [line for line in lines if len(line) > 40]
    assert len(long) == len(set(long))
    assert text(ROOT / "README.md").count("./edencar install") == 1


def test_the_readme_leads_to_each_page_of_the_documentation() -> None:
    for page in DOCS.glob("*.md"):
        assert f"(docs/{page.name})" in text(ROOT / "README.md"), page


def test_each_figure_of_the_readme_is_told_where_it_was_measured() -> None:
    told = " ".join(text(DOCS / f"{name}.md") for name in ("time", "receiver", "cameras", "display-latency"))
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| `\./edencar bench (\w+)[^`]*` \|$", text(ROOT / "README.md"), re.MULTILINE
    )
    assert len(rows) > 5
    for promise, figure, _ in rows:
        for number in re.findall(r"\d[\d.,]*\d|\d", figure):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.]*\d)", told), f"{promise}: {number}"


def test_the_photo_of_the_readme_has_the_columns_of_the_table() -> None:
    (block,) = re.findall(r"```\n(photo .*?)```", text(ROOT / "README.md"), re.DOTALL)
    cells = [re.split(r"\s{2,}", re.sub(r"\(.*\)", "", line).strip()) for line in block.splitlines()]
    names = [name for row in cells for name in row[::2]]
    assert len(names) > 10
    assert set(names) <= set(COLUMNS)


def test_the_procedure_names_each_alarm_as_the_page_shows_it() -> None:
    words = json.loads(text(ROOT / "web/i18n/fr.json"))
    alarms = [value for name, value in words.items() if name.startswith("problem.")]
    assert len(alarms) > 15
    for alarm in alarms:
        assert f"| {ALARMS.sub('…', alarm)} |" in text(ROOT / "Procédure.md"), alarm


def test_the_procedure_fits_two_pages_of_a4(tmp_path: Path) -> None:
    with browsing() as browser:
        page = browser.new_page()
        page.set_content(PAPER + html(text(ROOT / "Procédure.md")))
        page.pdf(path=tmp_path / "procedure.pdf", format="A4")
    pages = re.findall(rb"/Type\s*/Page\b", (tmp_path / "procedure.pdf").read_bytes())
    assert len(pages) == MOST_PAGES


def html(markdown: str) -> str:
    """As much of Markdown as the procedure has: headings, paragraphs, numbered lists, tables."""
    parts = []
    for block in re.split(r"\n\n+", re.sub(r"^(#+ .*)$", r"\1\n", markdown, flags=re.MULTILINE)):
        lines = block.strip("\n").splitlines()
        if not lines:
            continue
        if level := len(lines[0]) - len(lines[0].lstrip("#")):
            parts.append(f"<h{level}>{inline(lines[0].strip('# '))}</h{level}>")
        elif lines[0].startswith("|"):
            rows = [line.strip("| ").split(" | ") for line in lines if not line.startswith("| ---")]
            cells = ("".join(f"<td>{inline(cell)}</td>" for cell in row) for row in rows)
            parts.append("<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>")
        elif lines[0].startswith("1. "):
            items = re.split(r"\n?\d\. ", block)[1:]
            parts.append("<ol>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ol>")
        else:
            parts.append(f"<p>{inline(block)}</p>")
    return "\n".join(parts)


def inline(words: str) -> str:
    """Emphasis, code and links within a line."""
    words = escape(words, quote=False)
    for pattern, replacement in INLINE:
        words = pattern.sub(replacement, words)
    return words
