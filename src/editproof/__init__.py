"""editproof: make photos resist AI editing, and measure honestly how well.

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from editproof.budgets import L2, Linf
    from editproof.editors import EDITORS, load_editor
    from editproof.errors import UserError
    from editproof.formats import save_photo
    from editproof.immunizer import NestedUNet, load_immunizer
    from editproof.masks import open_mask
    from editproof.methods import METHODS
    from editproof.people import auto_mask
    from editproof.photo import Photo, open_photo, save_png
    from editproof.photos import protect_photos
    from editproof.protection import protect

_HOME = {
    "EDITORS": "editors",
    "L2": "budgets",
    "Linf": "budgets",
    "METHODS": "methods",
    "NestedUNet": "immunizer",
    "Photo": "photo",
    "UserError": "errors",
    "auto_mask": "people",
    "load_editor": "editors",
    "load_immunizer": "immunizer",
    "open_mask": "masks",
    "open_photo": "photo",
    "protect": "protection",
    "protect_photos": "photos",
    "save_photo": "formats",
    "save_png": "photo",
}
__all__ = [
    "EDITORS",
    "L2",
    "METHODS",
    "Linf",
    "NestedUNet",
    "Photo",
    "UserError",
    "__version__",
    "auto_mask",
    "load_editor",
    "load_immunizer",
    "open_mask",
    "open_photo",
    "protect",
    "protect_photos",
    "save_photo",
    "save_png",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"editproof.{_HOME[name]}"), name)
    if not name.startswith("_") and find_spec(f"editproof.{name}"):
        return import_module(f"editproof.{name}")
    raise AttributeError(f"module 'editproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
