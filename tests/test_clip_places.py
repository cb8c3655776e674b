"""Where clips were taken: said, and left out if asked for; masks of clips are read as masks, and can be looked at."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clip_maker import make, picture
from PIL import Image

from editproof.cli.main import main
from editproof.errors import UserError
from editproof.photo.metadata import NO_PLACE, STRIP
from editproof.protection.settings import ProtectSettings
from editproof.video import sound
from editproof.video.metadata import MOST, Said, chosen, kept, says_where, tells_place
from editproof.video.preview import DARK, FRAMES, WIDTH, mask_preview
from editproof.video.protect import protect_clip
from editproof.video.sound import hides_picture

PLACE = "+52.5163+013.3777/"
SAID = {"title": "A walk", "location": PLACE}


def said_of(path: Path) -> str:
    with av.open(str(path)) as clip:
        streams = [dict(stream.metadata) for stream in clip.streams]
        return str([dict(clip.metadata), streams, clip.chapters()])


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("choice", ["keep", NO_PLACE, STRIP])
def test_places_of_clips(suffix: str, choice: str, tmp_path: Path) -> None:
    clip = make(tmp_path / f"a{suffix}", frames=3, metadata=SAID)
    assert PLACE in said_of(clip)
    report = protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise", metadata=choice))
    result = said_of(tmp_path / "out" / report["protected"])
    assert (PLACE in result) == report["tells_place"] == (choice == "keep")
    assert ("A walk" in result) == (choice != STRIP)
    assert report["not_taken_along"] == []
    assert report["metadata"] == choice


@pytest.mark.parametrize(("options", "warned"), [([], True), (["--keep-place"], False), (["--no-place"], False),
                                                 (["--strip-metadata"], False)])  # fmt: skip
def test_the_command_warns_of_places_of_clips(
    options: list[str], warned: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = make(tmp_path / "a.mp4", frames=3, metadata=SAID)
    assert main(["protect", str(clip), "--out", str(tmp_path / "out"), "--method", "noise", *options]) == 0
    said = capsys.readouterr().err
    assert ("tells where it was taken" in said) == warned
    assert (PLACE in said_of(tmp_path / "out" / "a-protected.mp4")) == ("--no-place" not in options and
                                                                        "--strip-metadata" not in options)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("location", "Berlin", True), ("com.apple.quicktime.location.ISO6709", "x", True), ("GPSLatitude", "1", True),
        ("comment", "+52.51+013.37/", True), ("comment", "-33.8568+151.2153+020.000/", True),
        ("title", "A walk", False), ("date", "2026-11-29", False), ("comment", "+1 for this", False),
        ("phone", "+49 30 1234", False),
    ],
)  # fmt: skip
def test_what_says_where(key: str, value: str, where: bool) -> None:
    assert says_where(key, value) == where
    said = Said({}, {}, [{"id": 0, "metadata": {key: value}}])
    assert tells_place(said) == where
    assert tells_place(chosen(said, NO_PLACE)) is False


def test_subtitles_that_tell_places(tmp_path: Path) -> None:
    text = tmp_path / "a.srt"
    lines = "[latitude: 52.5163] [longitude: 13.3777]"
    text.write_text(f"1\n00:00:00,000 --> 00:00:00,100\n{lines}\n\n")
    plain = make(tmp_path / "plain.mkv", frames=5, sound=False)
    clip = tmp_path / "a.mkv"
    with av.open(str(plain)) as video, av.open(str(text)) as words, av.open(str(clip), "w") as target:
        streams = [(source, target.add_stream_from_template(source.streams[0])) for source in (video, words)]
        for source, new in streams:
            for packet in source.demux(source.streams[0]):
                if packet.size:
                    packet.stream = new
                    target.mux(packet)
    told = protect_clip(clip, tmp_path / "kept", ProtectSettings(method="noise"))
    assert told["tells_place"]
    assert lines.encode() in (tmp_path / "kept" / told["protected"]).read_bytes()
    told = protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise", metadata=NO_PLACE))
    assert not told["tells_place"]
    assert b"latitude" not in (tmp_path / "out" / told["protected"]).read_bytes()
    assert any("which tells places" in what for what in told["not_taken_along"])


def test_no_clip_keeps_thousands_of_texts() -> None:
    assert len(kept({f"name{i}": "short" for i in range(1000)})) == MOST


def test_sound_with_a_cover_picture_in_its_headers_is_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert hides_picture(b"\3vorbis\4\0\0\0Xiph\1\0\0\0\x40\0\0\0metadata_block_picture=AAAAAwAAAAppbWFnZS9qcGVn")
    assert hides_picture(b"fLaC\6\0\1\0image/jpeg\xff\xd8\xff\xe0")
    assert not hides_picture(b"\x12\x10\x56\xe5\0")
    assert not hides_picture(None)
    clip = make(tmp_path / "a.mp4", frames=3)
    monkeypatch.setattr(sound, "hides_picture", lambda headers: True)
    report = protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise"))
    assert report["converted"] == ["stream 1: audio, aac became aac"]
    assert report["not_taken_along"] == []


def test_a_clip_that_is_no_mask_is_refused_before_any_work(tmp_path: Path) -> None:
    clip, other = make(tmp_path / "a.mp4", frames=4), make(tmp_path / "b.mp4", frames=4)
    with pytest.raises(UserError, match=r"b.mp4, frame 1' is no mask"):
        protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise", mask=other))
    assert not (tmp_path / "out").exists()


def test_every_picture_of_a_folder_of_masks_is_looked_at_before_any_work(tmp_path: Path) -> None:
    clip, masks = make(tmp_path / "a.mp4", frames=4), tmp_path / "masks"
    masks.mkdir()
    for number in range(4):
        levels = np.zeros((48, 64), np.uint8)
        levels[:, :20] = 255
        Image.fromarray(levels if number < 3 else picture(0, 64, 48, True)).save(masks / f"{number}.png")
    with pytest.raises(UserError, match=r"3.png' is no mask"):
        protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise", mask=masks))
    for number in range(4):
        Image.fromarray(np.full((48, 64), 255, np.uint8)).save(masks / f"{number}.png")
    with pytest.raises(UserError, match="nothing to protect"):
        protect_clip(clip, tmp_path / "out", ProtectSettings(method="noise", mask=masks))
    assert not (tmp_path / "out").exists()


def test_what_of_a_clip_would_be_protected_is_shown(tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", frames=10, still=True)
    mask = tmp_path / "mask.png"
    levels = np.zeros((48, 64), np.uint8)
    levels[:, :32] = 255
    Image.fromarray(levels).save(mask)
    plain, shown = mask_preview(clip, None).float(), mask_preview(clip, mask).float()
    assert shown.shape == (FRAMES * 240, WIDTH, 3)
    inner = slice(10, WIDTH // 2 - 10)
    assert torch.allclose(shown[:, inner], plain[:, inner] * DARK, atol=2)
    assert torch.equal(shown[:, WIDTH // 2 + 10 :], plain[:, WIDTH // 2 + 10 :])
    look = tmp_path / "look.png"
    assert main(["protect", str(clip), "--mask", str(mask), "--look", str(look)]) == 0
    with Image.open(look) as image:
        assert np.array_equal(np.asarray(image), shown.byte().numpy())
    assert {path.name for path in tmp_path.iterdir()} == {"a.mp4", "mask.png", "look.png"}


def test_what_of_a_photo_would_be_protected_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, mask, look = tmp_path / "a.png", tmp_path / "mask.png", tmp_path / "look.png"
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(photo)
    levels = np.zeros((64, 64), np.uint8)
    levels[:, :32] = 255
    Image.fromarray(levels).save(mask)
    assert main(["protect", str(photo), "--mask", str(mask), "--look", str(look)]) == 0
    with Image.open(look) as image:
        assert np.asarray(image)[0, [0, 63], 0].tolist() == [50, 200]
    assert main(["protect", str(photo), "--mask", str(mask), "--look", str(look)]) == 2
    assert "exists" in capsys.readouterr().err
    assert main(["protect", str(photo)]) == 2
    assert "no --out" in capsys.readouterr().err
