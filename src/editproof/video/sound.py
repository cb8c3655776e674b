"""Sound and subtitles beside the frames: copied packet by packet where the container holds them, else converted."""

from typing import Any

from editproof.photo.metadata import KEEP
from editproof.photo.prose import holds_picture
from editproof.video.metadata import Said, chosen, kept

ENCODERS = {"webm": "libopus", "mp4": "aac", "mov": "aac", "mkv": "libopus"}  # for sound that a container cannot hold
COVER = b"METADATA_BLOCK_PICTURE"  # of a Vorbis comment: the picture in base64 (FLAC's format)
RATE = 48_000  # samples a second of Opus; AAC keeps the rate


class Copied:
    """A stream whose packets go into the result as they are. Raises ValueError where the container cannot hold it."""

    def __init__(self, target: Any, stream: Any, metadata: str = KEEP) -> None:
        self.stream = target.add_stream_from_template(stream, opaque=True)
        _describe(self.stream, stream, metadata)

    def take(self, packet: Any) -> list[Any]:
        """The packets to write for one of the clip's."""
        if not packet.size:
            return []
        packet.stream = self.stream
        return [packet]

    def rest(self) -> list[Any]:
        """The packets to write at the end."""
        return []


class Converted:
    """Sound that is decoded and encoded anew."""

    def __init__(self, target: Any, stream: Any, kind: str, metadata: str = KEEP) -> None:
        name = ENCODERS[kind]
        rate = RATE if name == "libopus" else stream.rate
        self.stream = target.add_stream(name, rate=rate, layout=stream.layout.name)
        self.said = f"stream {stream.index}: audio, {stream.codec_context.name} became {name.removeprefix('lib')}"
        _describe(self.stream, stream, metadata)

    def take(self, packet: Any) -> list[Any]:
        """The packets to write for one of the clip's."""
        return [new for frame in packet.decode() for new in self.stream.encode(frame)]

    def rest(self) -> list[Any]:
        """The packets to write at the end."""
        return self.stream.encode(None)


def beside(target: Any, stream: Any, kind: str, library: Any, metadata: str = KEEP) -> Copied | Converted | str:
    """What takes a stream's packets to the result, or why nothing can."""
    try:
        if hides_picture(stream.codec_context.extradata if stream.type == "audio" else None):
            raise ValueError("a picture is in its headers")
        return Copied(target, stream, metadata)
    except (ValueError, library.FFmpegError) as error:
        why = f"stream {stream.index}: {stream.type} ({' '.join(str(error).split())})"
    if stream.type != "audio":
        return why
    try:
        return Converted(target, stream, kind, metadata)
    except (ValueError, library.FFmpegError):
        return why


def hides_picture(headers: bytes | None) -> bool:
    """Whether the headers of a sound stream hold a cover picture, as Vorbis and FLAC can have it."""
    return headers is not None and (COVER in headers.upper() or holds_picture(headers))


def _describe(copy: Any, stream: Any, metadata: str) -> None:
    language = {key: value for key, value in stream.metadata.items() if key.lower() == "language"}
    copy.metadata.update({**kept(language), **kept(chosen(Said(dict(stream.metadata)), metadata).clip)})
    copy.disposition = stream.disposition
