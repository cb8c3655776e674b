"""What the page says, in the visitor's language: one plain catalog (JSON: key -> text) for each."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

ENGLISH = "en"
LANGUAGES = (ENGLISH, "de", "fr", "es", "tr")


@cache
def catalog(language: str) -> dict[str, str]:
    """A language's texts by their keys."""
    return json.loads((files("editproof") / "assets" / "texts" / f"{language}.json").read_text(encoding="utf-8"))


def say(language: str, key: str, **values: Any) -> str:
    """The text for `key`, its {names} replaced by `values`."""
    return catalog(language)[key].format(**values)


def language_of(request: Any) -> str:
    """The language that a browser asks for first, if there is a catalog for it, else English."""
    asked = str((getattr(request, "headers", None) or {}).get("accept-language") or "")
    first = asked.partition(",")[0].partition(";")[0].partition("-")[0].strip().lower()
    return first if first in LANGUAGES else ENGLISH
