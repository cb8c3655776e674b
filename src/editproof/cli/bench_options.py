"""The options of `editproof bench`: imports no torch."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.options import named

OutOption = Annotated[
    Path,
    typer.Option(
        parser=named, metavar="DIR", help="Where rows, pictures and report go; goes on there.", show_default=False
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Settings (YAML), the options' names.", show_default=False)
]
DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Photos; see docs/benchmark.md.", show_default=False)
]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,...", help="NAME[:setting=value...]; none and every method by default.", show_default=False
    ),
]
EditorsOption = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="Names, hub ids or folders.", show_default="tiny-inpaint")
]
CountersOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="Attacks on the protection: none,resize:0.5+jpeg:75.", show_default=False),
]
MetricsOption = Annotated[
    str | None,
    typer.Option(metavar="A,B,...", help="By default all that need nothing downloaded.", show_default=False),
]
PromptsOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="One prompt a line, or .yml; the data's by default.", show_default=False),
]
PromptOption = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="A prompt; repeat for more.", show_default=False)
]
SeedsOption = Annotated[str | None, typer.Option(metavar="N,N,...", show_default="0,1,2")]
BudgetsOption = Annotated[
    str | None, typer.Option(metavar="A,B,...", help="8/255, l2:8 or paper.", show_default="8/255")
]
MatchPsnrOption = Annotated[
    float | None, typer.Option(metavar="DB", help="Every photo at this PSNR, whatever budget.", show_default=False)
]
MatchOption = Annotated[
    str | None, typer.Option(metavar="METRIC=VALUE", help="The same: psnr=32, ssim=.95.", show_default=False)
]
PresetOption = Annotated[
    str | None,
    typer.Option(metavar="fast|paper", help="fast fits a CPU; edits in 8 steps too.", show_default=False),
]
MasksOption = Annotated[
    str | None, typer.Option(metavar="auto|files|centre", help="Masks of inpainting editors.", show_default="auto")
]
ReferenceOption = Annotated[
    str | None,
    typer.Option(
        metavar="same|untouched", help="Original after the same counter-attack, or as it is.", show_default="same"
    ),
]
SizeOption = Annotated[int | None, typer.Option(help="Side in pixels; as the editor sees photos.", show_default=False)]
EditStepsOption = Annotated[int | None, typer.Option(help="The editor's own by default.", show_default=False)]
GuidanceOption = Annotated[float | None, typer.Option(help="The editor's own by default.", show_default=False)]
SourceOption = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=WHERE", help="Hub id or folder of a metric's model.", show_default=False),
]
LimitOption = Annotated[int | None, typer.Option(metavar="N", help="Only the first photos.", show_default=False)]
BatchOption = Annotated[
    int | None, typer.Option(metavar="N", help="Photos worked on together.", show_default="16 on a GPU, else 1")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Chunks of photos at the same time.", show_default="on a CPU one for each core"),
]
CacheOption = Annotated[
    str | None,
    typer.Option(metavar="all|photos", help="photos: keep no edits of protected photos.", show_default="all"),
]
GalleryOption = Annotated[int | None, typer.Option(metavar="N", help="Photos in the report.", show_default="4")]
TransferOption = Annotated[
    bool | None,
    typer.Option("--transfer", help="Every method against each editor, tested on all.", show_default=False),
]
