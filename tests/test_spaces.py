"""Autoencoders without editors: which are loaded, what is refused, and the attack on several at once."""

import json
import sys
from pathlib import Path

import aims
import pytest
import tiny
import torch
from diffusers import AutoencoderTiny, UNet2DModel
from safetensors.torch import save_file
from typer.testing import CliRunner

from editproof.bench.methods import parse_method
from editproof.budgets import Linf
from editproof.cli.main import app
from editproof.editors.spaces import load_spaces, round_trip, space_names
from editproof.errors import UserError
from editproof.methods import METHODS
from editproof.metrics.contrast import contrast_structure, contrast_structure_map
from editproof.photo.reading import save_png

CPU = torch.device("cpu")
ASSETS = Path(__file__).parents[1] / "src" / "editproof" / "assets"


def small(channels: int, seed: int) -> AutoencoderTiny:
    torch.manual_seed(seed)
    return AutoencoderTiny(
        latent_channels=channels, encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    )  # fmt: skip


@pytest.fixture(scope="module")
def spaces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny: a folder of an AutoencoderTiny, no pipeline around it."""
    folder = tmp_path_factory.mktemp("spaces")
    small(16, 0).save_pretrained(folder / "tiny")
    return folder


def test_several_are_attacked_together_and_no_editor_is_needed() -> None:
    """Each is broken more than by noise; only kept pixels change; the same seed gives the same bytes."""
    names = ", ".join(str(ASSETS / name) for name in ("tiny-inpaint", "tiny-kontext"))
    images, mask = tiny.people(2, 40, 36), tiny.hole(2, 40, 36)  # no multiple of 16

    def protect(name: str, **more: object) -> torch.Tensor:
        return METHODS[name](None, images, mask=mask, budget=Linf(16 / 255), steps=8, **more)

    protected = protect("autoencoder", spaces=names)
    assert torch.equal(protected, protect("autoencoder", spaces=names))
    assert torch.equal(protected[mask.expand_as(images) > 0], images[mask.expand_as(images) > 0])
    for vae in load_spaces(names, CPU):
        kept = [contrast_structure(round_trip(vae, x), images, 1 - mask) for x in (images, protect("noise"), protected)]
        assert (kept[2] < kept[1]).all() and (kept[2] < kept[0]).all()


def test_a_file_in_low_precision_is_loaded(tmp_path: Path) -> None:
    weights = AutoencoderTiny(latent_channels=4).state_dict()
    save_file({name: tensor.half() for name, tensor in weights.items()}, tmp_path / "taesd.safetensors")
    (vae,) = load_spaces(str(tmp_path / "taesd.safetensors"), CPU)
    assert vae.config.latent_channels == 4 and vae.dtype == torch.float32
    assert all(torch.equal(vae.state_dict()[name], tensor.half().float()) for name, tensor in weights.items())
    assert load_spaces(str(tmp_path / "taesd.safetensors"), CPU)[0] is vae


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sd9", "unknown latent space 'sd9'; allowed: sd1, sdxl, flux1, flux2, a hub id"),
        (" , ", "names no autoencoder; allowed: sd1"),
        ("nowhere/a/b", "unknown latent space 'nowhere/a/b'"),
        ("{unet}", "it is a UNet2DModel; allowed: AutoencoderTiny, AutoencoderKL"),
        ("{text}", "allowed: .safetensors"),
        ("{other}", "not an AutoencoderTiny in diffusers' naming"),
        ("{empty}", "cannot be loaded: "),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    if "unet" in text:
        UNet2DModel(block_out_channels=(8, 8), down_block_types=("DownBlock2D",) * 2, norm_num_groups=4,
                    up_block_types=("UpBlock2D",) * 2).save_pretrained(tmp_path / "unet")  # fmt: skip
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no weights")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    files = {"unet": "unet", "text": "text.txt", "other": "other.safetensors", "empty": "empty"}
    text = text.format(**{key: tmp_path / file for key, file in files.items()})
    with pytest.raises(UserError, match=said.replace("(", r"\(")) as refused:
        METHODS["autoencoder"](None, tiny.people(), spaces=text)
    assert "\n" not in str(refused.value)
    assert space_names("sd1, flux1") == ["sd1", "flux1"]


def test_on_the_command_line_and_in_comparisons(spaces: Path, tmp_path: Path) -> None:
    save_png(tmp_path / "photo.png", tiny.people(1, 40, 40)[0])
    run = CliRunner().invoke(
        app, ["protect", str(tmp_path / "photo.png"), "--out", str(tmp_path / "out"), "--method", "autoencoder",
              "--steps", "1", "--set", f"spaces={spaces / 'tiny'}"]
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    told = ["--set", f"spaces={spaces / 'tiny'}", "--editor", "sd-inpaint"]
    run = CliRunner().invoke(app, ["protect", str(tmp_path / "photo.png"), "--out", str(tmp_path / "no"), "--method",
                                   "autoencoder", *told])  # fmt: skip
    assert isinstance(run.exception, UserError) and not (tmp_path / "no").exists()
    assert not parse_method("autoencoder:spaces=sd1", None).needs_editor
    assert parse_method("autoencoder", None).needs_editor
    with pytest.raises(UserError, match="uses no editor; allowed: no on="):
        parse_method("autoencoder:spaces=sd1:on=tiny-inpaint", None)


def test_the_aims_are_measured_on_folders(
    spaces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    for number, photo in enumerate(tiny.people(3, 64, 64)):
        save_png(tmp_path / "photos" / f"{number}.png", photo)
        save_png(tmp_path / "masks" / f"{number}.png", tiny.hole(1, 64, 64)[0].expand(3, -1, -1))
    folders = [str(tmp_path / "photos"), "--masks", str(tmp_path / "masks"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["aims.py", *folders, "--count", "2", "--method", "noise", "--editors",
                                      "--spaces", f"own={spaces / 'tiny'}"])  # fmt: skip
    aims.main()
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "aims.md").read_text() and "2 photos" in printed
    visible, seconds, *structure = json.loads((tmp_path / "out" / "aims.json").read_text())
    mean, highest, psnr = visible["protected"]
    assert 2 < mean < highest and 29.5 < psnr < 31  # of random signs at 8/255
    assert seconds["protected"][0] > 0
    assert [row["what"].split(": ")[-1] for row in structure[:3]] == ["own"] * 3 and len(structure) == 4
    assert all(-1 <= row["protected"][0] <= 1 for row in structure)
    monkeypatch.setattr(sys, "argv", ["aims.py", str(tmp_path / "out"), "--out", str(tmp_path / "out")])
    with pytest.raises(UserError, match="no photos in"):
        aims.main()


def test_structure_is_blind_to_light_and_colour_only() -> None:
    photo = tiny.people(2, 40, 40)
    assert torch.allclose(contrast_structure(photo, photo), torch.ones(2))
    shifted = photo + torch.tensor([0.2, -0.1, 0.05])[:, None, None]
    assert torch.allclose(contrast_structure(shifted, photo), torch.ones(2), atol=1e-3)
    assert (contrast_structure(1 - photo, photo) < 0).all()
    assert (contrast_structure(photo.flip(-1), photo) < 0.9).all()
    assert contrast_structure_map(photo, photo).shape == (2, 1, 40, 40)
    mask = torch.zeros(2, 1, 40, 40)
    mask[..., :20] = 1
    half = torch.cat([photo[..., :20], 1 - photo[..., 20:]], -1)
    assert (contrast_structure(half, photo, mask) > contrast_structure(half, photo) + 0.2).all()
    with pytest.raises(UserError, match="too small for structure"):
        contrast_structure(photo[..., :6], photo[..., :6])
