"""The second step: who is in a photo, outlined; a click takes somebody out of the protection, or adds somebody."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from editproof.app import pictures
from editproof.app.regions import people
from editproof.app.visits import Visit
from editproof.people.faces import clear_faces
from editproof.people.finding import COUNTED, SMALLEST, Box, probabilities
from editproof.photo.masks import AUTO
from editproof.photo.reading import Photo

FACE, UNSURE = 0.5, 0.2  # probabilities: of a face; of a person where somebody is pointed at
SPOT = 0.14  # of the shorter side: the radius of what is protected around a click where the network sees nobody
LARGEST = 0.6  # of the picture, what a click may add
DIM = 0.45  # brightness of what is not protected
GREEN, GREY = (0, 230, 118), (160, 160, 160)


@dataclass
class People:
    """Who is in a photo, at the size at which it is shown, and who of them is to be protected."""

    image: Image.Image
    size: tuple[int, int]  # of the photo: (height, width)
    mask: Path | None  # the automatic mask at the photo's size; None: nobody was found
    numbers: np.ndarray  # (h, w): the person each pixel is part of, from 1 on; 0: nobody
    likely: np.ndarray  # (h, w): the network's probability of a person
    faces: list[tuple[int, int]]  # their middles (x, y), the clearest first
    chosen: set[int] = field(default_factory=set)
    added: dict[int, np.ndarray] = field(default_factory=dict)  # number -> (h, w) bool: who was pointed at

    @property
    def found(self) -> int:
        """How many people were found; those who are added have higher numbers."""
        return int(self.numbers.max())

    @property
    def untouched(self) -> bool:
        """Whether the automatic mask is what is wanted."""
        return not self.added and self.chosen == set(range(1, self.found + 1))

    @property
    def kept(self) -> np.ndarray | None:
        """(h, w) bool: what is to be protected; None: everything, because nobody was found or added."""
        if not self.found and not self.added:
            return None
        kept = np.isin(self.numbers, sorted(self.chosen)) & (self.numbers > 0)
        for number, spot in self.added.items():
            if number in self.chosen:
                kept |= spot
        return kept


def look_for_people(visit: Visit, photo: Photo) -> People:
    """Find who is in a photo; everybody is chosen. What was found or chosen before is kept."""
    if photo.path not in visit.people:
        image = pictures.shown(photo).convert("RGB")
        mask, _ = people(photo)
        levels = photo.levels.permute(2, 0, 1)
        seen = probabilities(levels[None])[0]
        likely, face = (np.asarray(Image.fromarray(one.numpy()).resize(image.size)) for one in seen)
        path, kept = None, np.zeros((image.height, image.width), bool)
        if mask is not None:
            path = visit.new_folder() / "people.png"
            pictures.save_mask(mask, path)
            kept = ~np.asarray(Image.open(path).resize(image.size, Image.Resampling.NEAREST)).astype(bool)
        numbers, faces = number_people(kept, face, clear_faces(levels))
        visit.people[photo.path] = People(
            image, photo.size, path, numbers, likely, faces, set(range(1, int(numbers.max()) + 1))
        )
    return visit.people[photo.path]


def number_people(
    kept: np.ndarray, face: np.ndarray, clear: Sequence[Box] = ()
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Tell people apart: (h, w) bool, the probability of a face and faces that the detector is sure of -> their numbers
    (h, w), the faces' middles (x, y).

    Separate regions are separate people; where a region has several faces, each pixel goes to the nearest, in a measure
    that takes a body to be higher than wide.
    """
    regions, count = ndimage.label(kept)
    middles = _face_middles(kept, face, clear)
    numbers, last = np.zeros(kept.shape, np.int32), 0
    smallest = SMALLEST * kept.size / 4
    centres = ndimage.center_of_mass(kept, regions, range(1, count + 1)) if count else []
    for region in sorted(range(1, count + 1), key=lambda region: centres[region - 1][1]):  # from left to right
        inside = regions == region
        own = [middle for middle in middles if inside[round(middle[0]), round(middle[1])]]
        if len(own) < 2:
            if inside.sum() >= smallest or own or count == 1:
                last += 1
            numbers[inside] = max(1, last)
            continue
        rows, columns = np.nonzero(inside)
        distances = [(rows - y) ** 2 + 4 * (columns - x) ** 2 for y, x in sorted(own, key=lambda middle: middle[1])]
        numbers[inside] = last + 1 + np.argmin(distances, axis=0)
        last += len(own)
    return numbers, [(round(x), round(y)) for y, x in middles]


