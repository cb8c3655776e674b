"""Fixtures shared by all tests; nothing may reach for the network."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the pictures are tiny: a second thread costs more than it helps

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from editproof.editors.pipeline import Editor


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked gpu are for a machine that has one: `pytest -m gpu` there."""
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable:
    """name -> folder of a tiny random pipeline of that kind, made once."""
    import tiny

    root, made = tmp_path_factory.mktemp("tiny"), {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = tiny.save(name, root)
        return made[name]

    return folder


@pytest.fixture(scope="session")
def tiny_editor(tiny_folder: Callable) -> Callable:
    """name -> that pipeline loaded as a user loads it, on the CPU in float32."""
    import tiny

    from editproof.editors import load_editor

    made: dict = {}

    def editor(name: str) -> "Editor":
        if name not in made:
            made[name] = load_editor(tiny_folder(name), device="cpu", size=tiny.SIZE)
        return made[name]

    return editor
