"""Who may ask, and how often: API keys, of which only digests are kept, and a token bucket for each."""

import hashlib
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from editproof.errors import UserError

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
LINE = re.compile(r"([A-Za-z0-9._-]{1,64})\s+([0-9a-f]{64})")
BUCKETS = 10_000  # that are remembered


def new_key(name: str, file: Path) -> str:
    """Append a new key's name and digest to the file, and return the key, which is nowhere else. Raises UserError."""
    if not NAME.fullmatch(name):
        raise UserError(f"name '{name}' of a key; allowed: 1 to 64 letters, digits, dots, dashes and underscores")
    if file.exists() and name in read_keys(file).values():
        raise UserError(f"name '{name}' is in '{file}' already; allowed: another name")
    key = f"ep_{secrets.token_urlsafe(32)}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=0o600)
    whole = file.read_bytes().endswith(b"\n") or not file.stat().st_size  # an editor may have left the last line open
    with file.open("a") as lines:
        lines.write(f"{'' if whole else chr(10)}{name} {digest(key)}\n")
    return key


def read_keys(file: Path) -> dict[str, str]:
    """Digest -> name, of a file with a name and a SHA-256 digest on each line (`#`: a comment). Raises UserError."""
    if not file.is_file():
        raise UserError(f"keys '{file}': no such file; allowed: one that `editproof serve-key` has written")
    found: dict[str, str] = {}
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        matched = LINE.fullmatch(line.strip())
        if matched is None:
            raise UserError(f"keys '{file}', line {number}: allowed is a name and the SHA-256 of a key, in hexadecimal")
        found[matched[2]] = matched[1]
    if not found:
        raise UserError(f"keys '{file}' holds no key; allowed: one that `editproof serve-key` has written")
    return found


def digest(key: str) -> str:
    """What is kept of a key. It has 256 random bits, so that a plain hash cannot be undone."""
    return hashlib.sha256(key.encode()).hexdigest()


def name_of(headers: Mapping[str, str], keys: Mapping[str, str]) -> str | None:
    """Whose key the headers hold (`Authorization: Bearer KEY` or `X-API-Key: KEY`); None if nobody's.

    Looked up by digest, so that how long it takes tells nothing about a key.
    """
    scheme, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
    return keys.get(digest(key)) if key else None


class Rate:
    """`minute` requests a minute for each name, and as many at once as have not been used in a minute."""

    def __init__(self, minute: float, now: Callable[[], float] = time.monotonic) -> None:
        self.minute, self._now = minute, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when there were that many

    def wait(self, name: str) -> int:
        """0 if `name` may ask now, which is counted; otherwise the seconds until it may."""
        now = self._now()
        tokens, then = self._buckets.pop(name, (self.minute, now))
        tokens = min(self.minute, tokens + (now - then) * self.minute / 60)
        allowed = tokens >= 1
        self._buckets[name] = (tokens - allowed, now)
        while len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - tokens) * 60 / self.minute))
