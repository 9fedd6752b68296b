"""The server's pages as HTML: which language, which theme, which version of the scripts."""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from flask import Response, current_app, render_template, request

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
LANGUAGES = ("fr", "en")
THEMES = ("auto", "light", "dark")
UNBROKEN = re.compile(r"(?<=«) | (?=[:;!?»%])|(?<=[\d}]) (?=(?:ms|cm|s|sat|dB)\b)")  # no line ends at such a space


def show_page(template: str, **values: Any) -> Response:
    """A page of the templates; what was chosen of language and theme is remembered."""
    html = render(template, **values)
    response = Response(html, mimetype="text/html", headers={"Cache-Control": "no-store", "Vary": "Accept-Language"})
    for name, chosen in (("lang", _language()), ("theme", _theme())):
        if name in request.args:
            response.set_cookie(name, chosen, max_age=365 * 86400, samesite="Strict", path="/")
    return response


def render(template: str, **values: Any) -> str:
    """A template in the language and the theme that were chosen."""
    language = _language()
    closed = current_app.extensions["gate"].closed
    shown = {"t": _texts(language), "language": language, "languages": LANGUAGES, "web": f"/web/{assets_version()}"}
    return render_template(template, **shown, theme=_theme(), themes=THEMES, closed=closed, **values)


@cache
def assets_version() -> str:
    """Changes with the contents of all style sheets and scripts."""
    files = sorted(path for folder in ("css", "js") for path in (WEB / folder).iterdir())
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _language() -> str:
    """What was chosen, else what the phone speaks; en-GB before fr is English, which `best_match` does not see."""
    spoken = (tag.split("-")[0].lower() for tag in request.accept_languages.values())
    return _chosen("lang", LANGUAGES) or next((tag for tag in spoken if tag in LANGUAGES), LANGUAGES[0])


def _theme() -> str:
    return _chosen("theme", THEMES) or THEMES[0]


def _chosen(name: str, among: Sequence[str]) -> str:
    asked = (request.args.get(name), request.cookies.get(name))
    return next((value for value in asked if value and value in among), "")


@cache
def _texts(language: str) -> dict[str, str]:
    texts: dict[str, str] = json.loads((WEB / "i18n" / f"{language}.json").read_text(encoding="utf-8"))
    return {key: UNBROKEN.sub("\N{NO-BREAK SPACE}", text) for key, text in texts.items()}
