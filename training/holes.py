"""The masks an attacker might use: keep only the face, repaint the backdrop, halves, boxes, strokes, everything."""

import random

import torch
import torch.nn.functional as F
from torch import Tensor

PEOPLE = {
    "face": 0.36,
    "backdrop": 0.2,
    "person": 0.04,
    "half": 0.12,
    "boxes": 0.12,
    "keep-box": 0.06,
    "strokes": 0.07,
    "all": 0.03,
}
SCENES = {"half": 0.35, "boxes": 0.3, "keep-box": 0.15, "strokes": 0.12, "all": 0.08}


def polygon(points: Tensor, size: int) -> Tensor:
    """(N,2) corners in pixels -> (size,size), 1 inside (crossing-number rule)."""
    axis = torch.arange(size, device=points.device, dtype=torch.float32)
    y, x = axis[:, None, None], axis[None, :, None]
    (x0, y0), (x1, y1) = points.T, points.roll(-1, 0).T
    rises = (y0 > y) != (y1 > y)
    crosses = x < (x1 - x0) * (y - y0) / torch.where(y1 == y0, 1e-6, y1 - y0) + x0
    return ((rises & crosses).sum(-1) % 2).float()


def face(landmarks: Tensor, raised: float) -> Tensor:
    """The kept face: jaw points 1-17 and brow points 18-27 raised by `raised` pixels, as corners (27,2)."""
    brow = landmarks[17:27].flip(0).clone()
    brow[:, 1] -= raised
    return torch.cat([landmarks[:17], brow])


def box(rng: random.Random, size: int, device: torch.device, low: float, high: float) -> Tensor:
    height, width = (int(size * rng.uniform(low, high)) for _ in range(2))
    top, left = rng.randrange(size - height + 1), rng.randrange(size - width + 1)
    out = torch.zeros(size, size, device=device)
    out[top : top + height, left : left + width] = 1
    return out


def half(rng: random.Random, size: int, device: torch.device) -> Tensor:
    edge = int(size * rng.uniform(0.3, 0.7))
    out = torch.zeros(size, size, device=device)
    out[:edge] = 1
    return torch.rot90(out, rng.randrange(4))


def strokes(rng: random.Random, size: int, device: torch.device) -> Tensor:
    axis = torch.arange(size, device=device, dtype=torch.float32)
    out = torch.zeros(size, size, device=device)
    x, y = rng.uniform(0, size), rng.uniform(0, size)
    for _ in range(rng.randint(3, 10)):
        radius = rng.uniform(0.05, 0.14) * size
        nx, ny = (min(max(v + rng.gauss(0, 0.25 * size), 0), size) for v in (x, y))
        for t in torch.linspace(0, 1, 6).tolist():
            cx, cy = x + (nx - x) * t, y + (ny - y) * t
            out = torch.maximum(out, ((axis[None] - cx) ** 2 + (axis[:, None] - cy) ** 2 < radius**2).float())
        x, y = nx, ny
    return out


def draw_mask(person: Tensor, landmarks: Tensor, rng: random.Random) -> Tensor:
    """One mask (1,H,W), 1 = repaint, for a person mask (1,H,W) and its landmarks (68,2); NaN landmarks = a scene."""
    size, device = person.shape[-1], person.device
    kinds = SCENES if landmarks.isnan().any() else PEOPLE
    kind = rng.choices(list(kinds), list(kinds.values()))[0]
    if kind == "face":
        corners = face(landmarks, rng.uniform(20, 55))
        centre = corners.mean(0)
        out = 1 - polygon((corners - centre) * rng.uniform(0.9, 1.25) + centre, size)
    elif kind in ("backdrop", "person"):
        radius = rng.randint(0, 5)
        grown = F.max_pool2d(person[None], 2 * radius + 1, 1, radius)[0, 0]
        out = (grown < 0.5).float() if kind == "backdrop" else (grown >= 0.5).float()
    elif kind == "half":
        out = half(rng, size, device)
    elif kind == "boxes":
        out = torch.stack([box(rng, size, device, 0.2, 0.6) for _ in range(rng.randint(1, 3))]).amax(0)
    elif kind == "keep-box":
        out = 1 - box(rng, size, device, 0.3, 0.65)
    elif kind == "strokes":
        out = strokes(rng, size, device)
    else:
        out = torch.ones(size, size, device=device)
    return out[None]


def draw_masks(persons: Tensor, landmarks: Tensor, rng: random.Random) -> Tensor:
    """(B,1,H,W), one mask for each picture."""
    return torch.stack([draw_mask(p, m, rng) for p, m in zip(persons, landmarks, strict=True)])
