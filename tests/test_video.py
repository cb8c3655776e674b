"""Clips: what is kept, that perturbations hold still, runs that were killed, masks, and files that cannot be used."""

import base64
import io
import json
import os
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
import torch
from clip_maker import make, picture
from killed import killed_at
from PIL import Image, ImageSequence
from torch import Tensor

from editproof.budgets import Linf
from editproof.cli.main import main
from editproof.errors import UserError
from editproof.people import finding as people
from editproof.photo.masks import AUTO
from editproof.protection.settings import ProtectSettings
from editproof.video import protect as video
from editproof.video import segments
from editproof.video.masks import follow_people, mask_of_people
from editproof.video.reading import MARK, frames_of, is_clip, levels_of, open_clip
from editproof.video.steady import MOVED, STILL, follow, hold
from editproof.video.writing import CODECS, rewrite

NOISE = ProtectSettings(method="noise")


def packets(path: Path, kind: str) -> list[tuple[Fraction, bytes]]:
    with av.open(str(path)) as clip:
        streams = [stream for stream in clip.streams if stream.type == kind]
        return [(p.pts * p.time_base, bytes(p)) for p in clip.demux(streams) if p.size] if streams else []


def times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as clip:
        return [frame.pts * frame.time_base for frame in clip.decode(video=0)]


def levels(path: Path) -> Tensor:
    """All frames (N,H,W,3) uint8."""
    clip = open_clip(path)
    return torch.stack([levels_of(frame, clip) for _, frame in frames_of(clip)])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    folder, made = tmp_path_factory.mktemp("clips"), {}

    def get(name: str, **settings: Any) -> Path:
        if name not in made:
            made[name] = make(folder / name, **settings)
        return made[name]

    return get


KINDS: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "full.mp4": {"color_range": 2, "matrix": 5},
    "turned.mov": {"rotation": 90},
    "wide.mp4": {"aspect": Fraction(4, 3), "rotation": 180},
    "odd.mkv": {"size": (65, 49), "pixels": "yuv444p"},
    "lossless.mkv": {"codec": "ffv1", "pixels": "bgr0", "matrix": 0},
    "web.webm": {"codec": "libvpx-vp9", "matrix": 6, "sound": False},
    "old.avi": {"codec": "mpeg4", "matrix": 2},
}


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_the_picture_is_kept(name: str, clips: Callable[..., Path], tmp_path: Path) -> None:
    path = clips(name, metadata={"title": "A title", "comment": "Mine"}, **KINDS[name])
    report = video.protect_clip(path, tmp_path, NOISE)
    result, before, after = tmp_path / report["protected"], open_clip(path), open_clip(tmp_path / report["protected"])
    assert report["frames"] == after.frames == 10
    assert after.kind == {"avi": "mp4"}.get(before.kind, before.kind) and report["not_taken_along"] == []
    assert (after.size, after.turns, after.matrix) == (before.size, before.turns, before.matrix)
    assert after.aspect == before.aspect and after.marked and not before.marked
    if before.pixel_format != "bgr0":
        assert after.colours == before.colours
    assert [sound for _, sound in packets(result, "audio")] == [sound for _, sound in packets(path, "audio")]
    assert all(abs(a - b) < Fraction(1, 1000) for a, b in zip(times(result), times(path), strict=True))
    with av.open(str(result)) as clip:
        said = {key.lower(): value for key, value in clip.metadata.items()}
    assert said["title"] == "A title" and said["comment"] == f"Mine {MARK}"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([result.name, f"{path.stem}-protected.json"])


@pytest.mark.parametrize("suffix", [".avi", ".mov", ".mkv"])
def test_motion_jpeg_whose_frames_have_exif(suffix: str, tmp_path: Path) -> None:
    """As cameras write it: FFmpeg hands EXIF out beside each frame, of which PyAV has no name."""
    path, exif = tmp_path / f"a{suffix}", Image.Exif()
    exif[0x112], exif[0x10F] = 6, "Camera"  # turned by a quarter
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 64, 48, "yuvj420p", Fraction(1, 25)
        for number, frame in enumerate(numbered()):
            file = io.BytesIO()
            frame.save(file, "JPEG", exif=exif)
            packet = av.Packet(file.getvalue())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            packet.is_keyframe = True
            target.mux(packet)
    report = video.protect_clip(path, tmp_path, NOISE, codec="h264")
    before, after = open_clip(path), open_clip(tmp_path / report["protected"])
    assert report["not_taken_along"] == ["EXIF of its frames"] and before.size == after.size == (64, 48)
    assert before.turns == after.turns == 3 and before.matrix == after.matrix and after.frames == 5
    assert b"Camera" not in (tmp_path / report["protected"]).read_bytes()


