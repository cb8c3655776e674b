"""`editproof demo`: imports no torch until it runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from editproof.cli.demo_options import (
    AllMethodsOption,
    BaselinesOption,
    CheckpointOption,
    DataDirOption,
    DemoEpsOption,
    DemoOutOption,
    DemoPresetOption,
    DgStepsOption,
    EditPromptOption,
    ImageIndexOption,
    ImageOption,
    NoDisplayOption,
    PgStepsOption,
)
from editproof.cli.display import ERR, OUT, make_table, progress_bar
from editproof.cli.options import (
    CompileOption,
    DeviceOption,
    EditorOption,
    InvertOption,
    MaskOption,
    PlanOption,
    SeedOption,
    SizeOption,
    none_or,
    parse_budget,
)
from editproof.errors import UserError

if TYPE_CHECKING:
    from editproof.bench.demo import Row

app = typer.Typer()
BASELINES = ("photoguard-encoder", "diffusionguard", "immunizer")  # of DiffVax's demo, ours in place of its own


@app.command()
def demo(
    image: ImageOption = None,
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    prompt: EditPromptOption = None,
    data_dir: DataDirOption = None,
    image_index: ImageIndexOption = None,
    checkpoint: CheckpointOption = None,
    baselines: BaselinesOption = False,
    pg_steps: PgStepsOption = None,
    dg_steps: DgStepsOption = None,
    no_display: NoDisplayOption = False,
    all_methods: AllMethodsOption = False,
    editor: EditorOption = None,
    plan: PlanOption = None,
    compile: CompileOption = True,
    eps: DemoEpsOption = "8/255",
    preset: DemoPresetOption = "fast",
    out: DemoOutOption = Path("outputs/demo"),
    size: SizeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Edit one picture with and without protection, and show both."""
    budget = parse_budget(eps, None)
    if image_index is not None and data_dir is None:
        data_dir = Path("data")
    if data_dir is not None and image is None:
        data_dir = _there(data_dir)
        image_index = image_index if data_dir else None
    steps = {name: n for name, n in (("photoguard-encoder", pg_steps), ("diffusionguard", dg_steps)) if n is not None}
    from editproof.bench.demo import run_demo
    from editproof.methods import ready

    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=1)
            bar.update(tasks[what], completed=share)

        rows, paths = run_demo(
            out, image=image, mask=none_or(mask), invert_mask=invert_mask, prompt=prompt,
            methods=ready() if all_methods else BASELINES if baselines else None,
            editor=editor or "tiny-inpaint", plan=plan, compile=compile, budget=budget, preset=preset, seed=seed,
            device=device, size=size, data=data_dir, index=image_index or 0, weights=checkpoint, steps=steps,
            baselines=baselines, progress=progress,
        )  # fmt: skip
    _print_rows(rows, ready() if all_methods else ())
    OUT.print("Pictures:", *(str(path) for path in paths), sep="\n  ", markup=False, soft_wrap=True)
    from editproof.protection.report import claim

    OUT.print(claim(editor or "tiny-inpaint")["claim"], style="dim", markup=False)


def _print_rows(rows: Sequence["Row"], asked: Sequence[str]) -> None:
    """The table, what its columns mean, and which of the methods that were asked for are not in it."""
    from editproof.protection.apply import DEFAULT_METHOD

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
    if left := [name for name in asked if name not in {row.method for row in rows}]:
        OUT.print(f"Left out, for they cannot work on this editor or picture: {', '.join(left)}.")


def _there(data_dir: Path) -> Path | None:
    """The data folder, filled if it does not exist; None, and a line, if that cannot be done."""
    from editproof.immunizer.dataset import fetch_missing

    try:
        fetch_missing(data_dir, lambda line: ERR.print(line, markup=False, soft_wrap=True))
    except UserError as error:
        ERR.print(f"{error}. Shown instead: scikit-image's astronaut.", markup=False, soft_wrap=True)
        return None
    return data_dir
