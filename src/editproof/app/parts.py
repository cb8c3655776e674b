"""Components of the page whose texts follow the visitor's language: built in English, told again when a page opens."""

from collections.abc import Callable
from functools import partial
from typing import Any

from editproof.app.texts import ENGLISH, say

Say = Callable[..., str]  # (key, **values) -> text
Texts = dict[Any, Callable[[Say], dict[str, Any]]]  # component -> its texts, by property


def part(texts: Texts, kind: Any, told: Callable[[Say], dict[str, Any]], **settings: Any) -> Any:
    """A component of this `kind` with the texts that `told` gives for a language; they are remembered in `texts`."""
    component = kind(**told(partial(say, ENGLISH)), **settings)
    texts[component] = told
    return component


def in_language(texts: Texts, language: str) -> dict[Any, dict[str, Any]]:
    """The texts of all components in a language, by component and property; none for English, which is there."""
    if language == ENGLISH:
        return {}
    return {component: told(partial(say, language)) for component, told in texts.items()}
