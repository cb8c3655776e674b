"""Face chips, cut out so that gradients go back to the picture: faces are found once, chips of them taken at will."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from editproof.people.faces import landmarks
from editproof.randomness import Generators, randn

CHIP = 150  # pixels: the side of a chip
PADDING = 0.25  # around the face, in its sides
# Where dlib's 5 points (the corners of the eyes, below the nose) are in a face of side 1.
POINTS = (
    (0.8595674595992, 0.2134981538014),
    (0.6460604764104, 0.2289674387677),
    (0.1205750620789, 0.2137274526848),
    (0.3340850613712, 0.2290642403242),
    (0.4901123135679, 0.6277975316475),
)


@dataclass(frozen=True)
class Chips:
    """The faces of pictures: `turns` (N, 2, 3) takes a chip's coordinates to its picture's, both in [-1, 1].

    `owners` (N,): which picture each is in.
    """

    turns: Tensor
    owners: Tensor

    def cut(self, images: Tensor, generators: Generators | None = None, jitter: float = 0.0) -> Tensor:
        """The chips (N, 3, 150, 150) of images (B, 3, H, W), as dlib cuts them; differentiable.

        With generators, one for each image, chips are moved by `jitter` of their side, scaled and turned (radians) by
        as much, all normally distributed.
        """
        turns = self.turns
        if generators is not None:
            moved = torch.stack([randn((4,), [generators[i]])[0] for i in self.owners.tolist()]).to(turns) * jitter
            turns = turns @ _homogeneous(moved)
        size = [len(turns), 3, 2 * CHIP, 2 * CHIP]
        grid = F.affine_grid(turns, size, align_corners=False)
        return F.avg_pool2d(F.grid_sample(images[self.owners], grid, align_corners=False, padding_mode="border"), 2)

    def mean(self, values: Tensor, pictures: int) -> Tensor:
        """(N,), a value for each face -> (B,): each picture's mean; nan where it has no face."""
        sums = torch.zeros(pictures, device=values.device).index_add(0, self.owners, values)
        return sums / self.owners.bincount(minlength=pictures)


def find_chips(images: Tensor, kept: Tensor | None = None) -> Chips:
    """The faces in images (B, 3, H, W) in [0, 1]; with `kept` (B, 1, H, W), those with most points where it is 1.

    Pictures may have none. Raises UserError without dlib.
    """
    turns, owners = [], []
    for number, image in enumerate(images):
        for points in landmarks(image):
            if kept is None or _lies_in(points, kept[number, 0]):
                turns.append(_turn(points, images.shape[-2:]))
                owners.append(number)
    where = torch.stack(turns) if turns else torch.empty(0, 2, 3)
    return Chips(where.to(images.device), torch.tensor(owners, dtype=torch.long, device=images.device))


def _lies_in(points: Tensor, region: Tensor) -> bool:
    rows = (points[:, 1] * region.shape[0]).long().clamp(0, region.shape[0] - 1)
    columns = (points[:, 0] * region.shape[1]).long().clamp(0, region.shape[1] - 1)
    return region[rows.to(region.device), columns.to(region.device)].mean().item() > 0.5


def _turn(points: Tensor, size: torch.Size) -> Tensor:
    """The similarity (least squares) that takes a chip's coordinates to those of 5 points (x, y), shares of `size`."""
    sides = torch.tensor([size[1], size[0]], dtype=torch.float64)
    chip = 2 * (torch.tensor(POINTS, dtype=torch.float64) + PADDING) / (1 + 2 * PADDING) - 1
    x, y = chip.T
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    equations = torch.cat([torch.stack([x, -y, one, zero], 1), torch.stack([y, x, zero, one], 1)])
    a, b, right, down = torch.linalg.lstsq(equations, (points.double() * sides).T.reshape(-1, 1)).solution[:, 0]
    pixels = torch.stack([torch.stack([a, -b, right]), torch.stack([b, a, down])])
    pixels[:, 2] -= sides / 2
    return (2 * pixels / sides[:, None]).float()


def _homogeneous(moved: Tensor) -> Tensor:
    """(N, 4): right, down, scale, angle -> (N, 3, 3), which move a chip's coordinates."""
    right, down, scale, angle = moved.unbind(1)
    cos, sin, zero = scale.exp() * angle.cos(), scale.exp() * angle.sin(), torch.zeros_like(angle)
    rows = [cos, -sin, 2 * right, sin, cos, 2 * down, zero, zero, zero + 1]
    return torch.stack(rows, 1).view(-1, 3, 3)
