"""What the app says: strengths and counter-attacks in plain words, status lines, errors without folders and options."""

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

# word -> (levels of 255, what to expect)
STRENGTHS = {
    "invisible": (4, "hardly visible, protects least"),
    "balanced": (8, "faint"),
    "strong": (16, "plain to see on smooth areas, protects most"),
}
WEAKEST, USUAL, STRONGEST = 2, 8, 16  # levels of 255 on the first tab's slider
LEVELS = (4, 6, 10)  # up to which of them a strength is hardly visible, faint, visible on smooth areas
PERSON, PAINTED, WHOLE = "person", "painted", "whole"
REGIONS = (PERSON, PAINTED, WHOLE)
MIDDLE = "middle"
ATTACKED = {
    PERSON: "All but the people (found for you)",
    MIDDLE: "All but the middle",
}
# counters as `editproof bench` writes them -> in words
COUNTERS = {
    "none": "nothing",
    "jpeg:75": "save it as a JPEG of quality 75",
    "jpeg:50": "save it as a JPEG of quality 50",
    "social:75": "post it: scaled to 1080 pixels, then a JPEG of quality 75",
    "resize:0.5": "scale it to half its size and back",
    "blur:1": "blur it a little",
    "noise:0.03": "add noise",
    "resize:0.5+jpeg:75": "scale it to half and back, then a JPEG",
}
HONEST = (
    "Protection raises the cost of editing and never makes it impossible. It was measured against the small editors "
    "that come with editproof only; its effect on Stable Diffusion, FLUX or online services is unknown until measured."
)
MAY_EDIT = "Edit only photos that you may edit: your own, or with the consent of whoever is in them."
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


def strength_choices() -> list[tuple[str, str]]:
    """For a choice of strengths: (label, word)."""
    return [(f"{word.capitalize()} ({levels}/255)", word) for word, (levels, _) in STRENGTHS.items()]


def strength_note() -> str:
    """What the strengths mean."""
    notes = "; ".join(f"{word}: {note}" for word, (_, note) in STRENGTHS.items())
    return f"eps, how far a colour may move. {notes.capitalize()}."


def eps_of(strength: str | float) -> float:
    """A strength's largest change of a colour channel, in [0,1]; it is a word, or levels of 255. Raises UserError."""
    if isinstance(strength, int | float) and WEAKEST <= strength <= STRONGEST:
        return strength / 255
    if strength not in STRENGTHS:
        raise UserError(f"strength '{strength}' is unknown; allowed: {', '.join(STRENGTHS)}")
    return STRENGTHS[str(strength)][0] / 255


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
