"""Writing clips: frames are encoded, sound and subtitles copied as they are, times, colours and rotation kept."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from editproof.errors import UserError
from editproof.photo.metadata import KEEP
from editproof.video.metadata import Said, chosen, kept, kept_chapters, needs_list, not_said, tells_place
from editproof.video.reading import EXACT, FULL, Clip, frames_of, is_animation, levels_of, opened, pyav
from editproof.video.sound import Converted, beside

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}  # FFmpeg's names
LIMITED = 1  # FFmpeg's number of the colour range 16 to 235
THREADS = 2  # of encoders, on every machine: how many there are changes what is written


@dataclass(frozen=True)
class Codec:
    """An encoder, what it is told for a quality (crf) and otherwise, and the containers that hold it, best first."""

    encoder: str
    pixel_format: str
    kinds: tuple[str, ...]
    crf: int | None = None  # if none is asked for; None: it has none
    worst: int = 51
    lossless: bool = False
    aspect: bool = True  # whether pixels need not be square
    options: tuple[tuple[str, str], ...] = ()


CODECS = {
    "h264": Codec("libx264", "yuv420p", ("mp4", "mov", "mkv"), 18, options=(("preset", "medium"),)),
    "hevc": Codec(
        "libx265", "yuv420p", ("mp4", "mov", "mkv"), 20,
        options=(("preset", "fast"), ("x265-params", "log-level=error")),
    ),
    "vp9": Codec(
        "libvpx-vp9", "yuv420p", ("webm", "mkv", "mp4"), 24, 63,
        aspect=False, options=(("b", "0"), ("row-mt", "1"), ("cpu-used", "3"), ("deadline", "good")),
    ),
    "av1": Codec("libsvtav1", "yuv420p", ("mp4", "mkv", "webm"), 26, 63, aspect=False, options=(("preset", "8"),)),
    "ffv1": Codec("ffv1", "bgr0", ("mkv",), lossless=True, aspect=False, options=(("level", "3"),)),
}  # fmt: skip
LOSSLESS_H264 = Codec("libx264rgb", "rgb24", ("mp4", "mov", "mkv"), 0, lossless=True, options=(("preset", "medium"),))


def get_codec(name: str | None, crf: int | None, clip: Clip) -> tuple[Codec, int | None]:
    """The codec of this name for a clip, and the crf it works at; h264 at 0 is lossless RGB. Raises UserError.

    None: vp9 for WebM, else h264, which plays everywhere.
    """
    name = name or ("vp9" if clip.kind == "webm" else "h264")
    if name not in CODECS:
        raise UserError(f"codec '{name}' is unknown; allowed: {', '.join(CODECS)}")
    codec = CODECS[name]
    if crf is not None and (codec.crf is None or not 0 <= crf <= codec.worst):
        allowed = "no --crf, it is lossless" if codec.crf is None else f"0 to {codec.worst}"
        raise UserError(f"crf {crf} of codec '{name}'; allowed: {allowed}")
    if clip.aspect is not None and not codec.aspect:
        allowed = ", ".join(n for n, c in CODECS.items() if c.aspect)
        raise UserError(
            f"clip '{clip.path}' has pixels that are not square, which {name} cannot say; allowed: {allowed}"
        )
    crf = codec.crf if crf is None else crf
    return (LOSSLESS_H264 if (name, crf) == ("h264", 0) else codec), crf


def kind_for(clip: Clip, codec: Codec) -> str:
    """The container of the result: the clip's own, if it holds the codec."""
    return clip.kind if clip.kind in codec.kinds else "mkv" if clip.kind == "mkv" else codec.kinds[0]


@dataclass(frozen=True)
class Kept:
    """What became of the rest of a clip: what is not in the result, and what was converted."""

    lost: list[str]
    converted: list[str]
    tells_place: bool = False


def rewrite(
    clip: Clip,
    path: Path,
    change: Callable[[int, Tensor], Tensor],
    *,
    kind: str,
    codec: Codec,
    crf: int | None,
    comment: str = "",
    metadata: str = KEEP,
    progress: Callable[[int], None] = lambda done: None,
) -> Kept:
    """Write the clip to `path` with `change(number, frame)`, frames (H, W, 3) uint8, in place of its frames.

    Sound and subtitles are copied packet by packet, sound that the container cannot hold is converted; frame times,
    colours, pixel aspect, rotation, chapters and metadata are kept, of the last what `metadata` says (see
    photo.metadata). `comment` is added to the comment. Raises UserError for the clip, OSError for the result.
    """
    library, said = pyav(clip.path), Said()
    with ExitStack() as stack:
        source, original = (None, None) if is_animation(clip) else stack.enter_context(opened(clip.path))
        if source is not None and original is not None:
            said = chosen(Said(dict(source.metadata), dict(original.metadata), source.chapters()), metadata)
        flags = "+faststart" + ("+use_metadata_tags" if needs_list(said.clip) else "")
        options = {"fflags": "+bitexact", **({"movflags": flags} if kind in ("mp4", "mov") else {})}  # no random ids
        target = stack.enter_context(_target(library, path, MUXERS[kind], options))
        video = _add_video(target, clip, codec, crf)
        video.metadata.update(kept(said.video))
        written, streams = str(video.pix_fmt), () if source is None else source.streams
        tried = {
            stream.index: beside(target, stream, kind, library, metadata)
            for stream in streams
            if stream.type in ("audio", "subtitle") and (metadata == KEEP or stream.index not in clip.placed)
        }
        others = {index: taken for index, taken in tried.items() if not isinstance(taken, str)}
        target.metadata.update(kept(said.clip))
        if comment:
            before = [value for key, value in kept(said.clip).items() if key.lower() == "comment"]
            target.metadata["comment"] = " ".join([*before[:1], comment])
        target.set_chapters(kept_chapters(said.chapters))
        number = 0
        for what in _frames_and_packets(clip, source, original, list(others)):
            if isinstance(what, library.Packet):
                packets = others[what.stream.index].take(what)
            else:
                changed = encodable(change(number, levels_of(what, clip)), what, clip, video.pix_fmt)
                changed.pts = clip.times[number] if clip.times else changed.pts
                packets = video.encode(changed)
                number += 1
                progress(number)
            with _to_disk(library, path):
                target.mux(packets)
        for stream in (video, *others.values()):
            packets = stream.rest() if stream in others.values() else stream.encode(None)
            with _to_disk(library, path):
                target.mux(packets)
    placed = [f"stream {index}: subtitle, which tells places" for index in clip.placed if metadata != KEEP]
    lost = [*clip.left_out, *clip.lost, *placed, *(why for why in tried.values() if isinstance(why, str))]
    with library.open(os.path.abspath(path), metadata_errors="replace") as result:
        after = Said(dict(result.metadata), dict(result.streams.video[0].metadata), result.chapters())
    tells = tells_place(after) or any(index in others for index in clip.placed)
    converted = [taken.said for taken in others.values() if isinstance(taken, Converted)]
    return Kept([*lost, *not_said(said, after)], [*_coarser(clip.pixel_format, written, library), *converted], tells)