SPHERE = b"""<?xml version="1.0"?><rdf:SphericalVideo xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"
xmlns:GSpherical="http://ns.google.com/videos/1.0/spherical/"><GSpherical:Spherical>true</GSpherical:Spherical>
<GSpherical:Stitched>true</GSpherical:Stitched><GSpherical:StitchingSoftware>x</GSpherical:StitchingSoftware>
<GSpherical:ProjectionType>equirectangular</GSpherical:ProjectionType></rdf:SphericalVideo>"""


def test_that_a_clip_is_no_longer_one_of_360_degrees_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / "a.mp4", 4, sound=False)
    data = bytearray(path.read_bytes())
    box = struct.pack(">I", 24 + len(SPHERE)) + b"uuid" + bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + SPHERE
    movie, track = data.index(b"moov") - 4, data.index(b"trak") - 4
    end = track + struct.unpack_from(">I", data, track)[0]
    for at in (movie, track):
        struct.pack_into(">I", data, at, struct.unpack_from(">I", data, at)[0] + len(box))
    data[end:end] = box
    path.write_bytes(data)
    assert main(["protect", str(path), "--method", "noise", "--out", str(tmp_path)]) == 0
    assert "how a 360-degree picture is projected" in " ".join(capsys.readouterr().out.split())


def test_subtitles_and_chapters_are_kept(clips: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "words.srt").write_text(
        "1\n00:00:00,040 --> 00:00:00,200\nHello\n\n2\n00:00:00,300 --> 00:00:00,400\nyou\n"
    )
    path = tmp_path / "talk.mkv"
    with (
        av.open(str(clips("plain.mp4"))) as film,
        av.open(str(tmp_path / "words.srt")) as words,
        av.open(str(path), "w") as target,
    ):
        pairs = [
            (source, stream, target.add_stream_from_template(stream))
            for source, stream in ((film, film.streams.video[0]), (words, words.streams.subtitles[0]))
        ]
        pairs[1][2].metadata["language"] = "eng"
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}}
        target.set_chapters([chapter])
        for source, stream, copy in pairs:
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    target.mux(packet)
    report = video.protect_clip(path, tmp_path / "out", NOISE)
    result = tmp_path / "out" / report["protected"]
    assert [text for _, text in packets(path, "subtitle")] == [b"Hello", b"you"]
    assert packets(result, "subtitle") == packets(path, "subtitle")
    with av.open(str(result)) as kept:
        assert kept.streams.subtitles[0].language == "eng"
        assert kept.chapters()[0]["metadata"] == {"title": "One"}


@pytest.mark.parametrize(("codec", "crf"), [("ffv1", None), ("h264", 0)])
def test_lossless_results_hold_what_was_computed(
    codec: str, crf: int | None, clips: Callable[..., Path], tmp_path: Path
) -> None:
    path = clips("short.mov", frames=4, rotation=90)
    report = video.protect_clip(path, tmp_path, ProtectSettings(budget=Linf(6 / 255)), codec=codec, crf=crf)
    original, protected = levels(path).int(), levels(tmp_path / report["protected"]).int()
    assert report["lossless"] and (original - protected).abs().max() == report["linf_levels"] == 6
    again = video.protect_clip(path, tmp_path / "again", ProtectSettings(budget=Linf(6 / 255)), codec=codec, crf=crf)
    assert (tmp_path / "again" / again["protected"]).read_bytes() == (tmp_path / report["protected"]).read_bytes()


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec(codec: str, clips: Callable[..., Path], tmp_path: Path) -> None:
    report = video.protect_clip(clips("plain.mp4"), tmp_path, NOISE, codec=codec)
    result = open_clip(tmp_path / report["protected"])
    assert result.frames == 10 and result.codec in (codec, f"lib{codec}", "libdav1d", "av1")
    assert report.get("perturbation_left", 1) > 0


