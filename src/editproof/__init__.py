"""editproof: make photos resist AI editing, and measure honestly how well.

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from editproof import moved

__version__ = "0.2.0"

if TYPE_CHECKING:
    from editproof.budgets import L2, Linf
    from editproof.editors import EDITORS, load_editor
    from editproof.errors import UserError
    from editproof.immunizer import NestedUNet, load_immunizer
    from editproof.methods import METHODS
    from editproof.people.finding import auto_mask
    from editproof.photo import Photo, open_mask, open_photo, save_photo, save_png
    from editproof.protection import protect
    from editproof.protection.files import protect_photos

_HOME = {
    "EDITORS": "editors",
    "L2": "budgets",
    "Linf": "budgets",
    "METHODS": "methods",
    "NestedUNet": "immunizer",
    "Photo": "photo",
    "UserError": "errors",
    "auto_mask": "people.finding",
    "load_editor": "editors",
    "load_immunizer": "immunizer",
    "open_mask": "photo",
    "open_photo": "photo",
    "protect": "protection",
    "protect_photos": "protection.files",
    "save_photo": "photo",
    "save_png": "photo",
}
_MODULES = ("budgets", "counters", "editors", "errors", "immunizer", "methods", "metrics", "pgd", "photo", "protection")
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

moved.install()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"editproof.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"editproof.{name}")
    raise AttributeError(f"module 'editproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
