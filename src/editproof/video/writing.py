"""Writing clips: frames are encoded, sound and subtitles copied as they are, times, colours and rotation kept."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from editproof.errors import UserError
from editproof.video.reading import EXACT, FULL, Clip, levels_of, opened, pyav

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MUXERS = {"mp4": "mp4", "mov": "mov", "mkv": "matroska", "webm": "webm"}  # FFmpeg's names
LIMITED = 1  # FFmpeg's number of the colour range 16 to 235
THREADS = 2  # of encoders, on every machine: how many there are changes what is written
TECHNICAL = ("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "handler_name", "vendor_id")


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


def rewrite(
    clip: Clip,
    path: Path,
    change: Callable[[int, Tensor], Tensor],
    *,
    kind: str,
    codec: Codec,
    crf: int | None,
    comment: str = "",
    progress: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """Write the clip to `path` with `change(number, frame)`, frames (H, W, 3) uint8, in place of its frames.

    Sound and subtitles are copied packet by packet; frame times, colours, pixel aspect, rotation, chapters and metadata
    are kept. `comment` is added to the comment. Returns which streams are not taken along. Raises UserError.
    """
    library = pyav(clip.path)
    options = {"fflags": "+bitexact", **({"movflags": "+faststart"} if kind in ("mp4", "mov") else {})}  # no random ids
    left_out, number = list(clip.left_out), 0
    with (
        opened(clip.path) as (source, original),
        library.open(os.path.abspath(path), "w", format=MUXERS[kind], container_options=options) as target,
    ):
        video = _add_video(target, clip, codec, crf)
        video.metadata.update(_kept(original.metadata))
        copies = {}
        for stream in source.streams:
            if stream.type in ("audio", "subtitle"):
                try:
                    copies[stream.index] = _add_copy(target, stream)
                except (ValueError, library.FFmpegError) as error:
                    left_out.append(f"stream {stream.index}: {stream.type} ({' '.join(str(error).split())})")
        target.metadata.update(_kept(source.metadata))
        if comment:
            said = [source.metadata[key] for key in ("comment", "COMMENT") if key in source.metadata]
            target.metadata["comment"] = " ".join([*said, comment])
        target.set_chapters(source.chapters())
        for packet in source.demux([original, *(source.streams[index] for index in copies)]):
            if packet.stream_index in copies:
                if packet.size:
                    packet.stream = copies[packet.stream_index]
                    target.mux(packet)
                continue
            for frame in packet.decode():
                changed = encodable(change(number, levels_of(frame, clip)), frame, clip, video.pix_fmt)
                target.mux(video.encode(changed))
                number += 1
                progress(number)
        target.mux(video.encode(None))
    return left_out


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


def _add_copy(target: Any, stream: Any) -> Any:
    """The stream of the result for a copy of this one. Raises ValueError where the container cannot hold it."""
    copy = target.add_stream_from_template(stream, opaque=True)
    copy.metadata.update(_kept(stream.metadata))
    copy.disposition = stream.disposition
    return copy


def _kept(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if key.lower() not in TECHNICAL}


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
