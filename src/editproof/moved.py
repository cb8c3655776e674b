"""Import paths that the documentation of 0.1 named, for programs written then: `editproof.photos` and five more."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "editproof.compare": "editproof.bench.compare",
    "editproof.demo": "editproof.bench.demo",
    "editproof.editing": "editproof.protection.edit",
    "editproof.formats": "editproof.photo.formats",
    "editproof.masks": "editproof.photo.masks",
    "editproof.photos": "editproof.protection.files",
}


class Moved(MetaPathFinder, Loader):
    """Finds a module by its old name: it is the module of the new name."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Nothing of its own."""

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Make old names importable, once."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
