"""`editproof bench`, `report` and `compare`: imports no torch until a command runs."""

from pathlib import Path
from typing import Annotated, Any

import typer

from editproof.cli.bench_options import (
    BatchOption,
    BudgetsOption,
    CacheOption,
    ConfigOption,
    CountersOption,
    DataOption,
    EditorsOption,
    EditStepsOption,
    GalleryOption,
    GuidanceOption,
    LimitOption,
    MasksOption,
    MatchOption,
    MatchPsnrOption,
    MethodsOption,
    MetricsOption,
    OutOption,
    PresetOption,
    PromptOption,
    PromptsOption,
    ReferenceOption,
    SeedsOption,
    SizeOption,
    SourceOption,
    TransferOption,
    WorkersOption,
)
from editproof.cli.display import ERR, OUT, make_table, progress_bar
from editproof.cli.options import (
    DeviceOption,
    OverwriteOption,
    SchedulerOption,
    SeedOption,
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
    out: OutOption,
    config: ConfigOption = None,
    data: DataOption = None,
    methods: MethodsOption = None,
    editors: EditorsOption = None,
    counters: CountersOption = None,
    metrics: MetricsOption = None,
    prompts: PromptsOption = None,
    prompt: PromptOption = None,
    seeds: SeedsOption = None,
    transfer: TransferOption = None,
    budgets: BudgetsOption = None,
    match_psnr: MatchPsnrOption = None,
    match: MatchOption = None,
    preset: PresetOption = None,
    masks: MasksOption = None,
    reference: ReferenceOption = None,
    size: SizeOption = None,
    edit_steps: EditStepsOption = None,
    guidance: GuidanceOption = None,
    scheduler: SchedulerOption = None,
    source: SourceOption = None,
    limit: LimitOption = None,
    batch: BatchOption = None,
    workers: WorkersOption = None,
    cache: CacheOption = None,
    gallery: GalleryOption = None,
    device: DeviceOption = None,
) -> None:
    """Compare protections: a row for each photo, method, budget, editor, prompt, seed and counter-attack, and a report.

    A run that was stopped goes on where it was, with the same command; what is not said then is as it was before.
    """
    given = {name: value for name, value in locals().items() if name not in ("out", "config")}
    if config is None and (out / "config.yml").is_file():
        config = out / "config.yml"  # what is not said is as it was
    from editproof.bench.config import read_config

    settings = read_config(config, _settings(given))
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


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as a config file would have them. Raises UserError for two that exclude others."""
    for first, second in (
        ("match", "match_psnr"),
        ("prompts", "prompt"),
        ("budgets", "match"),
        ("budgets", "match_psnr"),
    ):
        if given[first] is not None and given[second]:
            names = (f"--{name.replace('_', '-')}" for name in (first, second))
            raise UserError(f"{' and '.join(names)} exclude each other; allowed: one of them")
    values = {name: value for name, value in given.items() if value is not None}
    if "match_psnr" in values:
        values["match"] = f"psnr={values.pop('match_psnr'):g}"
    if "prompt" in values:
        values["prompts"] = values.pop("prompt")
    for name in ("data", "prompts"):
        if isinstance(values.get(name), Path):
            values[name] = str(values[name])
    for name in ("methods", "editors", "counters", "metrics", "budgets"):
        if name in values:
            values[name] = _listed(values[name])
    if "seeds" in values:
        values["seeds"] = [int(seed) if seed.isdecimal() else seed for seed in _listed(values["seeds"])]
    if "source" in values:
        values["sources"] = dict(_pair(pair) for pair in values.pop("source"))
    return values


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
    from editproof.bench.report.page import overview, sentences

    for line in sentences(folder):
        OUT.print(line, markup=False, soft_wrap=True)
    for title, rows in overview(folder).items():
        OUT.print(make_table(title, rows))


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="What `editproof bench` wrote.", show_default=False)],
    gallery: Annotated[
        int | None, typer.Option(parser=at_least(0), metavar="N", help="Photos to show.", show_default="as configured")
    ] = None,
) -> None:
    """Make DIR/report.html, summary.csv and tables.md, .tex and .csv anew from the rows of a benchmark."""
    from editproof.bench.report.page import write_report

    written = write_report(folder, gallery)
    _print_summary(folder)
    OUT.print(f"report: {written}", markup=False, soft_wrap=True)


@app.command()
def compare(
    out: Annotated[Path, typer.Option(parser=named, metavar="FILE", help="The figure, a .png.", show_default=False)],
    photos: Annotated[list[Path] | None, typer.Argument(help="Photos; or --data-dir.", show_default=False)] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What the edits should show; of --data-dir each photo's first.", show_default=False),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Photos in DiffVax's layout, with masks.", show_default=False)
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Which of --data-dir, from 0.", show_default="the first five")
    ] = None,
    show_mask: Annotated[bool, typer.Option("--show-mask", help="A column with the masks.")] = False,
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
    eps: Annotated[str, typer.Option(metavar="NUMBER", help="Largest change of a channel.")] = "8/255",
    preset: Annotated[str, typer.Option(metavar="fast|paper", help="fast fits a CPU.")] = "fast",
    size: SizeOption = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Draw a figure: a row for each photo, its edit, and the edits after each method's protection."""
    from editproof.bench.compare import compare_photos

    if (data_dir is None) == (not photos):
        raise UserError("compare needs photos, or --data-dir with --images; allowed: one of the two")
    chosen: list[Path] = list(photos or [])
    prompts: str | list[str] | None = prompt
    masks: str | list[Path | None] | None = none_or(mask)
    if data_dir is not None:
        chosen, prompts, masks = _of_data(data_dir, images, prompt, masks)
    if prompts is None:
        raise UserError("compare needs a --prompt; allowed: what the edits should show")
    with progress_bar() as bar:
        task = bar.add_task("start", total=1)
        compare_photos(
            chosen, prompts, out, methods=None if methods is None else _listed(methods), editor=editor,
            mask=masks, show_mask=show_mask, budget=parse_budget(eps, None), preset=preset, overwrite=overwrite,
            seed=seed, device=device, size=size,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )  # fmt: skip
    OUT.print(f"figure: {out}", markup=False, soft_wrap=True)


def _of_data(
    folder: Path, images: str | None, prompt: str | None, masks: Any
) -> tuple[list[Path], str | list[str], Any]:
    """Which photos of a data folder are compared, with which prompts and masks: the data's where none were given.

    Raises UserError.
    """
    from editproof.bench.data import numbered, read_photos

    found = read_photos(folder)
    try:
        numbers = list(range(min(5, len(found)))) if images is None else [int(n) for n in _listed(images)]
    except ValueError:
        numbers = []
    if not numbers:
        raise UserError(f"--images '{images}': allowed are numbers with commas, from 0")
    taken = [numbered(found, number) for number in numbers]
    masks = masks or [photo.mask for photo in taken] if any(photo.mask for photo in taken) else masks
    if prompt is None and not all(photo.prompts for photo in taken):
        raise UserError(f"data '{folder}' has no prompts for all of these photos; allowed: --prompt")
    prompts = prompt if prompt is not None else [photo.prompts[0] for photo in taken]
    return [photo.image for photo in taken], prompts, masks
