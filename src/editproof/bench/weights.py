"""Which weights rows come from: other files under the same name, as of an editor trained anew, make other rows."""

import hashlib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path

from editproof.bench.config import editor_label
from editproof.bench.methods import NONE, MethodSpec
from editproof.editors import EDITORS
from editproof.files import digest
from editproof.immunizer.network import embedded
from editproof.methods import METHODS


def weights_of(specs: Sequence[MethodSpec], editors: Iterable[str]) -> dict[str, str]:
    """What tells the weights of editors, and of embedded one-pass networks that methods use: label -> hash.

    Of an editor that is embedded or a folder, a hash of its files; of one on the hub, the commit that is on this
    machine ("" if there is none yet).
    """
    found = {editor_label(name): _of_editor(name) for name in dict.fromkeys(editors)}
    used = (embedded_in(spec) for spec in specs)
    return found | {name: _of_folder(embedded(name)) for name in used if name is not None}


def embedded_in(spec: MethodSpec) -> str | None:
    """The embedded one-pass network that a method's result depends on, by the name of its method; None: none."""
    if spec.name != NONE and METHODS[spec.name].one_pass and not spec.settings.get("weights"):
        return spec.name
    return "immunizer" if spec.settings.get("start") == "immunizer" else None


def _of_editor(name: str) -> str:
    info = EDITORS.get(name)
    source = name if info is None else info.source
    folder = Path(str(files("editproof"))) / "assets" / source if info is not None and info.embedded else Path(source)
    if folder.is_dir():
        return _of_folder(folder)
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(source, "model_index.json")
    return Path(index).parent.name if isinstance(index, str) else ""


def _of_folder(folder: Path) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(folder).as_posix()}\0{digest(path)}\0".encode())
    return whole.hexdigest()[:32]
