"""What people write: numbers (8/255, 0.03), seeds, settings (samples=4, YAML files)."""

import ast
import itertools
import math
import re
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from editproof.errors import UserError

LONGEST_YAML, MOST_ALIASES, DEEPEST = 1_000_000, 1000, 50
LARGEST_SEED = 2**63 - 1


def check_seed(seed: object) -> None:
    """Raise UserError for what no random numbers can start from."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= LARGEST_SEED:
        raise UserError(f"seed {seed!r}; allowed: a whole number from 0 to {LARGEST_SEED}")


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


@dataclass(frozen=True)
class Allowed:
    """What the settings of a dataclass may be, by name ("network.depths" of one in another), beyond what types say.

    limits: of every number, (smallest, largest). choices: of texts. special: how others are read.
    """

    limits: Mapping[str, tuple[float, float]]
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    special: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)


def settings_of(kind: Any, values: Any, allowed: Allowed, prefix: str = "") -> Any:
    """A dataclass of settings with the given values, the others by default; UserError for what is not allowed."""
    names = [item.name for item in fields(kind)]
    if not isinstance(values, Mapping):
        raise UserError(f"{prefix.rstrip('.')}: {values!r}; allowed: settings named {', '.join(names)}")
    for name in values:
        if name not in names:
            raise UserError(f"unknown setting '{prefix}{name}'; allowed: {', '.join(names)}")
    hints = get_type_hints(kind)
    return kind(**{name: _setting(prefix + name, value, hints[name], allowed) for name, value in values.items()})


def _setting(name: str, value: Any, kind: Any, allowed: Allowed) -> Any:
    """`value` as a setting of this type; one that may be None first."""
    if get_origin(kind) is types.UnionType and types.NoneType in get_args(kind):
        return None if value is None else _setting(name, value, get_args(kind)[0], allowed)
    if name in allowed.special:
        return allowed.special[name](value)
    if is_dataclass(kind):
        return settings_of(kind, value, allowed, f"{name}.")
    if get_origin(kind) is tuple and get_args(kind)[0] is str:
        return read_texts(name, value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{name}: {value!r}; allowed: a list of whole numbers")
        return tuple(_setting(name, item, get_args(kind)[0], allowed) for item in value)
    if get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise UserError(f"{name}: {value!r}; allowed: one 'name: value' a line")
        return {str(key): item for key, item in value.items()}
    if kind is str:
        choices = allowed.choices.get(name)
        if not isinstance(value, str) or not value or (choices and value not in choices):
            raise UserError(f"{name}: {value!r}; allowed: {' or '.join(choices) if choices else 'a text'}")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{name}: {value!r}; allowed: true or false")
        return value
    return read_number(name, value, kind, *allowed.limits[name])


def read_texts(name: str, value: Any) -> tuple[str, ...]:
    """One or more texts, each once; a single one may stand without a list. Raises UserError for anything else."""
    items = value if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str | int | float) and str(item).strip() for item in items):
        raise UserError(f"{name}: {value!r}; allowed: a list of one or more names")
    return tuple(dict.fromkeys(str(item).strip() for item in items))


def read_number(name: str, value: Any, kind: type, low: float, high: float) -> Any:
    """A number of a settings file as int or float, from `low` to `high`, or a UserError.

    It may be written as a text (YAML reads 1e-5 as one) or a fraction.
    """
    number = None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError, ZeroDivisionError, OverflowError):
            number = Fraction(value)
    if number is None or not low <= number <= high or (kind is int and number.denominator != 1):
        what = "a whole number" if kind is int else "a number, also written 8/255,"
        ends = [f"{end:g}" if abs(end) < 1e6 else str(end) for end in (low, high)]
        span = f"of at least {ends[0]}" if high == math.inf else f"from {ends[0]} to {ends[1]}"
        raise UserError(f"{name}: {value!r}; allowed: {what} {span}")
    return kind(number)
