"""The options that commands share, and what their text means."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from editproof.errors import UserError
from editproof.parsing import LARGEST_SEED, parse_eps, parse_number

if TYPE_CHECKING:
    from editproof.budgets import Budget


def at_least(lowest: int, number: type = int, highest: float = math.inf) -> Callable[[str], Any]:
    """A parser of option values: finite numbers from `lowest` to `highest`."""

    def parse(text: str) -> Any:
        try:
            value = number(text)
        except ValueError:
            value = math.nan
        if not lowest <= value <= highest or value == math.inf:
            kind = "whole number" if number is int else "number"
            limits = f"of at least {lowest}" if highest == math.inf else f"from {lowest} to {highest}"
            raise typer.BadParameter(f"'{text}'; allowed: a {kind} {limits}")
        return value

    return parse


def named(text: str) -> Path:
    """A parser of names of files and folders: an empty one would be taken for the current folder."""
    if not str(text).strip():  # a default comes as it is
        raise typer.BadParameter("''; allowed: a name, such as . for this folder")
    return Path(text)


PhotosArgument = Annotated[
    list[Path],
    typer.Argument(
        help="Photos: PNG, JPEG, WebP, TIFF, AVIF, HEIC ...; clips: MP4, MOV, MKV, WebM, AVI.", show_default=False
    ),
]
RecursiveOption = Annotated[
    bool, typer.Option("--recursive", "-r", help="All photos in folders, their tree kept; goes on after bad files.")
]
FormatOption = Annotated[
    str, typer.Option(metavar="png|webp|tiff|avif|jpeg", help="Of the results; avif and jpeg (jpg) are lossy.")
]
QualityOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(1, highest=100), metavar="1-100", help="Of avif and jpeg; 95 if not given.", show_default=False
    ),
]
CodecOption = Annotated[
    str | None,
    typer.Option(
        metavar="h264|hevc|vp9|av1|ffv1", help="Of clips; ffv1 is lossless. h264 if not given.", show_default=False
    ),
]
CrfOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(0, highest=63),
        metavar="N",
        help="Quality of clips, lower is better; h264 at 0 is lossless. 18 if not given.",
        show_default=False,
    ),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Protect again what is protected already.")]
StripOption = Annotated[
    bool, typer.Option("--strip-metadata", help="Results without EXIF, XMP and captions; the colour profile stays.")
]
PlaceOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-place/--no-place",
        help="Whether results tell where photos were taken; kept, and said, if not given.",
        show_default=False,
    ),
]
CredentialsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.pem", help="Sign results with Content Credentials: a key and certificates.", show_default=False
    ),
]
MaskOption = Annotated[
    str,
    typer.Option(
        "--mask", metavar="FILE|auto|none", help="White = the editor may repaint, black = keep; auto: keep people."
    ),
]
LookOption = Annotated[
    Path | None,
    typer.Option(
        "--look", parser=named, metavar="FILE.png", show_default=False,
        help="Protect nothing, only show in a picture what of a photo or clip would be protected.",
    ),
]  # fmt: skip
InvertOption = Annotated[bool, typer.Option("--invert-mask", help="Black = the editor may repaint.")]
SeedOption = Annotated[
    int,
    typer.Option(parser=at_least(0, highest=LARGEST_SEED), metavar="N", help="Same seed, same machine: same result."),
]
DeviceOption = Annotated[
    str | None, typer.Option(help="cuda, mps or cpu; the best there is if not given.", show_default=False)
]
EditorOption = Annotated[
    str | None,
    typer.Option(
        help="A name (see `editproof list editors`), hub id or folder; tiny-inpaint if one is needed.",
        show_default=False,
    ),
]
SchedulerOption = Annotated[
    str | None, typer.Option(help="ddim, pndm, euler, lms or kdpm2; the model's own if not given.", show_default=False)
]
PlanOption = Annotated[
    str | None,
    typer.Option(
        help="Where weights are: whole, stream, int8 or first-block (see `editproof doctor`); what fits if not given.",
        show_default=False,
    ),
]
CompileOption = Annotated[
    bool,
    typer.Option("--record/--no-record", help="On a GPU: record what gradients take; quicker from the second step on."),
]
SizeOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(16, highest=8192),
        metavar="PIXELS",
        help="Work at the area of this square; at the size at which the editor sees the photo if not given.",
        show_default=False,
    ),
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
EpsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBER",
        help="Largest change of a channel: 8/255 or 0.03. Default 8/255; with --preset paper, the paper's budget.",
        show_default=False,
    ),
]
L2Option = Annotated[
    str | None, typer.Option(metavar="NUMBER", help="An L2 budget instead, as at 512x512: 8.0.", show_default=False)
]
StepsOption = Annotated[
    int | None,
    typer.Option(
        parser=at_least(1), metavar="N", help="Optimisation steps; the preset's if not given.", show_default=False
    ),
]
KnobsOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="A method's own setting; repeat for more.", show_default=False),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        metavar="fast|paper|paper-512|sizes",
        help="fast: fewer steps, fits a CPU. sizes: fast, to hold at several sizes. paper: its steps and budget; "
        "paper-512: at the area of 512x512.",
        show_default=False,
    ),
]


def metadata_asked(strip: bool, keep_place: bool | None) -> str:
    """What ProtectSettings is told of metadata. Raises UserError where the options contradict."""
    if strip and keep_place:
        raise UserError("--strip-metadata and --keep-place exclude each other; allowed: one of them")
    return "strip" if strip else "no-place" if keep_place is False else "keep"


def none_or(value: str) -> str | None:
    """The word none means that there is none."""
    return None if value == "none" else value


def parse_budget(eps: str | None, l2: str | None) -> "Budget | None":
    """The budget of --eps or --l2, None if neither is given."""
    if eps is not None and l2 is not None:
        raise UserError(f"--eps '{eps}' and --l2 '{l2}' exclude each other; allowed: one of them")
    number = parse_eps(eps, "--eps") if eps is not None else None
    length = parse_number(l2, "--l2", math.inf) if l2 is not None else None
    if number is None and length is None:
        return None
    from editproof.budgets import L2, Linf

    return Linf(number) if number is not None else L2(length or 0.0)
