"""What the reports say, in both languages: English where it is said, French in `fr.json`, by its English."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("en", "fr")
FRENCH: dict[str, str] = json.loads(Path(__file__).with_name("fr.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class Phrase:
    """A sentence with figures in it, as `str.format` fills them in; `str` of it is English."""

    text: str
    values: Mapping[str, object]

    def __str__(self) -> str:
        return translated(self, "en")


def phrase(text: str, **values: object) -> Phrase:
    """A sentence with its figures."""
    return Phrase(text, values)


def translated(said: object, language: str) -> str:
    """What is said, in a language of the two; what is not known there (names, figures) as it is."""
    if isinstance(said, Phrase):
        filled = {
            name: translated(value, language) if isinstance(value, Phrase | str) else value
            for name, value in said.values.items()
        }
        return translated(said.text, language).format(**filled)
    return FRENCH.get(str(said), str(said)) if language == "fr" else str(said)
