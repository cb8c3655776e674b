"""The embedded models do on a public-domain photo what their cards say."""

import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.bench.demo import astronaut
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.editors.spaces import load_spaces, round_trip
from editproof.immunizer.network import load_immunizer, perturb
from editproof.metrics import psnr
from editproof.metrics.contrast import contrast_structure

ASSETS = Path(__file__).parents[1] / "src" / "editproof" / "assets"
COLOURS = {"red": (1, 0, 0), "green": (0, 0.5, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


@pytest.fixture(scope="module")
def editor() -> Editor:
    return load_editor("tiny-inpaint", device="cpu")


@pytest.fixture(scope="module")
def kontext() -> Editor:
    return load_editor("tiny-kontext", device="cpu")


@pytest.mark.parametrize("name", ["editor", "kontext"])
def test_the_autoencoder_keeps_the_picture(request: pytest.FixtureRequest, name: str) -> None:
    editor, (picture, _) = request.getfixturevalue(name), astronaut(256)
    with torch.no_grad():
        again = editor.decode(editor.encode(picture)).clamp(0, 1)
    assert psnr(again, picture).item() > 26


@pytest.mark.slow
def test_a_backdrop_has_the_colour_that_was_asked_for(editor: Editor) -> None:
    picture, mask = astronaut(256)
    prompts = [f"a portrait photo, plain {colour} background" for colour in COLOURS]
    edits = editor.edit(picture.expand(4, -1, -1, -1), prompts, mask=mask, seed=3)
    corner = edits[..., :32, :32].flatten(2)
    table = torch.tensor(list(COLOURS.values()))
    assert torch.cdist(corner.mean(2), table.float()).argmin(1).tolist() == [0, 1, 2, 3]
    assert corner.std(2).max() < 0.06, "speckle"


def exact_results(picture: Tensor) -> dict[str, Tensor]:
    grey = (picture * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True).expand_as(picture)
    centre = F.interpolate(picture[..., 32:224, 32:224], size=(256, 256), mode="bilinear")
    return {
        "a photo of this person": picture,
        "make it black and white": grey,
        "mirror the picture": picture.flip(-1),
        "zoom in on the face": centre,
    }


@pytest.mark.slow
def test_instructions_have_their_exact_results(kontext: Editor) -> None:
    picture, _ = astronaut(256)
    truths = exact_results(picture)
    edits = kontext.edit(picture.expand(4, -1, -1, -1), list(truths), steps=8, seed=3)
    assert (psnr(edits, torch.cat(list(truths.values()))) > 23).all()


def test_the_plain_call_edits_as_ours_does(kontext: Editor) -> None:
    """It pads texts to 512 tokens, editproof to 64."""
    picture, _ = astronaut(256)
    plain = kontext.pipe(
        image=picture, prompt="mirror the picture", height=256, width=256, max_area=256 * 256, _auto_resize=False,
        num_inference_steps=4, generator=torch.Generator().manual_seed(3), output_type="pt",
    ).images  # fmt: skip
    ours = kontext.edit(picture, "mirror the picture", steps=4, seed=3)
    assert psnr(plain, picture.flip(-1)).item() > 23 and psnr(plain, ours).item() > 32


def test_the_immunizer_is_as_its_card_says() -> None:
    network = load_immunizer()
    assert (network.in_channels, network.depths, network.batch_norm) == (4, (16, 32, 64, 128, 256), "photo")
    assert network.trained_eps == 8 / 255


@pytest.mark.parametrize("space", ["sd1", "flux1"])
def test_the_immunizer_takes_structure_from_an_autoencoders_picture_and_hardly_shows(space: str) -> None:
    """More than random noise that shows as much."""
    photo, _ = astronaut(256)
    (vae,) = load_spaces(space, photo.device)
    signs = torch.randn(photo.shape, generator=torch.Generator().manual_seed(0)).sign()
    noise = (photo + 4.5 / 255 * signs).clamp(0, 1)
    with torch.no_grad():
        protected = (photo + perturb(load_immunizer().eval(), photo, None, 8 / 255)).clamp(0, 1)
        before, after, by_noise = (contrast_structure(round_trip(vae, x), photo) for x in (photo, protected, noise))
    assert psnr(protected, photo).item() > psnr(noise, photo).item() - 0.5 > 34
    assert after < before - 0.01 and after < by_noise - 0.008


def test_the_models_are_small_and_their_sources_are_named() -> None:
    weights = sum(file.stat().st_size for file in ASSETS.rglob("*.safetensors"))
    assert weights < 42 * 2**20
    cards = sorted(card.parent.name for card in ASSETS.glob("**/README.md"))
    assert cards == ["diffvax", "immunizer", "people", "tiny-inpaint", "tiny-kontext"]
    with (ASSETS / "CREDITS.csv").open() as file:
        credits = list(csv.DictReader(file))
    assert len(credits) > 600
    assert all(row["licence"] and (row["url"] or row["author"]) for row in credits)
