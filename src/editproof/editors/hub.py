"""Files from the hub or a folder: every way they can be missing gets a line of its own that says what to do."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from editproof.errors import UserError


def model_index(source: str, label: str, folder: bool) -> dict[str, Any]:
    """model_index.json of a folder or hub model in diffusers' layout."""
    from huggingface_hub import hf_hub_download

    with told(label, source):
        path = Path(source, "model_index.json") if folder else Path(hf_hub_download(source, "model_index.json"))
        return json.loads(path.read_text())


@contextmanager
def told(label: str, source: str, *files: str) -> Iterator[None]:
    """Problems with a model on the hub in one line; `files`: those of it that are needed, if not all of a pipeline."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"editor {label} is gated: accept its licence on https://huggingface.co/{source}, then run `hf auth login`"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UserError(f"editor {label} is not on the hub (or private: run `hf auth login`)") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"editor {label} is not on this machine and the hub cannot be reached: "
            f"run `{' '.join(('hf download', source, *files))}` where there is network, or name a folder"
        ) from None
    except (errors.EntryNotFoundError, FileNotFoundError):
        layout = "has no model_index.json: it is not in diffusers' layout"
        raise UserError(f"editor {label} {'lacks one of ' + ', '.join(files) if files else layout}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"editor {label} cannot be read: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """What an error says, or its name if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def quiet() -> Iterator[None]:
    """Without remarks and loading bars, for what takes a second. Download bars are not affected."""
    import logging

    import diffusers.utils.logging
    import transformers.utils.logging

    accelerate = logging.getLogger("accelerate")
    level = accelerate.level
    accelerate.setLevel(logging.ERROR)
    modules = (diffusers.utils.logging, transformers.utils.logging)
    before = [(module, module.get_verbosity(), module.is_progress_bar_enabled()) for module in modules]
    for module in modules:
        module.set_verbosity_error()
        module.disable_progress_bar()
    try:
        yield
    finally:
        accelerate.setLevel(level)
        for module, verbosity, bar in before:
            module.set_verbosity(verbosity)
            if bar:
                module.enable_progress_bar()
