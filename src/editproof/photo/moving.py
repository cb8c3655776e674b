"""Pictures that move: GIF, APNG and animated WebP. They are no photos; editproof.video takes them for clips."""

import io
from pathlib import Path

from PIL import Image

KINDS = {"GIF": "gif", "PNG": "apng", "WEBP": "webp"}


def is_animated(path: Path) -> bool:
    """Whether a file is a picture that moves; False where it cannot be read, or is no regular file."""
    try:
        with path.open("rb") if path.is_file() else io.BytesIO() as file:
            start = file.read(64)
    except OSError:
        return False
    if not (start.startswith((b"GIF8", b"\x89PNG")) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")):
        return False
    if start[:4] == b"RIFF" and (start[12:16] != b"VP8X" or not start.ljust(21, b"\0")[20] & 2):
        return False
    try:
        if start[1:4] == b"PNG":
            with path.open("rb") as file:
                head = file.read(1 << 16)
            if b"acTL" not in head.partition(b"IDAT")[0]:
                return False
        with Image.open(path, formats=tuple(KINDS)) as image:
            return bool(getattr(image, "is_animated", False))
    except Exception:  # damaged: the reader of photos says how
        return False