def _face_middles(kept: np.ndarray, face: np.ndarray, clear: Sequence[Box]) -> list[tuple[float, float]]:
    """The middles (y, x) of faces among those who are kept: the detector's, then what the network takes for more.

    A badge on a jacket can look like a face to the network. It is none if it is larger than the detector's faces.
    """
    height, width = kept.shape
    found = [((top + bottom) / 2 * height, (left + right) / 2 * width) for left, top, right, bottom in clear]
    found = [(y, x) for y, x in found if 0 <= y < height and 0 <= x < width and kept[int(y), int(x)]]
    areas = [(right - left) * (bottom - top) * kept.size for left, top, right, bottom in clear]
    blobs, count = ndimage.label((face > FACE) & kept)
    known = {blobs[int(y), int(x)] for y, x in found}
    more = []
    for blob in range(1, count + 1):
        inside = blobs == blob
        if blob not in known and face[inside].max() >= COUNTED and (not found or inside.sum() <= max(areas)):
            more.append((inside.sum(), ndimage.center_of_mass(inside)))
    return found + [middle for _, middle in sorted(more, key=lambda one: -one[0])]


def point_at(people: People, x: int, y: int) -> None:
    """A click on the picture: on somebody, it takes them out or puts them back; elsewhere, it adds what is there."""
    height, width = people.numbers.shape
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    for number, spot in list(people.added.items()):
        if spot[y, x]:
            del people.added[number]
            people.chosen.discard(number)
            return
    number = int(people.numbers[y, x])
    if number:
        people.chosen ^= {number}
        return
    number = max([people.found, *people.added]) + 1
    people.added[number] = _around(people, x, y)
    people.chosen.add(number)


def _around(people: People, x: int, y: int) -> np.ndarray:
    """What is added by a click: the region where the network is unsure, or a disc where it sees nobody."""
    regions, _ = ndimage.label((people.likely > UNSURE) & (people.numbers == 0))
    if regions[y, x]:
        region = ndimage.binary_fill_holes(regions == regions[y, x])
        if SMALLEST <= region.mean() <= LARGEST:
            return region
    rows, columns = np.ogrid[: people.numbers.shape[0], : people.numbers.shape[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= (SPOT * min(people.numbers.shape)) ** 2


def drawn(people: People) -> Image.Image:
    """The photo: what is protected bright and outlined, everybody with their number, the rest darker."""
    pixels, kept = np.asarray(people.image), people.kept
    if kept is None:
        return people.image
    result = np.where(kept[..., None], pixels, pixels * DIM).astype(np.uint8)
    thick = max(1, round(min(kept.shape) / 250))
    for number in sorted(people.chosen | set(range(1, people.found + 1))):
        inside = people.added.get(number, people.numbers == number)
        edge = ndimage.binary_dilation(inside, iterations=thick) & ~ndimage.binary_erosion(inside, iterations=thick)
        result[edge] = GREEN if number in people.chosen else GREY
    image = Image.fromarray(result)
    for number in range(1, people.found + 1) if people.found > 1 else ():
        _badge(image, people.numbers == number, str(number), number in people.chosen)
    return image


def _badge(image: Image.Image, inside: np.ndarray, text: str, chosen: bool) -> None:
    """Write a person's number at the top of their outline."""
    rows, columns = np.nonzero(inside)
    if not len(rows):
        return
    radius = max(10, round(min(image.size) / 28))
    top = int(rows.min())
    x = int(np.clip(np.median(columns[rows <= top + radius]), radius, image.width - radius))
    y = int(np.clip(top, radius, image.height - radius))
    pen = ImageDraw.Draw(image)
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=GREEN if chosen else GREY, outline="black")
    pen.text((x, y), text, fill="black", font=ImageFont.load_default(size=round(radius * 1.3)), anchor="mm")


def mask_of(visit: Visit, people: People) -> str | Path | None:
    """What protect_photos is told of the mask: AUTO where nothing was changed by hand, None for everything, or a file.

    The file has the photo's size, and the automatic mask's edges.
    """
    if people.untouched:
        return AUTO
    kept = people.kept
    if kept is None:
        return None
    height, width = people.size

    def whole(small: np.ndarray) -> np.ndarray:
        image = Image.fromarray(small.astype(np.uint8) * 255)
        return np.asarray(image.resize((width, height), Image.Resampling.NEAREST)) > 0

    keep = np.zeros(people.size, bool)
    if people.mask is not None:
        nearest = ndimage.distance_transform_edt(people.numbers == 0, return_distances=False, return_indices=True)
        owner = people.numbers[tuple(nearest)]
        keep |= (np.asarray(Image.open(people.mask)) == 0) & whole(np.isin(owner, sorted(people.chosen)))
    for number, spot in people.added.items():
        if number in people.chosen:
            keep |= whole(spot)
    path = visit.new_folder() / "chosen.png"
    pictures.save_mask(torch.from_numpy(~keep).float()[None, None], path)
    return path
