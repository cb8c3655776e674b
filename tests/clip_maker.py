"""Small clips for tests."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(number: int, width: int, height: int, still: bool) -> np.ndarray:
    """A pattern that moves by 3 pixels a frame, or stays."""
    y, x = np.mgrid[0:height, 0:width]
    x = x + (0 if still else 3 * number)
    return np.stack([(x * 3) % 200 + 20, (y * 4) % 200 + 20, (x + y) % 200 + 20], -1).astype(np.uint8)


def make(
    path: Path, frames: int = 10, size: tuple[int, int] = (64, 48), *, still: bool = False, sound: bool = True,
    codec: str = "libx264", pixels: str = "yuv420p", matrix: int = 1, color_range: int = 1, rotation: int = 0,
    aspect: Fraction | None = None, metadata: dict[str, str] | None = None, subtitle: bool = False,
) -> Path:  # fmt: skip
    """A clip with uneven frame times and a tone."""
    with av.open(str(path), "w") as target:
        video_stream = target.add_stream(codec, rate=25)
        context = video_stream.codec_context
        context.width, context.height, context.pix_fmt = *size, pixels
        context.time_base = video_stream.time_base = Fraction(1, 12800)
        context.colorspace, context.color_range = matrix, color_range
        context.color_primaries, context.color_trc = 1, 1
        if codec == "libx264":
            context.options = {"crf": "5", "preset": "ultrafast"}
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        if rotation:
            video_stream.set_display_rotation(rotation)
        target.metadata.update(metadata or {})
        tone = target.add_stream("libmp3lame" if path.suffix == ".avi" else "aac", rate=44100) if sound else None
        shown = 0
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *size, still), format="rgb24")
            frame.colorspace = matrix
            frame = frame.reformat(format=pixels, src_color_range=2, dst_color_range=color_range)
            frame.pts, frame.time_base = shown, Fraction(1, 12800)
            shown += 900 if number % 3 == 2 and path.suffix != ".avi" else 512
            target.mux(video_stream.encode(frame))
        target.mux(video_stream.encode(None))
        for number in range(frames * 2 if tone is not None else 0):
            wave = np.sin(np.arange(1024)[None] / 20 + number).astype(np.float32) * 0.3
            beep = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            beep.rate, beep.pts = 44100, number * 1024
            target.mux(tone.encode(beep))
        if tone is not None:
            target.mux(tone.encode(None))
    return path
