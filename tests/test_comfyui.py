"""The node for ComfyUI, called as ComfyUI calls nodes; ComfyUI itself is not here."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch

from editproof.budgets import Linf
from editproof.protection import protect

FOLDER = Path(__file__).parents[1] / "integrations" / "comfyui"


@pytest.fixture(scope="module")
def node() -> Any:
    """As ComfyUI loads a custom node: the folder as a module, then its table of classes."""
    spec = importlib.util.spec_from_file_location("custom_node", FOLDER / "__init__.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.NODE_CLASS_MAPPINGS.keys() == module.NODE_DISPLAY_NAME_MAPPINGS.keys()
    (kind,) = module.NODE_CLASS_MAPPINGS.values()
    return kind()


def saved(images: torch.Tensor) -> np.ndarray:
    """What ComfyUI's Save Image writes: fractions of levels are cut off."""
    return np.clip(255.0 * images.numpy(), 0, 255).astype(np.uint8)


def test_it_saves_what_the_library_makes(node: Any) -> None:
    photos = tiny.pictures(2, 48, 64)
    (result,) = getattr(node, node.FUNCTION)(photos.movedim(1, -1), strength=8)
    expected = torch.cat([protect(photo[None], budget=Linf(8 / 255)) for photo in photos])
    assert result.shape == (2, 48, 64, 3) and result.min() >= 0 and result.max() <= 1
    assert (saved(result) == (expected * 255).round().movedim(1, -1).numpy().astype(np.uint8)).all()


def test_only_what_the_mask_keeps_changes(node: Any) -> None:
    photo = tiny.pictures(1, 48, 64).movedim(1, -1)
    mask = torch.ones(1, 24, 32)
    mask[:, 4:20, 8:24] = 0
    (result,) = node.run(photo, 16, mask)
    changed = (saved(result) != saved((photo * 255).round() / 255 + 0.25 / 255)).any(-1)[0]
    inside = np.zeros((48, 64), bool)
    inside[8:40, 16:48] = True
    assert changed[inside].mean() > 0.5 and not changed[~inside].any()


def test_its_inputs_are_those_it_takes(node: Any) -> None:
    inputs = node.INPUT_TYPES()
    assert {**inputs["required"], **inputs["optional"]}.keys() == {"images", "strength", "mask"}
    settings = inputs["required"]["strength"][1]
    assert settings["min"] <= settings["default"] == 8 <= settings["max"]
    assert node.RETURN_TYPES == ("IMAGE",)
