"""How a run protects photos, in what can be sent to other machines."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editproof.protection.settings import ProtectSettings


@dataclass(frozen=True)
class Plan:
    """What every worker is given; of a mask's file the content, since it may be on another machine."""

    settings: "ProtectSettings"
    target: str
    reports: str  # private
    mask_data: bytes | None = None
    overwrite: bool = False
    batch: int = 1
    image: str = "image"  # the column of parquet files
    request: Mapping[str, Any] = field(default_factory=dict)  # what makes a result the same: see done_before


def row(name: str, status: str, **more: Any) -> dict[str, Any]:
    """What became of one photo: protected, done before, protected already, or failed with an `error`.

    (Or fatal, which does not leave `protect_many`: what it met with, the others would.)
    """
    return {"photo": name, "status": status, **more}