def _frames_and_packets(clip: Clip, source: Any, original: Any, others: list[int]) -> Iterator[Any]:
    """A clip's decoded frames, and between them the packets of other streams."""
    if source is None:
        yield from (frame for _, frame in frames_of(clip))
        return
    for packet in source.demux([original, *(source.streams[index] for index in others)]):
        if packet.stream is original:  # the last packet of a stream has no number
            yield from packet.decode()
        else:
            yield packet


@contextmanager
def _target(library: Any, path: Path, muxer: str, options: dict[str, str]) -> Iterator[Any]:
    """The result, open; its end is written only where nothing went wrong."""
    with _to_disk(library, path):
        target = library.open(os.path.abspath(path), "w", format=muxer, container_options=options)
    try:
        yield target
    except BaseException:
        with suppress(library.FFmpegError):
            target.close()
        raise
    with _to_disk(library, path):
        target.close()


@contextmanager
def _to_disk(library: Any, path: Path) -> Iterator[None]:
    """What goes wrong with the result is no fault of the clip, which everything else is put down to."""
    try:
        yield
    except library.FFmpegError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from None


def _coarser(before: str, after: str, library: Any) -> list[str]:
    """What is lost between FFmpeg's pixel formats, in words."""
    old, new = library.VideoFormat(before or after), library.VideoFormat(after)
    bits = [max(component.bits for component in pixels.components) for pixels in (old, new)]
    said = [f"colours of {bits[0]} bits became {bits[1]}"] if bits[0] > bits[1] else []
    sides = [(pixels.chroma_width(16), pixels.chroma_height(16)) for pixels in (old, new)]
    finer = sides[0][0] > sides[1][0] or sides[0][1] > sides[1][1]
    return [*said, *(["colours became 4:2:0, one for every four pixels"] if finer else [])]


def _add_video(target: Any, clip: Clip, codec: Codec, crf: int | None) -> Any:
    """The stream of the result that holds the frames."""
    video = target.add_stream(codec.encoder, rate=clip.rate)
    context, sides = video.codec_context, clip.stored
    context.width, context.height = sides
    halved = codec.pixel_format == "yuv420p" and codec.encoder.startswith("libx26")  # both sides have to be even
    context.pix_fmt = "yuv444p" if halved and any(side % 2 for side in sides) else codec.pixel_format
    context.time_base = video.time_base = clip.time_base
    context.options = {**dict(codec.options), **({} if crf is None else {"crf": str(crf)})}
    context.thread_count = THREADS
    for name, value in clip.colours.items():
        if context.pix_fmt.startswith("yuv") or name not in ("colorspace", "color_range"):
            setattr(context, name, value)
    if clip.aspect is not None:
        context.sample_aspect_ratio = video.sample_aspect_ratio = clip.aspect
    if clip.matrix is not None:
        video.set_display_matrix(clip.matrix)
    return video


def encodable(levels: Tensor, like: "VideoFrame", clip: Clip, pixel_format: str) -> "VideoFrame":
    """Levels (H, W, 3) uint8 as they are looked at, as a frame to encode, shown when `like` is."""
    stored = np.ascontiguousarray(np.rot90(levels.numpy(), -clip.turns))
    rgb = pyav(clip.path).VideoFrame.from_ndarray(stored, format="rgb24")
    rgb.colorspace, rgb.color_range = like.colorspace, FULL
    wanted = like.color_range if pixel_format.startswith("yuv") else FULL
    frame = rgb.reformat(
        format=pixel_format, interpolation=EXACT, src_color_range=FULL, dst_color_range=wanted or LIMITED
    )
    frame.colorspace, frame.color_range = like.colorspace, like.color_range
    frame.color_primaries, frame.color_trc = like.color_primaries, like.color_trc
    frame.pts, frame.time_base, frame.duration = like.pts, like.time_base, like.duration
    return frame
