"""Pipelines that take one photo at a time, as a PIL picture: how they are given tensors, one after another."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from editproof.editors.pipeline import Editor, Prompt, Reading, repeated
from editproof.randomness import Generators


class OneByOne(Editor):
    """An editor whose photos of a batch are edited one after another."""

    def first_prediction(self, images: Tensor, prompt: Prompt = "", *, generator: Generators, **more: Any) -> Tensor:
        """What the denoiser predicts first, as latents; see `Editor`."""
        rows = [super(OneByOne, self).first_prediction(image, reading, generator=[own], **more)
                for image, reading, own in self._each(images, prompt, generator)]  # fmt: skip
        return torch.cat(rows)

    def _latents(self, images: Tensor, prompt: Prompt, **more: Any) -> Tensor:
        generator, callback = more.pop("generator"), more.pop("callback", None)
        draws = len(generator) // len(images)
        images, prompt = images.repeat(draws, 1, 1, 1), repeated(prompt, draws)

        def told(number: int) -> Callable[[int, int], None] | None:
            if callback is None:
                return None
            return lambda step, steps: callback(number * steps + step, len(images) * steps)

        rows = [
            self._one(image, reading, generator=[own], callback=told(number), **more)
            for number, (image, reading, own) in enumerate(self._each(images, prompt, generator))
        ]
        return torch.cat(rows)

    def _inputs(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        height, width = images.shape[-2:]
        return {"image": Picture(images), "height": height, "width": width}

    def _pipeline_attributes(self, alike: int, taken: int, steps: int) -> dict[str, Any]:
        return {"image_processor": AsTheyAre}

    def _one(self, image: Tensor, reading: Reading, **more: Any) -> Tensor:
        """The latents (1,C,h,w) of one photo's edit."""
        return super()._latents(image, reading, **more)

    def _each(
        self, images: Tensor, prompt: Prompt, generator: Generators
    ) -> Iterator[tuple[Tensor, Reading, torch.Generator]]:
        reading = self.encode_prompt(images, prompt)
        for number, own in enumerate(generator):
            row = slice(number, number + 1)
            yield images[row], {key: value[row] for key, value in reading.items()}, own


class Picture(NamedTuple):
    """One photo (1,3,H,W) in [0,1], with the attribute that the pipelines ask of a PIL picture."""

    pixels: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[-1], self.pixels.shape[-2]


class AsTheyAre:
    """Takes the place of a pipeline's image processor, so that pictures keep their gradients and their size."""

    @staticmethod
    def check_image_input(picture: Picture) -> None:
        """Any size will do."""

    @staticmethod
    def _resize_to_target_area(picture: Picture, area: int) -> Picture:
        return picture

    @staticmethod
    def resize(picture: Picture, height: int, width: int) -> Picture:
        """The photo, for a text encoder that has read it already."""
        return picture

    @staticmethod
    def preprocess(picture: Picture, *size: int, **named: Any) -> Tensor:
        """The photo in [-1,1]."""
        return 2 * picture.pixels - 1
