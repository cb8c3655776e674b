"""The options of `editproof demo`: imports no torch. Some are DiffVax's."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.options import at_least, named

ImageOption = Annotated[
    Path | None, typer.Option(help="A photo; scikit-image's astronaut if not given.", show_default=False)
]
EditPromptOption = Annotated[
    str | None, typer.Option("--prompt", "--edit-prompt", help="What the edits should show.", show_default=False)
]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="A photo of this folder, in DiffVax's layout.", show_default=False),
]
ImageIndexOption = Annotated[
    int | None,
    typer.Option(parser=at_least(0), metavar="N", help="Which photo of --data-dir, from 0.", show_default=False),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Weights of diffvax, which is then shown.", show_default=False),
]
BaselinesOption = Annotated[
    bool, typer.Option("--run-baselines", help="PhotoGuard, DiffusionGuard and immunizer, with pictures of each.")
]
PgStepsOption = Annotated[
    int | None, typer.Option(parser=at_least(1), metavar="N", help="Of photoguard-encoder.", show_default=False)
]
DgStepsOption = Annotated[
    int | None, typer.Option(parser=at_least(1), metavar="N", help="Of diffusionguard.", show_default=False)
]
NoDisplayOption = Annotated[
    bool, typer.Option("--no-display", help="Nothing is ever displayed: DiffVax's option, without effect.")
]
AllMethodsOption = Annotated[bool, typer.Option("--all-methods", help="Every method, side by side.")]
DemoEpsOption = Annotated[
    str, typer.Option(metavar="NUMBER", help="Largest change of a channel: 8/255 or 0.03; with every preset.")
]
DemoPresetOption = Annotated[
    str, typer.Option(metavar="fast|paper", help="fast: fits a CPU. paper: the papers' steps.")
]
DemoOutOption = Annotated[
    Path, typer.Option("--out", "--save-dir", parser=named, metavar="DIR", help="Folder for the pictures.")
]
