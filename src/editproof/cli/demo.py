"""`editproof demo`: imports no torch until it runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editproof.cli.display import OUT, make_table, progress_bar
from editproof.cli.options import (
    CompileOption,
    DeviceOption,
    EditorOption,
    InvertOption,
    MaskOption,
    PlanOption,
    SeedOption,
    SizeOption,
    at_least,
    named,
    none_or,
    parse_budget,
)

app = typer.Typer()
BASELINES = ("photoguard-encoder", "diffusionguard", "diffvax")  # of DiffVax's demo


@app.command()
def demo(
    image: Annotated[
        Path | None, typer.Option(help="A photo; scikit-image's astronaut if not given.", show_default=False)
    ] = None,
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "--edit-prompt", help="What the edits should show.", show_default=False)
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="DIR", help="A photo of this folder, in DiffVax's layout.", show_default=False
        ),
    ] = None,
    image_index: Annotated[
        int | None,
        typer.Option(parser=at_least(0), metavar="N", help="Which photo of --data-dir, from 0.", show_default=False),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="diffvax's weights; the embedded ones if not given.", show_default=False),
    ] = None,
    baselines: Annotated[
        bool, typer.Option("--run-baselines", help="PhotoGuard, DiffusionGuard and diffvax, with pictures of each.")
    ] = False,
    pg_steps: Annotated[
        int | None, typer.Option(parser=at_least(1), metavar="N", help="Of photoguard-encoder.", show_default=False)
    ] = None,
    dg_steps: Annotated[
        int | None, typer.Option(parser=at_least(1), metavar="N", help="Of diffusionguard.", show_default=False)
    ] = None,
    no_display: Annotated[
        bool, typer.Option("--no-display", help="Nothing is ever displayed: DiffVax's option, without effect.")
    ] = False,
    all_methods: Annotated[bool, typer.Option("--all-methods", help="Every method, side by side.")] = False,
    editor: EditorOption = None,
    plan: PlanOption = None,
    compile: CompileOption = True,
    eps: Annotated[
        str, typer.Option(metavar="NUMBER", help="Largest change of a channel: 8/255 or 0.03; with every preset.")
    ] = "16/255",
    preset: Annotated[
        str, typer.Option(metavar="fast|paper", help="fast: fits a CPU. paper: the papers' steps.")
    ] = "fast",
    out: Annotated[
        Path, typer.Option("--out", "--save-dir", parser=named, metavar="DIR", help="Folder for the pictures.")
    ] = Path("outputs/demo"),
    size: SizeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Edit one picture with and without protection, and show both."""
    budget = parse_budget(eps, None)
    if image_index is not None and data_dir is None:
        data_dir = Path("data")
    steps = {name: n for name, n in (("photoguard-encoder", pg_steps), ("diffusionguard", dg_steps)) if n is not None}
    from editproof.bench.demo import run_demo
    from editproof.methods import METHODS
    from editproof.protection.apply import DEFAULT_METHOD
    from editproof.protection.report import claim

    methods = tuple(METHODS) if all_methods else BASELINES if baselines else None

    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=1)
            bar.update(tasks[what], completed=share)

        rows, paths = run_demo(
            out, image=image, mask=none_or(mask), invert_mask=invert_mask, prompt=prompt,
            methods=methods, editor=editor or "tiny-inpaint",
            plan=plan, compile=compile, budget=budget, preset=preset, seed=seed, device=device, size=size,
            data=data_dir, index=image_index or 0, weights=checkpoint, steps=steps,
            baselines=baselines, progress=progress,
        )  # fmt: skip
    table = [
        {
            "method": row.method,
            "PSNR (dB)": f"{row.psnr:.1f}",
            "largest change": f"{row.linf}/255",
            "edit change": f"{row.change:.3f}",
            "D": f"{row.disruption:.2f}",
            "seconds": f"{row.seconds:.1f}",
        }
        for row in rows
    ]
    OUT.print(make_table(f"prompt: {rows[0].prompt}", table))
    OUT.print(
        "edit change: 1 - SSIM between the edits of protected and original photo, where the editor repaints.\n"
        "D: the same, relative to what another seed changes (0: no effect; 1: as much as a new seed)."
    )
    if any(row.method == DEFAULT_METHOD for row in rows):
        OUT.print(f"{DEFAULT_METHOD} is not told which part will be repainted; the other methods are.")
    if left := [name for name in METHODS if all_methods and name not in {row.method for row in rows}]:
        OUT.print(f"Left out, for they cannot work on this editor or picture: {', '.join(left)}.")
    OUT.print("Pictures:", *(str(path) for path in paths), sep="\n  ", markup=False, soft_wrap=True)
    OUT.print(claim(editor or "tiny-inpaint")["claim"], style="dim", markup=False)
