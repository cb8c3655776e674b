"""What people write: numbers (8/255, 0.03), seeds, settings (samples=4, YAML files)."""

import ast
import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from editproof.errors import UserError

LONGEST_YAML, MOST_ALIASES, DEEPEST = 1_000_000, 1000, 50
LARGEST_SEED = 2**63 - 1


def parse_number(text: str, option: str, largest: float) -> float:
    """'8/255' or '0.03' -> a number above 0 and at most `largest`, or a UserError."""
    matched = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*(?:/\s*(\d+\.?\d*|\.\d+)\s*)?", text)
    number = math.nan
    if matched and float(matched[2] or 1) > 0:
        number = float(matched[1]) / float(matched[2] or 1)
    if not 0 < number <= largest:
        limit = f" and at most {largest:g}" if largest < math.inf else ""
        raise UserError(f"{option} '{text}': allowed is a fraction (8/255) or a decimal (0.03), above 0{limit}")
    return number


def parse_eps(text: str, option: str) -> float:
    """The largest change of a channel, in [0, 1] and at least one level of an 8-bit picture, or a UserError."""
    number = parse_number(text, option, 1.0)
    if number < 0.999 / 255:
        raise UserError(f"{option} '{text}' is less than one level of an 8-bit picture; allowed: 1/255 and more")
    return number


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """['samples=4', 'momentum=.9'] -> {'samples': 4, 'momentum': .9}; what is not a Python literal stays text."""
    settings = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name.isidentifier():
            raise UserError(f"--set '{pair}' is not usable; allowed: NAME=VALUE, such as samples=4")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):  # the latter two of thousands of brackets
            settings[name] = value
    return settings


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The settings in a YAML file, one 'name: value' a line; none in an empty one. Raises UserError for other files."""
    try:
        values = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config '{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except ValueError as error:
        raise UserError(f"config '{path}' is not YAML: {error}") from None
    if values is not None and not isinstance(values, dict):
        raise UserError(f"config '{path}' holds a {type(values).__name__}; allowed: one 'name: value' a line")
    return values or {}


def parse_yaml(text: str) -> Any:
    """What a YAML text says. Raises ValueError in one line for all that is wrong with it: syntax, thousands of brackets
    inside each other, numbers that no number can hold, more aliases than a person writes."""
    import yaml

    if len(text) > LONGEST_YAML or text.count("*") > MOST_ALIASES:
        raise ValueError(f"more than {LONGEST_YAML:,} characters or {MOST_ALIASES:,} aliases")
    depth = itertools.accumulate((c in "[{") - (c in "]}") for c in text)
    if max(depth, default=0) > DEEPEST:  # the parser takes the square of it
        raise ValueError("too many things inside each other")
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("too many things inside each other") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:  # TypeError: keys that cannot be keys
        raise ValueError(" ".join(str(error).split())) from None
