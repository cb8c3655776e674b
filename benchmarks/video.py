"""What a clip's protection costs and what is left of it: steadiness, H.264, bitrate, seconds a frame, memory.

    python benchmarks/video.py --out outputs/video

The clips are made of scikit-image's astronaut (public domain): a still picture with grain, a pan and a zoom. Prints
JSON lines; writes the clips.
"""

import argparse
import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from editproof.bench.clock import peak
from editproof.editors import load_editor
from editproof.metrics import edit_change
from editproof.resolution import working_copy, working_size
from editproof.video.protect import protect_clip
from editproof.video.reading import frames_of, levels_of, open_clip
from editproof.video.writing import get_codec, rewrite

SIZE, FRAMES = (384, 288), 48
PROMPT = "a portrait photo"


def box(kind: str, number: int) -> tuple[float, float, float, float]:
    """Which part of the photo (512x512) a frame shows: left, top, right, bottom."""
    if kind == "pan":  # to and fro
        there = 60 - abs(number % 120 - 60)
        left, top, width = 2.0 * there, 0.5 * there, 384.0
    elif kind == "zoom":
        width = 420 - 1.5 * number
        left, top = 240 - width / 2, 0.1 * number
    else:
        left, top, width = 40.0, 0.0, 384.0
    return left, top, left + width, top + width * SIZE[1] / SIZE[0]


def make(path: Path, kind: str, frames: int = FRAMES, scale: int = 1) -> Path:
    """A clip, losslessly; a still one has the grain of a camera: 2 levels."""
    photo, random = Image.fromarray(data.astronaut()), np.random.default_rng(0)
    size = (SIZE[0] * scale, SIZE[1] * scale)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("ffv1", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = *size, "bgr0"
        for number in range(frames):
            picture = np.asarray(photo.resize(size, Image.Resampling.BICUBIC, box=box(kind, number)), np.float32)
            if kind == "still":
                picture = picture + random.normal(0, 2, picture.shape)
            frame = av.VideoFrame.from_ndarray(picture.round().clip(0, 255).astype(np.uint8), format="rgb24")
            target.mux(stream.encode(frame.reformat(format="bgr0")))
        target.mux(stream.encode(None))
    return path


def pixels(path: Path, numbers: tuple[int, ...] | None = None) -> Tensor:
    """Frames (N,H,W,3) uint8, all or these."""
    clip = open_clip(path)
    return torch.stack([levels_of(f, clip) for i, f in frames_of(clip) if numbers is None or i in numbers])


def encode(path: Path, crf: int) -> Path:
    clip, out = open_clip(path), path.with_name(f"{path.stem}-{crf}.mp4")
    codec, _ = get_codec("h264", crf, clip)
    rewrite(clip, out, lambda number, levels: levels, kind="mp4", codec=codec, crf=crf)
    return out


def kilobits(path: Path) -> float:
    """A second, of the video."""
    with av.open(str(path)) as clip:
        return sum(p.size for p in clip.demux(clip.streams.video[0])) * 8 / 1000 / (FRAMES / 25)


def steadiness(protected: Path, original: Path) -> tuple[float, float, float]:
    """In levels: mean size of what was added, its mean change from frame to frame, and that of the picture."""
    picture = pixels(original).float()
    added = pixels(protected).float() - picture
    return (
        added.abs().mean().item(), (added[1:] - added[:-1]).abs().mean().item(),
        (picture[1:] - picture[:-1]).abs().mean().item(),
    )  # fmt: skip


def disruptions(original: Path, others: dict[str, Path], numbers: tuple[int, ...]) -> dict[str, float]:
    """Mean D of frames of each file against the original's, all but an ellipse around the head repainted."""
    editor = load_editor("tiny-inpaint", device="cpu")
    size = working_size(SIZE[1], SIZE[0], editor.size)
    y, x = torch.meshgrid(torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij")
    mask = ((x / 0.35) ** 2 + ((y + 0.1) / 0.6) ** 2 > 1).float()[None, None]

    def edits(path: Path, seed: int = 0) -> Tensor:
        small = working_copy(pixels(path, numbers).permute(0, 3, 1, 2), size)
        return torch.cat([editor.edit(one[None], PROMPT, mask=mask, seed=seed) for one in small])

    first = edits(original)
    natural = edit_change(edits(original, 1), first, mask)
    return {name: (edit_change(edits(path), first, mask) / natural).mean().item() for name, path in others.items()}


def memory(out: Path) -> None:
    """Peak memory of the whole process for clips of two lengths."""
    for frames in (100, 400):
        path = make(out / f"long-{frames}.mkv", "pan", frames)
        command = ["protect", str(path), "--method", "noise", "--out", str(out / "long"), "--overwrite"]
        code = (
            "import sys, torch; from editproof.cli.main import main; from editproof.bench.clock import peak; "
            "main(sys.argv[1:]); print(peak(torch.device('cpu')))"
        )
        found = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
        say(what="memory", method="noise", frames=frames, peak_mb=int(found.stdout.split()[-1]) // 2**20)


def say(**row: object) -> None:
    print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/video"))
    parser.add_argument("--skip-edits", action="store_true", help="no D, which takes most of the time")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    say(what="machine", threads=torch.get_num_threads(), size="x".join(map(str, SIZE)), frames=FRAMES)
    for kind in ("still", "pan", "zoom"):
        original, started = make(args.out / f"{kind}.mkv", kind), time.perf_counter()
        report = protect_clip(original, args.out, codec="ffv1", overwrite=True)
        seconds = (time.perf_counter() - started) / FRAMES
        protected = args.out / report["protected"]
        added, change, moved = steadiness(protected, original)
        say(what="steadiness", clip=kind, added=added, added_changes=change, picture_changes=moved,
            psnr_db=report["psnr_db"], seconds_a_frame=seconds)  # fmt: skip
        rates, files = {}, {"lossless": protected}
        for crf in (18, 23, 28):
            plain, files[f"crf {crf}"] = encode(original, crf), encode(protected, crf)
            rates[f"crf {crf}"] = (round(kilobits(plain)), round(kilobits(files[f"crf {crf}"])))
        say(what="kilobits a second, without and with protection", clip=kind, **rates)
        if not args.skip_edits:
            files["crf 23, not protected"] = original.with_name(f"{kind}-23.mp4")
            say(what="D", clip=kind, **disruptions(original, files, (5, 40)))
    large, started = make(args.out / "large.mkv", "pan", 8, scale=5), time.perf_counter()
    protect_clip(large, args.out, overwrite=True)
    say(what="seconds a frame", size="1920x1440", seconds=(time.perf_counter() - started) / 8,
        peak_mb=peak(torch.device("cpu")) // 2**20)  # fmt: skip
    memory(args.out)


if __name__ == "__main__":
    main()
