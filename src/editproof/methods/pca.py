"""PCA, posterior collapse attack (arXiv 2408.10901): the encoder's distribution over latents collapses to a point."""

from torch import Tensor

from editproof.budgets import Linf
from editproof.methods.method import Given, method, minimise


@method("pca", needs="variational", paper=(Linf(16 / 255), 10, 2 / 255), fast={"steps": 10, "momentum": 0.9})
def pca(given: Given, *, variance: float = 1e-8, rising: bool = False) -> Tensor:
    """Minimise the KL divergence of the encoder's posterior from a normal distribution around 0.

    Args:
        given: The photos and what may change in them. The prompt has no effect.
        variance: Of that distribution: 1e-8 with a falling divergence is the authors' PCA-, which destroys the edit.
        rising: Maximise it instead: with variance 1 the authors' PCA+, after which edits stay near the photo.

    The authors' function takes 10 steps, their command line 40. Deviations: an inpainting editor encodes the photo with
    its hole in mid-grey; latents of FLUX are not shifted first; the result is rounded to 8 bits within the budget.
    """
    editor = given.editor

    def divergence(images: Tensor) -> Tensor:
        posterior = editor.posterior(images, given.mask)
        mean, logarithm = posterior.mean.float(), posterior.logvar.float()
        terms = (mean.square() + logarithm.exp()) / variance - logarithm - 1
        return terms.flatten(1).mean(1) * (-0.5 if rising else 0.5)

    return minimise(divergence, given)
