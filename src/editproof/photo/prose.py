"""Whether a text is one that people write: what is published with a photo must not hold a picture in any encoding.

Base64, base32, hexadecimal, decimal and percent-encoded bytes, uuencode, base85, split over words, lines or list items
as they may be, do not read as words do. It is no protection against somebody who hides a picture on purpose.
"""

import re

SHORT = 40  # characters that may say anything: too few for a picture
LONGEST_WORD, LONGEST_ADDRESS, ADDRESSES = 40, 120, 3  # characters of a word; of a web address, and how many
MOST_ODD = 0.4  # of the characters may be in odd words
SHORTEST_MEAN, MOST_DIGITS, FEWEST_VOWELS = 2.5, 0.5, 0.22  # of words, of letters and digits, of letters
MOST_CAPITALS, MOST_DIGITS_AMONG_CAPITALS = 0.8, 0.15  # of letters: base32
PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"WEBPVP8", b"ftypavif", b"ftyphei", b"ftypmif1", b"GIF8", b"8BIM")
WORD = re.compile(  # lower, Capital, CAPITALS with a vowel, CamelCase, a number, or a few of these joined
    r"(?:[a-z]+|[A-Z][a-z]*|(?=\w*[AEIOUY])[A-Z]{2,}|(?:[A-Z][a-z]{2,}){2,}|\d{1,4}(?:[.,:]\d{1,6})*[a-z]{0,2})"
    r"(?:['\u2019./-](?:[a-z]+|[A-Z][a-z]*|\d{1,4}[a-z]{0,2}))*"
)
AROUND = ".,;:!?()[]{}<>\"'\u2019\u201c\u201d\u2018\u00ab\u00bb#@&*-\u2013\u2014/|+=%$\u20ac\u00a9\u2026"
ADDRESS = re.compile(r"(?:https?://|www\.)\S+|\S+@\S+\.\w+")


def reads_as_text(text: str) -> bool:
    """Whether a text may be published: short, or made of words, and printable throughout."""
    if not all(c.isprintable() or c in "\t\n\r" for c in text):
        return False
    if len(text) <= SHORT:
        return True
    words = text.split()
    addresses = [word for word in words if ADDRESS.fullmatch(word)]
    words = [word for word in words if not ADDRESS.fullmatch(word)]
    if len(addresses) > ADDRESSES or any(len(word) > LONGEST_ADDRESS for word in addresses):
        return False
    ascii_words = [word for word in (w.strip(AROUND) for w in words if w.isascii()) if word]
    if any(len(word) > LONGEST_WORD for word in ascii_words):
        return False
    joined = "".join(ascii_words)
    if len(joined) <= SHORT:
        return True
    odd = sum(len(word) for word in ascii_words if not WORD.fullmatch(word))
    digits, letters = sum(c.isdigit() for c in joined), sum(c.isalpha() for c in joined)
    capitals, vowels = sum(c.isupper() for c in joined), sum(c in "aeiouyAEIOUY" for c in joined)
    if capitals > MOST_CAPITALS * letters and digits > MOST_DIGITS_AMONG_CAPITALS * letters:
        return False
    return (
        odd <= MOST_ODD * len(joined)
        and len(joined) >= SHORTEST_MEAN * len(ascii_words)
        and digits <= MOST_DIGITS * (digits + letters)
        and vowels >= FEWEST_VOWELS * letters
    )


def holds_picture(value: bytes) -> bool:
    """Whether the beginning of a picture file, or Photoshop's resources, are somewhere in these bytes."""
    return any(beginning in value for beginning in PICTURES)
