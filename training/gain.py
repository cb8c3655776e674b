"""How strong a trained immunizer should be: what a person would see and what is broken at several gains.

    PYTHONPATH=src python training/gain.py --model work/immunizer/model --packs PACKS --weights WEIGHTS
    PYTHONPATH=src python training/gain.py --model work/immunizer/model --gains 1.8 --out work/immunizer-strong

The gain multiplies the network's output before its tanh, within the same bound. Measured on photos of the training
split, at 512x512, so that nothing is chosen on what is reported. --out: saves the network with the (one) gain in its
last layer and --bits a weight, as it is shipped; `--gains 1` changes the bits only.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import log, psnr
from photos import load_packs
from skimage.color import deltaE_ciede2000, rgb2lab
from spaces import CHANNELS, load_space
from torch import Tensor

from editproof.immunizer.network import NestedUNet, load_immunizer, perturb, save_immunizer
from editproof.metrics.contrast import contrast_structure

EPS = 8 / 255


def strengthen(network: NestedUNet, gain: float) -> NestedUNet:
    """Multiply what goes into the tanh, in place."""
    with torch.no_grad():
        network.final.weight.mul_(gain)
        network.final.bias.mul_(gain)
    return network


def colours(photo: Tensor, protected: Tensor) -> np.ndarray:
    """CIEDE2000 of every pixel of two (3,H,W) pictures in [0,1]."""
    return deltaE_ciede2000(*(rgb2lab(x.permute(1, 2, 0).numpy()) for x in (photo, protected)))


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="what immunizer.py saved")
    parser.add_argument("--gains", type=float, nargs="+", default=[1.0, 1.5, 1.8, 2.2, 3.0])
    parser.add_argument("--packs", type=Path, help="to measure with")
    parser.add_argument("--weights", type=Path, help="folder of the autoencoders, to measure with")
    parser.add_argument("--spaces", nargs="+", choices=CHANNELS, default=["sd1", "flux1"])
    parser.add_argument("--count", type=int, default=5, help="portraits, and as many scenes")
    parser.add_argument("--out", type=Path, help="saves the network with the one gain given")
    parser.add_argument("--bits", type=int, choices=(8, 16, 32), default=8, help="of a weight of --out")
    args = parser.parse_args()
    if args.packs and args.weights:
        packs = load_packs(args.packs, "train", "cpu")
        photos = torch.cat([p[:: max(1, len(p) // args.count)][: args.count] for p in (packs.portraits, packs.scenes)])
        photos = F.interpolate(photos.float() / 255, scale_factor=2, mode="bicubic").clamp(0, 1)
        spaces = {name: load_space(name, args.weights, "cpu") for name in args.spaces}
        for gain in [0.0, *args.gains]:
            network = strengthen(load_immunizer(args.model).eval(), gain)
            seen = [(p + perturb(network, p[None], None, EPS)).clamp(0, 1) for p in photos]
            protected = (torch.cat(seen) * 255).round() / 255
            shown = [colours(*pair) for pair in zip(photos, protected, strict=True)]
            kept = {
                name: np.mean([contrast_structure(space(b[None]), a[None]).item()
                               for a, b in zip(photos, protected, strict=True)])
                for name, space in spaces.items()
            }  # fmt: skip
            log(gain=gain, psnr=psnr(protected, photos).mean().item(), colour_mean=float(np.mean(shown)),
                colour_95=float(np.mean([np.percentile(x, 95) for x in shown])), **kept)  # fmt: skip
    if args.out:
        (gain,) = args.gains
        network = strengthen(load_immunizer(args.model), gain)
        config = json.loads((args.model / "config.json").read_text())
        notes = {name: config[name] for name in ("trained_against", "steps")}
        save_immunizer(network, args.out, bits=args.bits, **notes, gain=config.get("gain", 1.0) * gain)


if __name__ == "__main__":
    main()
