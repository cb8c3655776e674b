"""Reading clips: what is wrong with a file becomes one line, frames become 8-bit RGB as they are looked at. Needs PyAV.

Turned upright, in the order in which they are shown, with the colour matrix and range that the clip says it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from editproof.errors import UserError
from editproof.files import digest
from editproof.photo.moving import KINDS, is_animated
from editproof.video.animation import frames_of_animation, kind_of, said_beside
from editproof.video.files import SUFFIXES, check_size, is_clip, is_still, opened, pyav
from editproof.video.metadata import SPOKEN

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["SUFFIXES", "Clip", "frames_of", "is_animation", "is_clip", "levels_of", "open_clip", "opened", "pyav"]

MARK = 'editproof:Protected="True"'  # in the comment of a protected clip
EXACT = 0x4 | 0x2000 | 0x4000 | 0x40000  # swscale: bicubic, full chroma both ways, accurate rounding
COLOURS = ("color_range", "color_primaries", "color_trc", "colorspace")
FULL = 2  # FFmpeg's number of the colour range 0 to 255
HDR = {16: "PQ", 18: "HLG"}  # FFmpeg's numbers of transfers
AROUND = {
    "SPHERICAL": "how a 360-degree picture is projected",
    "STEREO3D": "which eye sees what",
    "EXIF": "EXIF of its frames",
}


@dataclass(frozen=True)
class Clip:
    """What is known of a clip before its frames are decoded."""

    path: Path
    kind: str  # mp4, mov, mkv, webm, avi
    size: tuple[int, int]  # (height, width) as it is looked at
    frames: int
    turns: int  # quarter turns, counter-clockwise, from what is stored to what is looked at
    rate: Fraction
    time_base: Fraction
    codec: str
    pixel_format: str
    colours: dict[str, int]  # color_range, color_primaries, color_trc, colorspace: FFmpeg's numbers
    aspect: Fraction | None  # of a pixel, None: square
    matrix: tuple[int, ...] | None  # FFmpeg's display matrix
    marked: bool
    sha256: str
    left_out: tuple[str, ...] = ()  # streams that are not taken along
    lost: tuple[str, ...] = ()  # what else cannot be
    placed: tuple[int, ...] = ()  # numbers of streams of subtitles that tell where
    times: tuple[int, ...] = ()  # of the frames, where theirs are out of order

    @property
    def stored(self) -> tuple[int, int]:
        """(width, height) of what is stored."""
        return self.size if self.turns % 2 else (self.size[1], self.size[0])


def open_clip(path: str | Path, *, whole: bool = True) -> Clip:
    """Look at a clip: decode it once, so that whatever is wrong is known before any work. Raises UserError.

    Not `whole`: only its first frame, so that `frames` is 0 and what is said of the rest is empty.
    """
    path = Path(path)
    if is_animated(path):
        return _open_animation(path)
    with opened(path) as (container, video):
        context = video.codec_context
        if context is None or not context.width:
            raise UserError(f"clip '{path}' has video that cannot be decoded; allowed: codecs that FFmpeg knows")
        width, height = context.width, context.height
        check_size(path, width, height)
        transparent = context.format is not None and any(c.is_alpha for c in context.format.components)
        beside = next((value for key, value in video.metadata.items() if key.lower() == "alpha_mode"), "0")
        if transparent or beside not in ("", "0"):  # VP8 and VP9 have it in a picture of its own
            raise UserError(
                f"clip '{path}' is transparent ({context.pix_fmt}), which is not kept; allowed: opaque clips"
            )
        first = next(container.decode(video), None)
        if first is None:
            raise UserError(f"clip '{path}' has no frame; allowed: one or more")
        if first.interlaced_frame:
            raise UserError(f"clip '{path}' is interlaced; allowed: deinterlace it first")
        if int(first.color_trc) in HDR:
            raise UserError(
                f"clip '{path}' has a high dynamic range ({HDR[int(first.color_trc)]}), which is not kept; allowed: "
                "convert it to a standard range first"
            )
        turns = round(first.rotation / 90) % 4
        matrix = first.side_data.get("DISPLAYMATRIX")
        clip = Clip(  # while the container is open: PyAV's objects are not to be asked later
            path=path,
            kind=_kind(path, container, video),
            size=(width, height) if turns % 2 else (height, width),
            frames=0,
            turns=turns,
            rate=video.average_rate or video.guessed_rate or Fraction(25),
            time_base=video.time_base or Fraction(1, 1000),
            codec=context.name,
            pixel_format=context.pix_fmt or "",
            colours={name: int(getattr(first, name)) for name in COLOURS},
            aspect=None if video.sample_aspect_ratio in (None, 0, 1) else video.sample_aspect_ratio,
            matrix=None if matrix is None else tuple(np.frombuffer(bytes(matrix), np.int32).tolist()),
            marked=MARK in " ".join(container.metadata.values()),
            sha256=digest(path),
            lost=tuple(what for name, what in AROUND.items() if name in {data.type.name for data in first.side_data}),
        )
    return _looked_through(clip) if whole else clip


def _open_animation(path: Path) -> Clip:
    """Look at a picture that moves. Raises UserError."""
    first, times, end = None, [], 0
    for frame in frames_of_animation(path, pyav(path)):
        if first is None:
            first = frame
        times.append(frame.pts)
        end = frame.pts + frame.duration
    if first is None:
        raise UserError(f"clip '{path}' has no frame; allowed: one or more")
    return Clip(
        path=path, kind=kind_of(path), size=(first.height, first.width), frames=len(times), turns=0,
        rate=Fraction(1000 * len(times), end).limit_denominator(1000), time_base=first.time_base, codec=kind_of(path),
        pixel_format="rgb24", colours={name: int(getattr(first, name)) for name in COLOURS}, aspect=None, matrix=None,
        marked=False, sha256=digest(path), lost=("how often it is repeated", *said_beside(path)),
    )  # fmt: skip


def _kind(path: Path, container: Any, video: Any) -> str:
    """The container's name: by its content, and by the file's name where that says more."""
    demuxer = container.format.name.partition(",")[0]
    if demuxer == "matroska":
        web = path.suffix.lower() == ".webm" and video.codec_context.name.startswith(
            ("vp", "libvpx", "av1", "libdav1d")
        )
        return "webm" if web else "mkv"
    if demuxer == "mov":
        return "mov" if container.metadata.get("major_brand", "qt").startswith("qt") else "mp4"
    return demuxer


def _looked_through(clip: Clip) -> Clip:
    """The clip with the number of its frames, which are all decoded, and the streams that are not taken along.

    Raises UserError where it is damaged or cut off, or its frames change their size or have no times.
    """
    path, times, end, placed = clip.path, [], 0.0, set[int]()
    with opened(path) as (container, video):
        taken = {s.index for s in container.streams if s is video or s.type in ("audio", "subtitle")}
        left = tuple(
            f"stream {s.index}: {'a picture' if s.type == 'video' and is_still(s) else s.type}"
            for s in container.streams
            if s.index not in taken
        )
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream.type == "subtitle" and SPOKEN.search(bytes(packet)):
                placed.add(packet.stream.index)
            if packet.stream is video:  # the last packet of a stream has no number
                for frame in packet.decode():
                    times.append(frame.pts)
                    if (frame.width, frame.height) != clip.stored:
                        raise UserError(f"clip '{path}' changes its size in the middle; allowed: one size")
        promised = (container.duration or 0) / 1_000_000 + max(0, (container.start_time or 0) / 1_000_000)
    if end < min(0.9 * promised, promised - 0.5):
        raise UserError(f"clip '{path}' is cut off: {end:.1f} of {promised:.1f} seconds are there")
    ordered = sorted(time for time in times if time is not None)
    if len(set(ordered)) < len(times):
        raise UserError(f"clip '{path}' has frames without times of their own; allowed: convert it to MP4 or MKV first")
    out_of_order = tuple(ordered) if ordered != times else ()  # AVI has packets' times only
    return replace(clip, frames=len(times), left_out=left, placed=tuple(sorted(placed)), times=out_of_order)


def is_animation(clip: Clip) -> bool:
    """Whether a clip is a picture that moves: it has frames and nothing else."""
    return clip.kind in KINDS.values()


def frames_of(clip: Clip, start: int = 0, stop: int | None = None) -> "Iterator[tuple[int, VideoFrame]]":
    """The decoded frames of a clip with their numbers, from `start` up to `stop`."""
    if is_animation(clip):
        yield from islice(enumerate(frames_of_animation(clip.path, pyav(clip.path))), start, stop)
        return
    with opened(clip.path) as (container, video):
        for number, frame in enumerate(container.decode(video)):
            if stop is not None and number >= stop:
                return
            if number >= start:
                yield number, frame


def levels_of(frame: "VideoFrame", clip: Clip) -> Tensor:
    """A decoded frame as it is looked at: (H, W, 3) uint8. Raises UserError where its size is not the clip's."""
    plain = frame.format.name == "rgb24"
    rgb = (frame if plain else frame.reformat(format="rgb24", interpolation=EXACT, dst_color_range=FULL)).to_ndarray()
    upright = np.rot90(rgb, clip.turns)
    if upright.shape[:2] != clip.size:
        raise UserError(f"clip '{clip.path}' changes its size in the middle; allowed: one size")
    return torch.from_numpy(np.ascontiguousarray(upright))
