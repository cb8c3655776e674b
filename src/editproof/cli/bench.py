"""`editproof bench`, `report` and `compare`: imports no torch until a command runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editproof.cli.display import ERR, OUT, make_table, progress_bar
from editproof.cli.options import (
    DeviceOption,
    OverwriteOption,
    PhotosArgument,
    SchedulerOption,
    SeedOption,
    SizeOption,
    at_least,
    named,
    none_or,
    parse_budget,
)
from editproof.errors import UserError

app = typer.Typer()


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


@app.command()
def bench(
    out: Annotated[
        Path,
        typer.Option(
            parser=named, metavar="DIR", help="Where rows, pictures and report go; goes on there.", show_default=False
        ),
    ],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings (YAML), the options' names.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos; see docs/benchmark.md.", show_default=False)
    ] = None,
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="NAME[:setting=value...]; none and every method by default.", show_default=False
        ),
    ] = None,
    editors: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="Names, hub ids or folders.", show_default="tiny-inpaint")
    ] = None,
    counters: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Attacks on the protection: none,resize:0.5+jpeg:75.", show_default=False),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="By default all that need nothing downloaded.", show_default=False),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="One prompt a line, or .yml; the data's by default.", show_default=False),
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="A prompt; repeat for more.", show_default=False)
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="N,N,...", show_default="0")] = None,
    budgets: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="8/255, l2:8 or paper.", show_default="8/255")
    ] = None,
    match_psnr: Annotated[
        float | None, typer.Option(metavar="DB", help="Every photo at this PSNR, whatever budget.", show_default=False)
    ] = None,
    match: Annotated[
        str | None, typer.Option(metavar="METRIC=VALUE", help="The same: psnr=32, ssim=.95.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(metavar="fast|paper", help="fast fits a CPU; edits in 8 steps too.", show_default=False),
    ] = None,
    masks: Annotated[
        str | None, typer.Option(metavar="auto|files|centre", help="Masks of inpainting editors.", show_default="auto")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="same|untouched", help="Original after the same counter-attack, or as it is.", show_default="same"
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels; as the editor sees photos.", show_default=False)
    ] = None,
    edit_steps: Annotated[int | None, typer.Option(help="The editor's own by default.", show_default=False)] = None,
    guidance: Annotated[float | None, typer.Option(help="The editor's own by default.", show_default=False)] = None,
    scheduler: SchedulerOption = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC=WHERE", help="Hub id or folder of a metric's model.", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first photos.", show_default=False)] = None,
    batch: Annotated[
        int | None, typer.Option(metavar="N", help="Photos worked on together.", show_default="16 on a GPU, else 1")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", help="Chunks of photos at the same time.", show_default="on a CPU one for each core"),
    ] = None,
    cache: Annotated[
        str | None,
        typer.Option(metavar="all|photos", help="photos: keep no edits of protected photos.", show_default="all"),
    ] = None,
    gallery: Annotated[int | None, typer.Option(metavar="N", help="Photos in the report.", show_default="4")] = None,
    device: DeviceOption = None,
) -> None:
    """Compare protections: a row for each photo, method, budget, editor, prompt, seed and counter-attack, and a report.

    A run that was stopped goes on where it was, with the same command; what is not said then is as it was before.
    """
    if match is not None and match_psnr is not None:
        raise UserError("--match and --match-psnr exclude each other; allowed: one of them")
    if prompts is not None and prompt:
        raise UserError("--prompts and --prompt exclude each other; allowed: one of them")
    matched = f"psnr={match_psnr:g}" if match_psnr is not None else match
    if budgets is not None and matched is not None:
        raise UserError("--budgets and --match exclude each other; allowed: one of them")
    given: dict[str, Any] = {
        "data": None if data is None else str(data), "match": matched, "preset": preset, "masks": masks,
        "prompts": str(prompts) if prompts is not None else prompt or None,
        "reference": reference, "size": size, "edit_steps": edit_steps, "guidance": guidance, "scheduler": scheduler,
        "limit": limit, "batch": batch, "workers": workers, "cache": cache, "gallery": gallery, "device": device,
    }  # fmt: skip
    for name, text in (("methods", methods), ("editors", editors), ("counters", counters), ("metrics", metrics),
                       ("budgets", budgets)):  # fmt: skip
        given[name] = None if text is None else _listed(text)
    if seeds is not None:
        given["seeds"] = [int(s) if s.isdecimal() else s for s in _listed(seeds)]
    if source:
        given["sources"] = dict(_pair(pair) for pair in source)
    if config is None and (out / "config.yml").is_file():
        config = out / "config.yml"  # what is not said is as it was
    from editproof.bench.config import read_config

    settings = read_config(config, {name: value for name, value in given.items() if value is not None})
    from editproof.bench.report.page import write_report
    from editproof.bench.run import run_bench

    with progress_bar() as bar:
        task = bar.add_task("start", total=None)

        def progress(what: str, done: float, left: float | None) -> None:
            bar.update(task, description=what, completed=done, total=None if left is None else done + left)

        run_bench(settings, out, progress=progress, tell=_say)
        bar.update(task, description="report")
        written = write_report(out)
    _print_summary(out)
    OUT.print(f"report: {written}", markup=False, soft_wrap=True)


def _pair(text: str) -> tuple[str, str]:
    """ "lpips=folder" -> ("lpips", "folder")."""
    name, _, value = text.partition("=")
    if not name or not value:
        raise UserError(f"source '{text}' names no model; allowed: METRIC=HUB-ID or METRIC=FOLDER")
    return name, value


def _say(line: str) -> None:
    """A line for logs; on a terminal the bar says it."""
    if not (OUT.is_terminal or ERR.is_terminal):
        print(line, flush=True)


def _print_summary(folder: Path) -> None:
    from editproof.bench.report.page import overview

    for title, rows in overview(folder).items():
        OUT.print(make_table(title, rows))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `editproof bench` wrote.", show_default=False)],
    gallery: Annotated[
        int | None, typer.Option(parser=at_least(0), metavar="N", help="Photos to show.", show_default="as configured")
    ] = None,
) -> None:
    """Make DIR/report.html and DIR/summary.csv anew from the rows of a benchmark."""
    from editproof.bench.report.page import write_report

    written = write_report(folder, gallery)
    _print_summary(folder)
    OUT.print(f"report: {written}", markup=False, soft_wrap=True)


@app.command()
def compare(
    photos: PhotosArgument,
    prompt: Annotated[str, typer.Option(help="What the edits should show.", show_default=False)],
    out: Annotated[Path, typer.Option(parser=named, metavar="FILE", help="The figure, a .png.", show_default=False)],
    methods: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="NAME[:setting=value...].", show_default="the usual ones")
    ] = None,
    editor: Annotated[str, typer.Option(help="A name, hub id or folder.")] = "tiny-inpaint",
    mask: Annotated[
        str,
        typer.Option(
            metavar="FILE|DIR|auto|none",
            help="For all photos, or masks/<name>.png; auto: keeps people; none: keeps a centred ellipse.",
        ),
    ] = "none",
    eps: Annotated[str, typer.Option(metavar="NUMBER", help="Largest change of a channel.")] = "16/255",
    preset: Annotated[str, typer.Option(metavar="fast|paper", help="fast fits a CPU.")] = "fast",
    size: SizeOption = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Draw a figure: a row for each photo, its edit, and the edits after each method's protection."""
    from editproof.bench.compare import compare_photos

    with progress_bar() as bar:
        task = bar.add_task("start", total=1)
        compare_photos(
            photos, prompt, out, methods=None if methods is None else _listed(methods), editor=editor,
            mask=none_or(mask), budget=parse_budget(eps, None), preset=preset, overwrite=overwrite, seed=seed,
            device=device, size=size,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )  # fmt: skip
    OUT.print(f"figure: {out}", markup=False, soft_wrap=True)
