"""Files of clips: which ones are, opening them, and their limits. Needs PyAV to open."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from editproof.errors import UserError
from editproof.photo.moving import is_animated

if TYPE_CHECKING:
    import av
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
PICTURES = (b"\xff\xd8", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")  # how files of pictures begin
PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"crx ")
ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")  # a QuickTime file begins with one of these
SIDES = (16, 8192)  # pixels
MAX_PIXELS = 8192 * 4352
EXIF = 31  # FFmpeg's number of EXIF beside a frame, as of Motion JPEG
ALLOWED = "allowed: MP4, MOV, MKV, WebM, AVI, moving GIF, PNG and WebP"


def is_clip(path: str | Path) -> bool:
    """Whether a file is a clip by its beginning, a picture that moves, or is called a clip and is no picture."""
    path, start = Path(path), _beginning(Path(path))
    if _demuxer(start) is not None or is_animated(path):
        return True
    picture = start.startswith(PICTURES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
    return path.suffix.lower() in SUFFIXES and not picture and not path.is_dir()


def _beginning(path: Path) -> bytes:
    """The first bytes of a file; none where it cannot be read, or is no regular file, which might keep us waiting."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                return file.read(64)
    except OSError:
        pass
    return b""


def _demuxer(start: bytes) -> str | None:
    """FFmpeg's name of what reads a file that begins so. Left to itself it would read playlists, and what they name."""
    if start[4:8] in ATOMS and start[8:12] not in PICTURE_BRANDS:
        return "mov"
    if start[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    return "avi" if start[:4] == b"RIFF" and start[8:12] == b"AVI " else None


def pyav(path: str | Path) -> Any:
    """The module av. Raises UserError where it is not installed."""
    os.environ.setdefault("SVT_LOG", "1")  # AV1's encoder writes errors only, not between the lines of the progress
    try:
        import av
    except ImportError:
        raise UserError(
            f"clip '{path}' is a video, which needs an extra; allowed: pip install 'editproof[video]'"
        ) from None
    av.sidedata.sidedata.Type._missing_ = classmethod(_unnamed)
    return av


def _unnamed(kind: Any, number: int) -> Any:
    """What PyAV is to call a kind of side data that this FFmpeg knows and PyAV does not, instead of an exception."""
    member = object.__new__(kind)
    member._name_, member._value_ = "EXIF" if number == EXIF else f"UNNAMED_{number}", number
    return member


@contextlib.contextmanager
def opened(path: Path) -> "Iterator[tuple[av.container.InputContainer, VideoStream]]":
    """A clip's container and its first video stream; what FFmpeg raises inside the `with` becomes a UserError."""
    library = pyav(path)
    try:
        if not path.is_file():
            raise UserError(f"clip '{path}' does not exist or is no file")
        if path.stat().st_size == 0:
            raise UserError(f"clip '{path}' is empty (0 bytes); {ALLOWED}")
        with path.open("rb"):  # says why, if it may not be read
            demuxer = _demuxer(_beginning(path))
        if demuxer is None:
            raise UserError(f"clip '{path}' is no clip that can be read; {ALLOWED}")
        with library.open(os.path.abspath(path), format=demuxer, metadata_errors="replace") as container:
            videos = [s for s in container.streams.video if not is_still(s)]
            if not videos:
                raise UserError(f"clip '{path}' has no video stream; allowed: clips with one")
            videos[0].thread_type = "AUTO"
            yield container, videos[0]
    except library.FFmpegError as error:
        raise UserError(f"clip '{path}' is damaged or cut off ({error.strerror or error})") from None
    except PermissionError:
        raise UserError(f"clip '{path}' may not be read by this user") from None


def is_still(stream: "VideoStream") -> bool:
    """Whether a video stream is a cover picture: it shows the clip unprotected."""
    return bool(stream.disposition & (0x400 | 0x800 | 0x100000))


def check_size(path: Path, width: int, height: int) -> None:
    """Raise UserError for a clip of more or fewer pixels than are allowed."""
    if min(width, height) < SIDES[0] or max(width, height) > SIDES[1] or width * height > MAX_PIXELS:
        raise UserError(
            f"clip '{path}' has {width} x {height} pixels; allowed: {SIDES[0]} to {SIDES[1]:,} a side and "
            f"{MAX_PIXELS // 1_000_000} megapixels"
        )
