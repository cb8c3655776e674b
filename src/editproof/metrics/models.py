"""Models that metrics need: folders, or hub ids whose files are downloaded on first use."""

from pathlib import Path

from editproof.errors import UserError


def model_folder(source: str, metric: str, patterns: list[str]) -> Path:
    """The folder of a model: `source` itself, or where the hub's files of these patterns are, downloaded with a bar.

    Raises UserError, one line that says what to do, if there is no such model or the hub cannot be reached.
    """
    if Path(source).is_dir():
        return Path(source)
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise UserError(f"{metric}: no model '{source}'; allowed: a folder that exists, or a hub id owner/model")
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=patterns))
    except errors.GatedRepoError:
        raise UserError(
            f"{metric}: model {source} is gated: accept its licence on https://huggingface.co/{source}, "
            "then run `hf auth login`"
        ) from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise UserError(f"{metric}: model {source} is not on the hub (or private: run `hf auth login`)") from None
    except errors.LocalEntryNotFoundError:
        raise UserError(
            f"{metric} needs the model {source}, which is not on this machine, and the hub cannot be reached: "
            f"run `hf download {source}` where there is network, or name a folder"
        ) from None
    except (errors.HfHubHTTPError, OSError) as error:
        raise UserError(f"{metric}: model {source} cannot be downloaded: {' '.join(str(error).split())}") from error