def test_perturbations_hold_still_where_the_clip_does(clips: Callable[..., Path], tmp_path: Path) -> None:
    path = clips("still.mkv", still=True, codec="ffv1", pixels="bgr0", matrix=0)
    asked = ProtectSettings(method="photoguard-encoder", steps=2, budget=Linf(8 / 255))
    for number, how in enumerate((ProtectSettings(), asked)):
        report = video.protect_clip(path, tmp_path / str(number), how, codec="ffv1")
        added = levels(tmp_path / str(number) / report["protected"]).int() - levels(path).int()
        assert added.abs().max() > 3
        assert torch.equal(added[1:], added[:-1])


def test_what_has_not_moved_keeps_its_perturbation() -> None:
    generator = torch.Generator().manual_seed(0)
    frames = [torch.rand(4, 32, 64, generator=generator)]
    frames += [(frames[0] + 0.004 * torch.randn(4, 32, 64, generator=generator)).clamp(0, 1) for _ in range(3)]
    frames[2][:, :, :20] = 1 - frames[2][:, :, :20]
    news, reference = follow(frames, None)
    assert [float(new.max()) for new in news] == [1, 0, 1, 1]  # the third frame differs on the left, the fourth again
    assert news[2][..., 32:].max() == 0 and news[2][..., :12].min() > 0.5
    assert reference.shape == (4, 32, 64)
    asked: list[list[int]] = []

    def compute(needed: list[int]) -> list[Tensor]:
        asked.append(needed)
        return [torch.full((3, 32, 64), float(i + 1)) for i in needed]

    deltas, which = hold(news, None, compute)
    assert asked == [[0, 2, 3]] and which == [0, 0, 1, 2]
    assert deltas[1][..., 32:].unique().tolist() == [1.0] and deltas[1][..., 0].mean() > 2
    assert hold(news[1:2], deltas[0], compute)[1] == [-1] and len(asked) == 1


def test_slow_changes_add_up() -> None:
    frames = [torch.full((4, 16, 16), 0.2 + 0.25 * STILL * number) for number in range(40)]
    news, reference = follow(frames, None)
    assert 0 < sum(float(new.max()) > 0 for new in news[1:]) < 39
    assert (frames[-1] - reference).abs().max() < MOVED


def test_a_moving_clip_changes_smoothly_and_keeps_its_budget(clips: Callable[..., Path], tmp_path: Path) -> None:
    path = clips("lossless.mkv", **KINDS["lossless.mkv"])
    report = video.protect_clip(path, tmp_path, codec="ffv1")
    added = (levels(tmp_path / report["protected"]).int() - levels(path).int()).float()
    assert added.abs().max() == 8
    assert (added[1:] - added[:-1]).abs().mean() < added.abs().mean()


RUN = """
import sys
import torch
from editproof.video import segments
from editproof.video import protect as video
from editproof.bench.clock import peak
from editproof.cli.main import main
segments.SEGMENT = video.SEGMENT = int(sys.argv[1])
main(sys.argv[2:])
print(peak(torch.device("cpu")))
"""


@pytest.mark.parametrize(
    ("place", "number", "left"),
    [("editproof.video.segments:_deltas", 3, 1), ("editproof.video.writing:encodable", 5, 0)],
    ids=["two pieces are there", "the result is being written"],
)
def test_a_killed_run_goes_on_and_ends_with_the_same_file(
    place: str, number: int, left: int, clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips("plain.mp4")
    arguments = ["protect", str(path), "--method", "noise", "--out", str(tmp_path / "out")]
    parts = tmp_path / "out" / ".editproof-plain-protected.mp4.parts"
    killed_at(place, number, RUN, ["4", *arguments], tmp_path)
    assert [file.name for file in (tmp_path / "out").iterdir() if file.suffix != ".lock"] == [parts.name]
    monkeypatch.setattr(segments, "SEGMENT", 4)
    monkeypatch.setattr(video, "SEGMENT", 4)
    done: list[int] = []
    compute = segments._deltas
    monkeypatch.setattr(segments, "_deltas", lambda work, copies, told: done.append(1) or compute(work, copies, told))
    assert main(arguments) == 0
    assert len(done) == left
    assert main([*arguments[:-1], str(tmp_path / "whole")]) == 0
    for name in ("plain-protected.mp4",):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not parts.exists()


def test_parts_of_another_request_are_not_used(clips: Callable[..., Path], tmp_path: Path) -> None:
    path, parts = clips("plain.mp4"), tmp_path / ".editproof-plain-protected.mp4.parts"
    parts.mkdir()
    (parts / "request.json").write_text("{}")
    (parts / "000000.npz").write_bytes(b"damaged")
    report = video.protect_clip(path, tmp_path, NOISE)
    assert report["frames"] == 10 and not parts.exists()


def test_memory_does_not_depend_on_the_length(tmp_path: Path) -> None:
    peaks = []
    for frames in (80, 280):  # the encoder looks ahead by 40 or so
        path = make(tmp_path / f"{frames}.mkv", frames, (96, 64), sound=False)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-c",
            RUN,
            "8",
            "protect",
            str(path),
            "--method",
            "noise",
            "--out",
            f"{tmp_path}/out",
        ]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 32_000_000  # bytes; the perturbations of 200 frames are 39 MB


