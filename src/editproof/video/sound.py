"""Sound and subtitles beside the frames: copied packet by packet where the container holds them, else converted."""

from typing import Any

from editproof.video.metadata import kept

ENCODERS = {"webm": "libopus", "mp4": "aac", "mov": "aac", "mkv": "libopus"}  # for sound that a container cannot hold
RATE = 48_000  # samples a second of Opus; AAC keeps the rate


class Copied:
    """A stream whose packets go into the result as they are. Raises ValueError where the container cannot hold it."""

    def __init__(self, target: Any, stream: Any) -> None:
        self.stream = target.add_stream_from_template(stream, opaque=True)
        _describe(self.stream, stream)

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

    def __init__(self, target: Any, stream: Any, kind: str) -> None:
        name = ENCODERS[kind]
        rate = RATE if name == "libopus" else stream.rate
        self.stream = target.add_stream(name, rate=rate, layout=stream.layout.name)
        self.said = f"stream {stream.index}: audio, {stream.codec_context.name} became {name.removeprefix('lib')}"
        _describe(self.stream, stream)

    def take(self, packet: Any) -> list[Any]:
        """The packets to write for one of the clip's."""
        return [new for frame in packet.decode() for new in self.stream.encode(frame)]

    def rest(self) -> list[Any]:
        """The packets to write at the end."""
        return self.stream.encode(None)


def beside(target: Any, stream: Any, kind: str, library: Any) -> Copied | Converted | str:
    """What takes a stream's packets to the result, or why nothing can."""
    try:
        return Copied(target, stream)
    except (ValueError, library.FFmpegError) as error:
        why = f"stream {stream.index}: {stream.type} ({' '.join(str(error).split())})"
    if stream.type != "audio":
        return why
    try:
        return Converted(target, stream, kind)
    except (ValueError, library.FFmpegError):
        return why


def _describe(copy: Any, stream: Any) -> None:
    copy.metadata.update(kept(stream.metadata))
    copy.disposition = stream.disposition
