"""What the app says beside the catalogs: names of strengths and counter-attacks, status lines, errors in one line."""

import html
import re
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from editproof.app.texts import ENGLISH, say
from editproof.app.work import Told, seconds
from editproof.errors import UserError
from editproof.files import printable
from editproof.parsing import LARGEST_SEED

STRENGTHS = {"invisible": 4, "balanced": 8, "strong": 16}  # levels of 255
WEAKEST, USUAL, STRONGEST = 2, 8, 16  # levels of 255 on the first tab's slider
HOW = {"immunizer": "quick", "autoencoder": "thorough"}  # methods on the first screen -> keys of the catalogs
LEVELS = (4, 6, 10)  # up to which of them a strength is hardly visible, faint, visible on smooth areas
PERSON, PAINTED, WHOLE = "person", "painted", "whole"
REGIONS = (PERSON, PAINTED, WHOLE)
MIDDLE = "middle"
ATTACKED = {PERSON: "edit_person", MIDDLE: "edit_middle"}  # what an attacker repaints -> a key of the catalogs
COUNTERS = {  # counters as `editproof bench` writes them -> a key of the catalogs
    "none": "counter_none",
    "jpeg:75": "counter_jpeg_75",
    "jpeg:50": "counter_jpeg_50",
    "social:75": "counter_social",
    "resize:0.5": "counter_resize",
    "blur:1": "counter_blur",
    "noise:0.03": "counter_noise",
    "resize:0.5+jpeg:75": "counter_both",
}
MARK = "AI-edited demo"

OWN_FILE = re.compile(r"[^' ]*/editproof-app-[^']*/([^'/]+)")  # a visitor's file, in a message
PAINTED_NOTHING = "What you painted is too small; paint over all that is to be protected"
# ends of the library's one-line errors that speak of the command line -> what to do here
HERE = {
    "or --force": "a shorter clip, or another method",
    "allowed: pip install 'editproof[video]'": "ask whoever runs this page to install editproof[video]",
    "allowed: --force": 'tick "Protect again" under More settings to do it anyway',
    "allowed: pip install 'editproof[heic]'": "ask whoever runs this page to install editproof[heic]",
    "--device cpu": "the CPU",
}


def eps_of(strength: str | float) -> float:
    """A strength's largest change of a colour channel, in [0,1]; it is a word, or levels of 255. Raises UserError."""
    if isinstance(strength, int | float) and WEAKEST <= strength <= STRONGEST:
        return strength / 255
    if strength not in STRENGTHS:
        raise UserError(f"strength '{strength}' is unknown; allowed: {', '.join(STRENGTHS)}")
    return STRENGTHS[str(strength)] / 255


def method_of(how: str | None, other: str | None) -> str:
    """The method that runs: `other`, for experts, goes before `how`, one of HOW; the first of HOW where neither is."""
    return other or how or next(iter(HOW))


def check_seed(seed: int | None) -> None:
    """Raise UserError for a seed that the command line would not take either."""
    if not isinstance(seed, int) or not 0 <= seed < LARGEST_SEED:
        raise UserError(f"seed {seed} cannot be used; allowed: a whole number from 0 to {LARGEST_SEED - 1}")


def bar(told: Told, language: str = ENGLISH) -> str:
    """How far the work is, as HTML that a screen reader reads out; the bar moves by itself until something is done."""
    left, share = seconds(told.left, language), f' value="{told.share:.3f}"' if told.share > 0 else ""
    return (
        f'<div class="status" role="status" aria-live="polite">{html.escape(told.what)}'
        f"{', ' + left if left else ''}</div>"
        f'<progress max="1"{share} aria-label="{html.escape(say(language, "progress"), quote=True)}"></progress>'
    )


def said(text: str) -> str:
    """A line of status."""
    return f'<div class="status" role="status" aria-live="polite">{html.escape(text)}</div>' if text else ""


def problem(*texts: str) -> str:
    """What went wrong, a line each."""
    lines = "<br>".join(html.escape(text) for text in texts)
    return f'<div class="status problem" role="alert">{lines}</div>'


def explain(error: Exception, files: Iterable[str | Path] = ()) -> str:
    """One line for the page; what is no mistake of the visitor's also goes to the terminal, whole."""
    if not isinstance(error, UserError):
        traceback.print_exception(error, file=sys.stderr)
    return plain(error, files)


def plain(error: BaseException, files: Iterable[str | Path] = ()) -> str:
    """An error as one line for someone without a terminal: names of files without their folders."""
    from editproof.protection.batch import one_line

    text = one_line(error) if isinstance(error, Exception) else str(error)
    for file in map(Path, files):
        text = text.replace(str(file), file.name)
    text = OWN_FILE.sub(r"\1", text)
    if "'painted.png'" in text:
        text = PAINTED_NOTHING
    for there, here in HERE.items():
        text = text.replace(there, here)
    return printable(text[:1].upper() + text[1:])
