"""Step1X-Edit against the published code's numbers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_attention import GOLDEN, fill
from torch import Tensor

from editproof.editors.step1x import Step1XTransformer, load_transformer
from editproof.errors import UserError


def published(version: str) -> dict[str, Tensor]:
    """A checkpoint in its own naming, by the golden files' rule."""
    keys = json.loads((GOLDEN / f"step1x_{version}_keys.json").read_text())
    return fill({name: torch.empty(shape) for name, shape in keys.items()}, 0.02)


def close(value: Tensor, golden: Tensor) -> bool:
    return value.shape == golden.shape and bool((value - golden).norm() < 1e-3 * golden.norm())


@pytest.mark.parametrize("version", ["v1.0", "v1.1"])
@torch.no_grad()
def test_the_published_codes_numbers(version: str) -> None:
    model, golden = load_transformer(published(version), version), load_file(GOLDEN / f"step1x_{version}.safetensors")
    tokens, pooled = model.connector(golden["llm_hidden"], golden["timestep"], golden["mask"])
    assert close(tokens, golden["connector_tokens"])
    assert close(pooled, golden["connector_pooled"])
    output = model(
        golden["target_tokens"], golden["context_tokens"], golden["llm_hidden"], golden["mask"],
        timestep=golden["timestep"], target_ids=golden["target_ids"], context_ids=golden["context_ids"],
    )  # fmt: skip
    assert close(output, golden["output"])
