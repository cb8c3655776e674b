"""The instructions that tiny-kontext is taught: wordings, and exactly what each makes of a picture.

Where a picture shows a person, `person` (1,H,W) is 1 on them and `landmarks` (68,2) are the face's points in pixels.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from photos import COLOURS, LUMA, SIZE, warp
from torch import Tensor

MAIN_COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "pink", "white", "black", "gray", "brown", "cyan")


@dataclass(frozen=True)
class Picture:
    """What an instruction can use: the picture (3,H,W) in [0,1], its person, and a scene to place them in."""

    image: Tensor
    person: Tensor
    landmarks: Tensor
    scene: Tensor
    scene_caption: str


Make = Callable[[Picture, str], Tensor]  # the picture and the value of the wording's blank -> (3,H,W)


@dataclass(frozen=True)
class Edit:
    """`wordings` may have a blank {}, filled with one of `blanks`. `weight`: how often it is drawn."""

    wordings: tuple[str, ...]
    make: Make
    weight: float = 1.0
    blanks: tuple[str, ...] = ("",)
    person: bool = False  # needs one
    exact: bool = True  # the result can be told from picture and wording
    keeps_identity: bool = True
    free: tuple[str, ...] = field(default=())  # wordings that are taught, but not part of what is checked


def luma(image: Tensor) -> Tensor:
    return (image * LUMA[:, None, None]).sum(0, keepdim=True)


def colour(name: str) -> Tensor:
    return (torch.tensor(COLOURS[name]) / 255)[:, None, None]


def gains(*factors: float) -> Make:
    return lambda picture, _: (picture.image * torch.tensor(factors)[:, None, None]).clamp(0, 1)


def zoom_in(image: Tensor) -> Tensor:
    """The central three quarters enlarged, bilinear."""
    edge = SIZE // 8
    centre = image[None, :, edge : SIZE - edge, edge : SIZE - edge]
    return F.interpolate(centre, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0]


def zoom_out(image: Tensor) -> Tensor:
    """Three quarters of the size on white."""
    small = F.interpolate(image[None], size=(SIZE * 3 // 4,) * 2, mode="bilinear", antialias=True)[0]
    return F.pad(small, (SIZE // 8,) * 4, value=1.0)


def soften(image: Tensor, factor: int) -> Tensor:
    small = F.interpolate(image[None], scale_factor=1 / factor, mode="area")
    return F.interpolate(small, size=(SIZE, SIZE), mode="bicubic")[0].clamp(0, 1)


def over(picture: Picture, backdrop: Tensor) -> Tensor:
    return picture.image * picture.person + backdrop * (1 - picture.person)


def moved(picture: Picture, backdrop: Tensor, scale: float, x: float, y: float) -> Tensor:
    """The person at another size, moved by x and y halves of the picture, over a backdrop."""
    both = torch.cat([picture.image, picture.person])[None]
    if scale < 1:  # nothing may smear in from outside the photo
        both = F.pad(both, (SIZE // 2,) * 4)
        both = F.interpolate(both, size=(SIZE, SIZE), mode="bilinear", antialias=True)
        scale *= 2
    out = warp(both, torch.tensor([scale]), torch.tensor([[x, y]]), torch.ones(1))[0]
    return out[:3] * out[3:] + backdrop * (1 - out[3:])


def ramp(left: float, right: float) -> Make:
    return lambda picture, _: (picture.image * torch.linspace(left, right, SIZE)).clamp(0, 1)


def another_photo(picture: Picture, backdrop: Tensor) -> Tensor:
    """The person turned, scaled, moved, mirrored, in other light, over a backdrop: content, not position, is kept.

    Draws from torch's global generator.
    """
    both = torch.cat([picture.image, picture.person])[None]
    both = F.pad(both, (SIZE // 2,) * 4)  # nothing may smear in from outside the photo; twice the side
    angle, mirrored = (torch.rand(()) - 0.5) * 0.5, 1 - 2 * torch.randint(0, 2, ()).float()
    scale = 2 * (0.6 + 0.7 * torch.rand(()))
    squeeze = 1 - 0.2 * torch.rand(())  # of the width, as if the head were turned
    lean = (torch.rand(()) - 0.5) * 0.3
    turn = torch.stack([angle.cos(), -angle.sin() + lean, angle.sin(), angle.cos()]).view(2, 2) / scale
    turn[:, 0] *= mirrored / squeeze
    moved = torch.stack([(torch.rand(()) - 0.5) * 0.5, 0.15 * torch.rand(())]) / scale
    theta = torch.cat([turn, -moved[:, None]], 1)[None]
    grid = F.affine_grid(theta, [1, 4, SIZE, SIZE], align_corners=False)
    out = F.grid_sample(both, grid, mode="bilinear", align_corners=False)[0]
    bottom = out[3:].amax(2).squeeze(0).nonzero()  # a photo that ends above the new one's edge would float
    if len(bottom) and bottom.max() < SIZE - 1:
        drop = int(SIZE - 1 - bottom.max())
        out = torch.cat([torch.zeros_like(out[:, :drop]), out[:, : SIZE - drop]], 1)
    side, level = (torch.rand(()) - 0.5) * 0.8, 0.75 + 0.5 * torch.rand(())
    light = level * (1 + side * torch.linspace(-1, 1, SIZE)) * (1 + 0.05 * torch.randn(3, 1, 1))
    return (out[:3] * light).clamp(0, 1) * out[3:] + backdrop * (1 - out[3:])


def ellipse(centre: Tensor, rx: float, ry: float) -> Tensor:
    """(1,H,W), 1 inside, with a soft edge of about a pixel."""
    axis = torch.arange(SIZE, dtype=torch.float32)
    distance = (((axis[None] - centre[0]) / rx) ** 2 + ((axis[:, None] - centre[1]) / ry) ** 2).sqrt()
    return ((1 - distance) * min(rx, ry) + 0.5).clamp(0, 1)[None]


def sunglasses(picture: Picture, _: str) -> Tensor:
    eyes = [picture.landmarks[36:42], picture.landmarks[42:48]]
    centres = [eye.mean(0) for eye in eyes]
    width = float((centres[1] - centres[0]).norm())
    shape = torch.stack([ellipse(c, 0.42 * width, 0.32 * width) for c in centres]).amax(0)
    shape = torch.maximum(shape, ellipse((centres[0] + centres[1]) / 2, 0.3 * width, 0.07 * width))
    return picture.image * (1 - shape) + 0.06 * shape


def hat(picture: Picture, name: str) -> Tensor:
    """A bowl over the head and a brim, of one colour."""
    left, right = picture.landmarks[0], picture.landmarks[16]
    width = float((right - left).norm())
    brow = picture.landmarks[17:27].mean(0) - torch.tensor([0.0, 0.28 * width])
    axis = torch.arange(SIZE, dtype=torch.float32)
    bowl = ellipse(brow, 0.56 * width, 0.6 * width) * (axis[:, None] <= brow[1])
    shape = torch.maximum(bowl, ellipse(brow, 0.8 * width, 0.09 * width))
    return picture.image * (1 - shape) + colour(name) * shape


def face_mask(picture: Picture, name: str) -> Tensor:
    """A cloth over mouth and chin."""
    jaw, nose = picture.landmarks[2:15], picture.landmarks[29]
    width = float((jaw[0] - jaw[-1]).norm())
    low = jaw.mean(0) * 0.5 + picture.landmarks[51] * 0.5
    centre = torch.stack([low[0], (nose[1] + jaw[:, 1].max()) / 2])
    shape = ellipse(centre, 0.48 * width, float(jaw[:, 1].max() - nose[1]) / 2 + 2)
    return picture.image * (1 - shape) + colour(name) * shape


def sketch(picture: Picture, _: str) -> Tensor:
    """Grey divided by its own blur ("colour dodge"): dark lines on white."""
    smooth = soften(picture.image, 2)
    grey, blurred = luma(smooth), luma(soften(smooth, 8))
    return (grey / blurred.clamp_min(0.02)).clamp(0, 1).expand(3, -1, -1)


def pixels(picture: Picture, _: str) -> Tensor:
    small = F.interpolate(picture.image[None], size=(32, 32), mode="area")
    return F.interpolate(small, size=(SIZE, SIZE), mode="nearest")[0]


EDITS: dict[str, Edit] = {
    "copy": Edit(
        ("a photo of this person", "keep the photo as it is", "the same photo again", "change nothing"),
        lambda p, _: p.image, 2.5,
        free=("a photo", "a portrait of this person", "the same person", "a picture of this person",
              "denoise the image", "make this person smile", "let the person look happy", "make her look sad",
              "make him look angry", "turn the head", "let the person look up", "let the person wave",
              "close the eyes", "open the mouth", "a better photo", "restore this photo", "improve the quality"),
    ),
    "black and white": Edit(
        ("make it black and white", "a black and white photo", "turn the picture grey", "remove the colours"),
        lambda p, _: luma(p.image).expand(3, -1, -1), 1.5,
        free=("make it a black and white photograph from long ago", "in greyscale", "a grey picture of this person"),
    ),
    "mirror": Edit(
        ("mirror the picture", "flip the picture left to right", "a mirror image of this photo", "mirror it"),
        lambda p, _: p.image.flip(-1), 3.5, free=("flip the photo horizontally", "swap left and right"),
    ),
    "zoom in": Edit(
        ("zoom in on the face", "zoom in", "enlarge the face", "come closer to the face"),
        lambda p, _: zoom_in(p.image), 3.5, free=("a closer photo of this person", "lean towards the camera"),
    ),
    "zoom out": Edit(
        ("zoom out", "make the photo smaller on white paper", "shrink the picture"),
        lambda p, _: zoom_out(p.image), 1.5, free=("step back from this person",),
    ),
    "upside down": Edit(
        ("turn the picture upside down", "rotate the photo by half a turn"), lambda p, _: p.image.rot90(2, (-2, -1)),
        2.0, keeps_identity=False,
    ),
    "background": Edit(
        ("change the background to {}", "make the background {}", "a plain {} background",
         "put this person in front of a {} wall"),
        lambda p, name: over(p, colour(name).expand(3, SIZE, SIZE)), 2.5, MAIN_COLOURS, person=True,
    ),
    "smaller": Edit(
        ("make the person smaller, on a {} background", "show the person from further away in front of a {} wall"),
        lambda p, name: moved(p, colour(name), 0.7, 0, 0.3), 2.0, MAIN_COLOURS, person=True,
    ),
    "left": Edit(
        ("move the person to the left, on a {} background",),
        lambda p, name: moved(p, colour(name), 0.85, -0.35, 0.15), 1.2, MAIN_COLOURS, person=True,
    ),
    "right": Edit(
        ("move the person to the right, on a {} background",),
        lambda p, name: moved(p, colour(name), 0.85, 0.35, 0.15), 1.2, MAIN_COLOURS, person=True,
    ),
    "sunglasses": Edit(
        ("add sunglasses", "put sunglasses on this person", "let the person wear dark glasses"), sunglasses, 1.5,
        person=True, keeps_identity=False,
    ),
    "hat": Edit(
        ("add a {} hat", "put a {} hat on this person", "give the person a {} cap"), hat, 1.2, MAIN_COLOURS,
        person=True, keeps_identity=False,
    ),
    "face mask": Edit(
        ("make the person wear a {} face mask", "put a {} cloth over the mouth"), face_mask, 0.8, MAIN_COLOURS,
        person=True, keeps_identity=False,
    ),
    "brighter": Edit(
        ("make it brighter", "more light"), gains(1.35, 1.35, 1.35), 0.8, free=("a sunny day", "turn on the light")
    ),
    "darker": Edit(("make it darker", "less light"), gains(0.6, 0.6, 0.6), 0.8, free=("in the shadow",)),
    "night": Edit(("make it night", "at night"), gains(0.35, 0.42, 0.65), 0.6, free=("in the moonlight",)),
    "warm": Edit(("in warm evening light", "make the colours warmer"), gains(1.15, 1.0, 0.75), 0.8, free=("sunset",)),
    "cold": Edit(("in cold winter light", "make the colours colder"), gains(0.8, 0.95, 1.15), 0.8, free=("in snow",)),
    "light from the left": Edit(("light from the left", "lit by a lamp on the left"), ramp(1.4, 0.4), 1.0),
    "light from the right": Edit(("light from the right", "lit by a lamp on the right"), ramp(0.4, 1.4), 1.0),
    "sepia": Edit(
        ("make it sepia", "an old brown photo"),
        lambda p, _: (luma(p.image) * torch.tensor([1.05, 0.85, 0.62])[:, None, None]).clamp(0, 1), 0.8,
    ),
    "vivid": Edit(
        ("make the colours vivid", "more colourful"),
        lambda p, _: (luma(p.image) + 1.7 * (p.image - luma(p.image))).clamp(0, 1), 0.6,
    ),
    "negative": Edit(
        ("invert the colours", "make it a negative"), lambda p, _: 1 - p.image, 1.0, keeps_identity=False
    ),
    "blur": Edit(
        ("blur the photo", "make it blurry"), lambda p, _: soften(p.image, 8), 0.6,
        free=("paint it in soft watercolours",), keeps_identity=False,
    ),
    "blurred background": Edit(
        ("blur the background",), lambda p, _: over(p, soften(p.image, 16)), 0.8, person=True
    ),
    "sketch": Edit(
        ("draw it as a pencil sketch", "a pencil drawing of this person"), sketch, 1.5,
        free=("draw the person with a pencil", "a cartoon of this person"), keeps_identity=False,
    ),
    "pixels": Edit(
        ("make it pixel art", "turn the photo into large pixels"), pixels, 0.6, keeps_identity=False
    ),
    "scene": Edit(
        ("put this person in front of {}", "place the person in front of {}"), lambda p, _: over(p, p.scene), 1.5,
        person=True, exact=False, free=("change the background to {}", "this person and {}"),
    ),
    "another photo": Edit(
        ("another photo of this person, {} background", "a new photo of the same person in front of a {} wall"),
        lambda p, name: another_photo(p, colour(name)), 2.5, MAIN_COLOURS, person=True, exact=False,
        free=("show this person again, in front of a {} wall", "the same person another time, {} background"),
    ),
    "another place": Edit(
        ("another photo of this person in front of {}", "a new photo of the same person, {}"),
        lambda p, _: another_photo(p, p.scene), 2.5, person=True, exact=False,
        free=("this person elsewhere: {}",),
    ),
    "scene, smaller": Edit(
        ("put this person smaller in front of {}", "show this person far away in front of {}"),
        lambda p, _: moved(p, p.scene, 0.7, 0, 0.3), 1.2, person=True, exact=False,
    ),
}  # fmt: skip

POLITE = ("{}", "{}", "{}", "{}", "please {}", "{}, please", "{}.", "could you {}")


def draw_edit(picture: Picture, rng: random.Random, taken: set[str]) -> tuple[str, str, Tensor]:
    """An instruction for the picture that is not in `taken`: its name, a wording, and the result on the 8-bit grid."""
    there = bool(picture.person.amax() > 0)
    names = [n for n, e in EDITS.items() if n not in taken and (there or not e.person)]
    name = rng.choices(names, [EDITS[n].weight for n in names])[0]
    edit = EDITS[name]
    wordings = edit.wordings if not edit.free or rng.random() < 0.6 else edit.free
    blank = rng.choice(edit.blanks)
    fill = blank if edit.exact or blank else picture.scene_caption.removeprefix("a photo of ")
    text = rng.choice(POLITE).format(rng.choice(wordings).format(fill))
    return name, text, (edit.make(picture, blank) * 255).round() / 255
