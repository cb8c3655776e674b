"""Methods, editors, metrics and counters of other packages, found by their entry points."""

import logging
import sys
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

LOG = logging.getLogger("editproof")
_waiting: list[tuple[EntryPoint, dict[str, Any], type]] = []  # entry, its registry, what a row has to be


def add_plugins(group: str, registry: dict[str, Any], row: type) -> None:
    """Add the rows that installed packages offer in an entry point group to a registry.

    An entry that cannot be imported, is no row or takes a name that is there already is left out, and a line in the log
    (the terminal, unless a program says otherwise) says so: everything else works on.

    Args:
        group: Such as "editproof.methods".
        registry: Name -> row; gets the new ones.
        row: What a row has to be.
    """
    _waiting.extend((entry, registry, row) for entry in _installed().select(group=group))
    while ready := [found for found in _waiting if not _is_being_imported(found[0].module)]:
        _waiting.remove(ready[0])
        _add(*ready[0])


@cache
def _installed() -> Any:
    """All entry points there are (by select), looked for once: every installed package is asked."""
    return entry_points()


def _is_being_imported(module: str) -> bool:
    """Whether a file is being read: it offers rows of several kinds, and imports this package to make them."""
    return getattr(getattr(sys.modules.get(module), "__spec__", None), "_initializing", False)


def _add(entry: EntryPoint, registry: dict[str, Any], row: type) -> None:
    where = f"{entry.group} {entry.name!r} of package {entry.dist.name if entry.dist else entry.module!r}"
    if entry.name in registry:
        LOG.warning("%s is left out: there is one of that name already", where)
        return
    try:
        found = entry.load()
    except Exception as error:  # whatever another package does wrong
        LOG.warning("%s is left out: %s: %s", where, type(error).__name__, error)
        return
    if isinstance(found, row):
        registry[entry.name] = found
    else:
        LOG.warning("%s is left out: it is a %s, not a %s", where, type(found).__name__, row.__name__)
