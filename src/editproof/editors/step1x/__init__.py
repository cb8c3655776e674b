"""Step1X-Edit (arXiv 2504.17761): its model, its pipeline, and its published files brought together."""

from editproof.editors.step1x.model import load_transformer

__all__ = ["load_transformer"]