def half(width: int, height: int, left: int = 0) -> Image.Image:
    """Black on one half (to be kept), white on the other."""
    mask = Image.new("L", (width, height), 255)
    mask.paste(0, (left, 0, left + width // 2, height))
    return mask


def test_masks_of_every_kind(clips: Callable[..., Path], tmp_path: Path) -> None:
    path = clips("lossless.mkv", **KINDS["lossless.mkv"])
    half(64, 48).save(tmp_path / "mask.png")
    (tmp_path / "frames").mkdir()
    with av.open(str(tmp_path / "mask.mkv"), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "gray"
        for number in range(10):
            half(64, 48, 3 * number).save(tmp_path / "frames" / f"{number:03}.png")
            target.mux(stream.encode(av.VideoFrame.from_image(half(128, 96, 6 * number)).reformat(format="gray")))
        target.mux(stream.encode(None))
    changed = {}
    for name in ("mask.png", "frames", "mask.mkv"):
        report = video.protect_clip(
            path, tmp_path / f"out-{name}", ProtectSettings(method="noise", mask=tmp_path / name), codec="ffv1"
        )
        added = levels(tmp_path / f"out-{name}" / report["protected"]) != levels(path)
        changed[name] = added.any(-1)
        assert report["protected_share"] == 0.5 and report["mask"]["file"] == name
    assert changed["mask.png"][..., :32].any() and not changed["mask.png"][..., 32:].any()
    for number in range(10):
        assert changed["frames"][number, :, 3 * number : 3 * number + 32].float().mean() > 0.8
        assert not changed["frames"][number, :, : 3 * number].any()
        assert not changed["frames"][number, :, 3 * number + 32 :].any()
    assert torch.equal(changed["frames"], changed["mask.mkv"])


def test_people_are_found_and_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = Image.fromarray(skimage.data.astronaut()).resize((256, 256), Image.Resampling.LANCZOS)
    with av.open(str(tmp_path / "clip.mkv"), "w") as target:
        stream = target.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 256, 256, "bgr0"
        for number in range(4):
            shown = Image.new("RGB", (256, 256), (90, 120, 110))
            shown.paste(photo, (4 * number, 0))
            target.mux(stream.encode(av.VideoFrame.from_image(shown).reformat(format="bgr0")))
        target.mux(stream.encode(None))
    looks = people.probabilities
    calls: list[int] = []

    def miss_the_third(images: Tensor) -> Tensor:
        calls.append(len(calls))
        return looks(images) * (len(calls) != 3)

    monkeypatch.setattr(people, "probabilities", miss_the_third)
    report = video.protect_clip(
        tmp_path / "clip.mkv", tmp_path, ProtectSettings(method="noise", mask=AUTO), codec="ffv1"
    )
    assert report["mask"]["auto"].endswith("found in 4 of 4 frames") and 0.1 < report["protected_share"] < 0.9
    changed = (levels(tmp_path / report["protected"]) != levels(tmp_path / "clip.mkv")).any(-1).float()
    for number in range(4):
        assert changed[number, 30:70, 4 * number + 100 : 4 * number + 125].mean() > 0.8  # her face
        assert changed[number, :20, 180:].mean() < 0.1


def test_edits_of_clips(clips: Callable[..., Path], tmp_path: Path) -> None:
    path = clips("short.mkv", frames=3, codec="ffv1", pixels="bgr0", matrix=0)
    half(64, 48).save(tmp_path / "mask.png")
    arguments = ["edit", str(path), "--prompt", "a hat", "--mask", str(tmp_path / "mask.png"), "--steps", "1"]
    assert main([*arguments, "--out", str(tmp_path / "edited.mkv"), "--codec", "ffv1"]) == 0
    different = (levels(tmp_path / "edited.mkv") != levels(path)).any(-1)
    assert different[..., 36:].float().mean() > 0.9 and not different[..., :32].any()
    assert packets(tmp_path / "edited.mkv", "audio") == packets(path, "audio")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["edited.mkv", "mask.png"]


def cut(path: Path, share: float) -> bytes:
    return path.read_bytes()[: int(path.stat().st_size * share)]


BAD: dict[str, tuple[Callable[[Callable[..., Path], Path], Any], str, str]] = {
    "empty.mp4": (lambda clips, to: to.write_bytes(b""), "", "is empty"),
    "missing.mp4": (lambda clips, to: None, "", "does not exist"),
    "pipe.mp4": (lambda clips, to: os.mkfifo(to), "", "no file"),
    "text.mkv": (lambda clips, to: to.write_bytes(b"no clip at all" * 99), "", "no clip that can be read"),
    "list.mp4": (lambda clips, to: to.write_text("ffconcat version 1.0\nfile a.mp4"), "", "no clip that can be read"),
    "noise.mkv": (lambda clips, to: to.write_bytes(b"\x1a\x45\xdf\xa3" + bytes(999)), "", "damaged or cut off"),
    "cut.mp4": (lambda clips, to: to.write_bytes(cut(clips("plain.mp4"), 0.3)), "", "damaged or cut off"),
    "cut.mkv": (lambda clips, to: to.write_bytes(cut(clips("long.mkv", frames=60), 0.4)), "", "cut off"),
    "sound.mp4": (lambda clips, to: sound_only(to), "", "no video stream"),
    "marked.mp4": (lambda clips, to: make(to, metadata={"comment": MARK}), "", "protected already"),
    "clear.mkv": (lambda clips, to: make(to, codec="ffv1", pixels="bgra", matrix=0), "", "transparent"),
    "beside.webm": (lambda clips, to: beside(to), "", "transparent"),
    "bright.mkv": (lambda clips, to: bright(to, 16), "", "high dynamic range (PQ)"),
    "phone.mkv": (lambda clips, to: bright(to, 18), "", "high dynamic range (HLG)"),
    "clear.gif": (lambda clips, to: moving(to, (0, 0, 0, 0)), "", "transparent"),
    "profile.webp": (lambda clips, to: moving(to, "red", icc_profile=b"profile"), "", "a colour profile"),
    "cut.gif": (lambda clips, to: (moving(to, "red"), to.write_bytes(cut(to, 0.7))), "", "cut off"),
    "small.mkv": (lambda clips, to: make(to, size=(64, 8), codec="ffv1", pixels="bgr0"), "", "64 x 8 pixels"),
    "wide.mkv": (lambda clips, to: make(to, 1, size=(9000, 16), codec="ffv1", pixels="bgr0"), "", "9000 x 16 pixels"),
    "plain.mp4": (lambda clips, to: make(to), "--codec mpeg2", "unknown"),
    "plain2.mp4": (lambda clips, to: make(to), "--crf 60", "allowed: 0 to 51"),
    "plain3.mp4": (lambda clips, to: make(to), "--codec ffv1 --crf 3", "lossless"),
    "plain4.mp4": (lambda clips, to: make(to), "--format webp", "--format 'webp' is for photos"),
    "plain5.mp4": (lambda clips, to: make(to), "--mask missing.png", "missing.png"),
    "plain6.mp4": (lambda clips, to: make(to), "--mask auto --invert-mask", "'auto'"),
    "folder.mp4": (lambda clips, to: (make(to), (to.parent / "m").mkdir()), "--mask m", "has 0 pictures"),
    "other.mp4": (lambda clips, to: (make(to), make(to.parent / "m.mkv", 4)), "--mask m.mkv", "has 4 frames"),
    "aspect.mp4": (lambda clips, to: make(to, aspect=Fraction(4, 3)), "--codec ffv1", "not square"),
    "many.mp4": (lambda clips, to: make(to, 101), "--method photoguard-encoder", "up to 100 frames"),
    "photo.png": (lambda clips, to: Image.new("RGB", (64, 48)).save(to), "--codec h264", "is for clips"),
}  # fmt: skip


def moving(path: Path, colour: Any, **more: Any) -> None:
    shown = [Image.effect_noise((64, 48), sigma).convert("RGBA") for sigma in (20, 40, 60)]
    for image in shown:
        image.paste(colour, (0, 0, 20, 20))
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=40, lossless=True, disposal=2, **more)


def beside(path: Path) -> None:
    """A WebM that says its alpha lies in a picture of its own."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libvpx-vp9", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.metadata["alpha_mode"] = "1"
        target.mux([*stream.encode(av.VideoFrame.from_image(numbered()[0])), *stream.encode(None)])


def bright(path: Path, transfer: int) -> None:
    with av.open(str(path), "w") as target:
        stream = target.add_stream("libx265", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        stream.codec_context.options = {"x265-params": "log-level=none"}
        stream.codec_context.color_trc, stream.codec_context.color_primaries = transfer, 9
        frame = av.VideoFrame.from_image(numbered()[0]).reformat(format="yuv420p10le")
        frame.color_trc, frame.color_primaries = transfer, 9
        target.mux([*stream.encode(frame), *stream.encode(None)])


def sound_only(path: Path) -> None:
    with av.open(str(path), "w") as target:
        tone = target.add_stream("aac", rate=44100)
        beep = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        beep.rate = 44100
        target.mux([*tone.encode(beep), *tone.encode(None)])


@pytest.mark.parametrize("name", BAD)
def test_one_line_says_what_is_wrong(
    name: str, clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    write, options, said = BAD[name]
    write(clips, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["protect", name, "--out", "out", *options.split()]) == 2
    error = capfd.readouterr().err
    assert said in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_content_says_what_a_file_is(clips: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "cli:p%d.jpg"
    path.write_bytes(clips("plain.mp4").read_bytes())
    assert is_clip(path) and open_clip(path).kind == "mp4"
    Image.new("RGB", (64, 48)).save(tmp_path / "photo.mp4", format="JPEG")
    assert not is_clip(tmp_path / "photo.mp4") and not is_clip(tmp_path)


def test_without_pyav_a_line_says_which_extra(
    clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clips("plain.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'editproof\[video\]'"):
        video.protect_clip(path, tmp_path)


def test_the_report_is_private_and_complete(clips: Callable[..., Path], tmp_path: Path) -> None:
    report = video.protect_clip(clips("plain.mp4"), tmp_path, NOISE)
    file = tmp_path / "plain-protected.json"
    assert json.loads(file.read_bytes()) == report and file.stat().st_mode & 0o777 == 0o600
    assert report["seed"] == 0 and report["frames"] == 10 and "claim" in report


def test_several_inputs_are_checked_before_any_work(
    clips: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    first, again, text = clips("plain.mp4"), tmp_path / "sub" / "plain.mp4", tmp_path / "text.mp4"
    again.parent.mkdir()
    again.write_bytes(first.read_bytes())
    text.write_text("no clip")
    for other, said in ((again, "would both become 'plain-protected'"), (text, f"'{text}'")):
        assert main(["protect", str(first), str(other), "--out", str(tmp_path / "out")]) == 2
        assert said in capfd.readouterr().err and not (tmp_path / "out").exists()


def test_clips_in_folders_are_protected_with_the_photos(
    clips: Callable[..., Path], tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    (folder / "below").mkdir(parents=True)
    (folder / "a.mp4").write_bytes(clips("plain.mp4").read_bytes())
    (folder / "bad.mp4").write_text("no clip")
    os.mkfifo(folder / "pipe.mp4")  # read, it would keep the run waiting
    (folder / "gone.mov").symlink_to("nowhere")
    first, *others = numbered()
    first.save(folder / "below" / "moves.gif", save_all=True, append_images=others, duration=40)
    Image.new("RGB", (64, 48), "gray").save(folder / "b.png")
    command = ["protect", str(folder), "--recursive", "--method", "noise", "--codec", "h264", "--out", str(out)]
    assert main(command) == 1
    said = capfd.readouterr()
    assert "3 protected, 3 failed" in said.out and said.err.count("\n") == 3
    assert all(name in said.err for name in ("bad.mp4", "pipe.mp4", "gone.mov"))
    results = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*") if path.suffix != ".json")
    assert results == ["a-protected.mp4", "b-protected.png", "below/moves-protected.mp4"]
    for name in ("bad.mp4", "pipe.mp4", "gone.mov"):
        (folder / name).unlink()
    (out / "a-protected.mp4").unlink()
    assert main(command) == 0
    assert "1 protected, 2 done before" in capfd.readouterr().out
    assert main([*command[:-1], str(folder)]) == 0 and main([*command[:-1], str(folder)]) == 0
    assert "3 done before, 3 protected already" in capfd.readouterr().out
    (folder / "b.png").unlink()
    assert main(["protect", str(folder / "below"), "-r", "--method", "noise", "--out", str(tmp_path / "c")]) == 0


def test_a_face_is_kept_in_clips_as_in_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the network sees somebody elsewhere but not the face: two shoulders were protected, the face bare."""
    frame = torch.from_numpy(skimage.data.astronaut())
    looks = people.probabilities

    def without_the_face(images: Tensor) -> Tensor:
        seen = looks(images).clone()
        seen[..., :112, 75:150] = 0
        return seen

    monkeypatch.setattr(people, "probabilities", without_the_face)
    face = (slice(80, 190), slice(180, 270))
    of_photo, _ = people.auto_mask(frame.permute(2, 0, 1))
    assert of_photo is not None and of_photo[0, 0][face].max() == 0
    seen = None
    for _ in range(3):
        person, count, seen = follow_people(frame, seen)
        assert count and mask_of_people(person, (512, 512))[0, 0][face].max() == 0
    monkeypatch.setattr(people, "detected", lambda image: [])  # a frame in which the detector misses it
    person, _, _ = follow_people(frame, seen)
    assert mask_of_people(person, (512, 512))[0, 0][face].mean() < 0.2


def numbered(size: tuple[int, int] = (64, 48), count: int = 5) -> list[Image.Image]:
    return [Image.fromarray(picture(number, *size, False)) for number in range(count)]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_pictures_that_move_are_protected_like_clips(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *others = numbered()
    first.save(tmp_path / name, save_all=True, append_images=others, duration=[40, 80, 40, 120, 60], lossless=True)
    assert main(["protect", str(tmp_path / name), "--method", "noise", "--codec", "ffv1", "--out", str(tmp_path)]) == 0
    assert "not kept: how often it is repeated" in capsys.readouterr().out
    result = tmp_path / "a-protected.mkv"
    assert times(result) == [Fraction(t, 1000) for t in (0, 40, 120, 160, 280)]
    report = json.loads((tmp_path / "a-protected.json").read_bytes())
    with Image.open(tmp_path / name) as image:
        before = torch.stack([torch.from_numpy(np.array(f.convert("RGB"))) for f in ImageSequence.Iterator(image)])
    assert report["frames"] == 5 and 0 < (levels(result).int() - before.int()).abs().max() == report["linf_levels"] <= 8
    assert main(["protect", str(tmp_path / name), "--method", "noise", "--out", str(tmp_path / "b")]) == 0
    after = open_clip(tmp_path / "b" / "a-protected.mp4")
    assert after.frames == 5 and after.colours == {
        "color_range": 1,
        "color_primaries": 1,
        "color_trc": 13,
        "colorspace": 1,
    }


def test_pictures_that_do_not_move_are_photos(tmp_path: Path) -> None:
    for name in ("a.gif", "a.png", "a.webp"):
        numbered()[0].save(tmp_path / name)
        assert not is_clip(tmp_path / name)


SOUND = {("pcm_s16le", "mov", "vp9"): "opus", ("pcm_s16le", "mov", None): "pcm_s16le", ("aac", "mov", "vp9"): "opus",
         ("aac", "mp4", "vp9"): "aac"}  # fmt: skip


@pytest.mark.parametrize(("codec", "kind", "to"), SOUND)
def test_sound_that_a_container_cannot_hold_is_converted(
    codec: str, kind: str, to: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make(tmp_path / f"a.{kind}", sound=False)
    with av.open(str(path)) as silent, av.open(str(tmp_path / f"b.{kind}"), "w") as target:
        copy = target.add_stream_from_template(silent.streams.video[0])
        tone = target.add_stream(codec, rate=48000, layout="stereo")
        for packet in silent.demux(video=0):
            if packet.size:
                packet.stream = copy
                target.mux(packet)
        wave = (np.sin(np.arange(19200) / 48000 * 2 * np.pi * 440) * 9000).astype(np.int16)
        beep = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
        beep.rate, beep.pts = 48000, 0
        target.mux([*tone.encode(beep), *tone.encode(None)])
    options = [] if to is None else ["--codec", to]
    assert main(["protect", str(tmp_path / f"b.{kind}"), "--method", "noise", "--out", str(tmp_path), *options]) == 0
    wanted = SOUND[codec, kind, to]
    said = capsys.readouterr().out
    assert (f"audio, {codec} became {wanted}" in said) == (codec != wanted)
    report = json.loads((tmp_path / "b-protected.json").read_bytes())
    with av.open(str(tmp_path / report["protected"])) as result:
        assert result.streams.audio[0].codec_context.name == wanted
        heard = np.concatenate([np.atleast_2d(f.to_ndarray())[0] for f in result.decode(audio=0)]).astype(float)
    loud = np.abs(np.fft.rfft(heard[: len(heard) // 2 * 2]))
    assert len(heard) >= 19000 and loud.argmax() > 0 and report["not_taken_along"] == []


def test_apples_metadata_and_what_is_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, picture64 = "+48.85+002.35/", base64.b64encode(random.Random(0).randbytes(3000)).decode()
    path = tmp_path / "a.mov"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        target.metadata.update({"com.apple.quicktime.location.ISO6709": place, "com.apple.quicktime.make": "Apple",
                                "title": "Paris in the spring", "comment": picture64})  # fmt: skip
        target.set_chapters([
            {"id": i, "start": 100 * i, "end": 100 * i + 100, "time_base": Fraction(1, 1000), "metadata": {"title": t}}
            for i, t in enumerate(("One", picture64))
        ])  # fmt: skip
        for shown in numbered():
            target.mux(stream.encode(av.VideoFrame.from_image(shown).reformat(format="yuv420p")))
        target.mux(stream.encode(None))
    for codec in ("h264", "vp9"):
        out = tmp_path / codec
        assert main(["protect", str(path), "--method", "noise", "--codec", codec, "--out", str(out)]) == 0
        report = json.loads((out / "a-protected.json").read_bytes())
        with av.open(str(out / report["protected"])) as result:
            said = {key.lower(): value for key, value in result.metadata.items()}
            chapters = [chapter["metadata"] for chapter in result.chapters()]
        assert said["com.apple.quicktime.location.iso6709"] == place and said["com.apple.quicktime.make"] == "Apple"
        assert said["title"] == "Paris in the spring" and said["comment"] == MARK
        assert [{k.lower(): v for k, v in c.items()}.get("title") or None for c in chapters] == ["One", None]
        assert picture64[:40].encode() not in (out / report["protected"]).read_bytes()
        shown = capsys.readouterr().out
        assert "metadata 'comment'" in shown and "the title of chapter 2" in shown


def test_frames_are_counted_and_in_their_order(tmp_path: Path) -> None:
    """AVI holds no times of its own: with B-frames FFmpeg gives those of the packets, in the order of decoding."""
    path, order = tmp_path / "b.avi", tmp_path / "b.mp4"
    for file in (path, order):
        with av.open(str(file), "w") as target:
            stream = target.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.codec_context.options = {"bf": "2", "b-adapt": "0", "crf": "5"}
            for shown in numbered(count=12):
                target.mux(stream.encode(av.VideoFrame.from_image(shown).reformat(format="yuv420p")))
            target.mux(stream.encode(None))
    assert open_clip(path).times and not open_clip(order).times
    report = video.protect_clip(path, tmp_path / "out", NOISE)
    result = tmp_path / "out" / report["protected"]
    shown = times(result)
    assert report["frames"] == len(shown) == 12 and [b - a for a, b in pairwise(shown)] == [Fraction(1, 25)] * 11
    assert (levels(result).int() - levels(order).int()).abs().float().mean() < 6


def test_a_full_disk_is_no_fault_of_the_clip(clips: Callable[..., Path], tmp_path: Path) -> None:
    clip = open_clip(clips("long.mkv", frames=60))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as raised:
            rewrite(clip, tmp_path / "r.mkv", lambda number, frame: frame, kind="mkv", codec=CODECS["h264"], crf=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not isinstance(raised.value, UserError) and "r.mkv" in str(raised.value)


def test_coarser_colours_are_said_and_frames_are_counted(tmp_path: Path) -> None:
    fine, web = tmp_path / "fine.mkv", tmp_path / "web.webm"
    for file, codec, pixels, options in (
        (fine, "ffv1", "yuv422p10le", {}),
        (web, "libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "200k"}),  # hidden frames
    ):
        with av.open(str(file), "w") as target:
            stream = target.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
            stream.codec_context.options = options
            for shown in numbered(count=30):
                target.mux(stream.encode(av.VideoFrame.from_image(shown).reformat(format=pixels)))
            target.mux(stream.encode(None))
    report = video.protect_clip(fine, tmp_path / "out", NOISE)
    said = ["colours of 10 bits became 8", "colours became 4:2:0, one for every four pixels"]
    assert report["converted"] == said and report["frames"] == 30
    assert open_clip(web).frames == len(times(web)) == 30
