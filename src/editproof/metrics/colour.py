"""How far apart colours look: CIEDE2000 (Sharma, Wu and Dalal 2005), by scikit-image."""

import numpy as np
import torch
from torch import Tensor

from editproof.metrics.trial import check_pair


def lab(images: Tensor) -> np.ndarray:
    """Pictures (B,3,H,W) sRGB in [0,1] as CIELAB (B,H,W,3): lightness from 0 to 100, then the two colour axes."""
    from skimage.color import rgb2lab

    return rgb2lab(images.detach().double().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy())


def ciede2000(images: Tensor, reference: Tensor) -> Tensor:
    """The mean colour difference over all pixels of (B,3,H,W) twice, sRGB in [0,1]: (B,); 1 can just be seen.

    Raises UserError for other shapes.
    """
    from skimage.color import deltaE_ciede2000

    check_pair(images, reference)
    apart = deltaE_ciede2000(lab(images), lab(reference))
    return torch.from_numpy(apart).mean((1, 2)).float().to(images.device)
