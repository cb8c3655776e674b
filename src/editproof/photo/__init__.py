"""Photo files: reading them, what they carry beside their pixels, masks, and the formats they can be written in."""

from editproof.photo.formats import save_photo
from editproof.photo.masks import open_mask
from editproof.photo.reading import Photo, open_photo, save_png

__all__ = ["Photo", "open_mask", "open_photo", "save_photo", "save_png"]
