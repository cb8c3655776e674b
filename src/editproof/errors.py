"""The one exception for mistakes a user can make: the command line prints it as one line and exits with 2."""

import unicodedata

JOINER = "\u200d"  # between the parts of an emoji


class UserError(ValueError):
    """A value the user gave cannot be used; the message names the value and what is allowed."""


class AlreadyProtected(UserError):
    """A photo or clip that is protected already was to be protected."""


def printable(text: str, lines: bool = False) -> str:
    """A text that others have written, such as a file's name, safe to print: what would steer a terminal, turn letters
    around or forge a line is written out (\\x1b). `lines`: line breaks and tabs stay."""
    return "".join(c if _harmless(c, lines) else c.encode("unicode_escape").decode("ascii") for c in text)


def _harmless(letter: str, lines: bool) -> bool:
    if letter == JOINER or (lines and letter in "\n\t"):
        return True
    return unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
