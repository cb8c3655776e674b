"""The embedded models do on a public-domain photo what their cards say."""

import csv
from pathlib import Path

import pytest
import torch

from editproof.demo import astronaut
from editproof.editors import load_editor
from editproof.editors.pipeline import Editor
from editproof.immunizer import load_immunizer
from editproof.metrics import psnr

ASSETS = Path(__file__).parents[1] / "src" / "editproof" / "assets"
COLOURS = {"red": (1, 0, 0), "green": (0, 0.5, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


@pytest.fixture(scope="module")
def editor() -> Editor:
    return load_editor("tiny-inpaint", device="cpu")


def test_the_autoencoder_keeps_the_picture(editor: Editor) -> None:
    picture, _ = astronaut(256)
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


def test_the_immunizer_is_as_its_card_says() -> None:
    network = load_immunizer()
    assert (network.in_channels, network.depths, network.batch_norm) == (4, (16, 32, 64, 128, 256), "photo")
    assert network.trained_eps == 16 / 255


def test_the_models_are_small_and_their_sources_are_named() -> None:
    weights = sum(file.stat().st_size for file in ASSETS.rglob("*.safetensors"))
    assert weights < 42 * 2**20
    assert sorted(card.parent.name for card in ASSETS.glob("*/README.md")) == ["immunizer", "tiny-inpaint", "tiny-kontext"]
    with (ASSETS / "CREDITS.csv").open() as file:
        credits = list(csv.DictReader(file))
    assert len(credits) > 600
    assert all(row["licence"] and (row["url"] or row["author"]) for row in credits)
