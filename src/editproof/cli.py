"""The command line. Nothing heavy is imported before a command runs, so that --help is quick."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from editproof import __version__, train_cli
from editproof.errors import UserError
from editproof.options import (
    DeviceOption,
    EditorOption,
    EpsOption,
    InvertOption,
    MaskOption,
    OverwriteOption,
    PhotosArgument,
    PresetOption,
    SchedulerOption,
    SeedOption,
    at_least,
    none_or,
    parse_budget,
    parse_settings,
)

if TYPE_CHECKING:
    from rich.progress import Progress

OUT, ERR = Console(highlight=False), Console(stderr=True, highlight=False)
GIB = 2**30
DEMO_EPS = "16/255"
STOPPED = "stopped; what was finished is complete, nothing is half-written"

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Make photos resist AI editing, and measure honestly how well."""
    if version:
        OUT.print(f"editproof {__version__}")
    elif context.invoked_subcommand is None:
        context.get_help()


@app.command()
def protect(
    photos: PhotosArgument,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results.", show_default=False)],
    method: Annotated[str, typer.Option(help="See `editproof list methods`.")] = "diffvax",
    editor: EditorOption = None,
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    overwrite: OverwriteOption = False,
    eps: EpsOption = None,
    l2: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="An L2 budget instead, as at 512x512: 8.0.", show_default=False)
    ] = None,
    steps: Annotated[
        int | None, typer.Option(parser=at_least(1), metavar="N", help="Optimisation steps.", show_default=False)
    ] = None,
    preset: PresetOption = None,
    scheduler: SchedulerOption = None,
    prompt: Annotated[str, typer.Option(help="What the editor is expected to be told.")] = "",
    knobs: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A method's own setting; repeat for more.", show_default=False
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Protect photos: writes DIR/<name>-protected.png and <name>-protected.json, the photo at its own size."""
    budget_asked = parse_budget(eps, l2)
    settings = parse_settings(knobs or [])
    from editproof.photos import protect_photos
    from editproof.protection import DEFAULT_BUDGET

    budget = budget_asked or (None if preset == "paper" else DEFAULT_BUDGET)
    report: dict[str, Any] = {}
    with progress_bar() as bar:
        task = bar.add_task(f"protect with {escape(method)}", total=len(photos))
        for report in protect_photos(
            photos, out, method=method, editor=editor, scheduler=scheduler, mask=none_or(mask), invert_mask=invert_mask,
            overwrite=overwrite, budget=budget, prompt=prompt, steps=steps, preset=preset, seed=seed, device=device,
            knobs=settings, progress=lambda done: bar.update(task, completed=done),
        ):  # fmt: skip
            OUT.print(
                f"{report['photo']} -> {out / report['protected']}: {report['protected_share']:.0%} of the picture "
                f"protected, PSNR {report['psnr_db']:.1f} dB, largest change {report['linf_levels']}/255, "
                f"{report['seconds']:.1f} s",
                markup=False, soft_wrap=True,
            )  # fmt: skip
    OUT.print(report["claim"], style="dim", markup=False)


@app.command()
def edit(
    photo: Annotated[Path, typer.Argument(help="The photo to edit.", show_default=False)],
    prompt: Annotated[str, typer.Option(help="What the edit should show.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The result, a .png.", show_default=False)],
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    editor: EditorOption = None,
    scheduler: SchedulerOption = None,
    steps: Annotated[
        int | None,
        typer.Option(
            parser=at_least(1), metavar="N", help="Denoising steps; the editor's own if not given.", show_default=False
        ),
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            parser=at_least(0, float),
            metavar="NUMBER",
            help="Prompt guidance; the editor's own if not given.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Edit a photo as an attacker would, to see what a protection does."""
    from editproof.editing import edit_photo

    with progress_bar() as bar:
        task = bar.add_task("edit", total=1)
        edit_photo(
            photo, prompt, out, mask=none_or(mask), invert_mask=invert_mask, editor=editor or "tiny-inpaint",
            scheduler=scheduler, steps=steps, guidance=guidance, overwrite=overwrite, seed=seed, device=device,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )  # fmt: skip
    OUT.print(f"{photo} -> {out}", markup=False, soft_wrap=True)


@app.command()
def demo(
    image: Annotated[
        Path | None, typer.Option(help="A photo; scikit-image's astronaut if not given.", show_default=False)
    ] = None,
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    prompt: Annotated[str | None, typer.Option(help="What the edits should show.", show_default=False)] = None,
    all_methods: Annotated[bool, typer.Option("--all-methods", help="Every method, side by side.")] = False,
    editor: EditorOption = None,
    eps: EpsOption = None,
    preset: Annotated[str, typer.Option(metavar="fast|paper", help="The methods' settings.")] = "fast",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures.")] = Path("outputs/demo"),
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Edit one picture with and without protection, and show both."""
    budget = parse_budget(eps or DEMO_EPS, None)
    from editproof.demo import PROMPT, run_demo
    from editproof.methods import METHODS
    from editproof.protection import DEFAULT_METHOD
    from editproof.sidecar import claim

    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, share: float) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=1)
            bar.update(tasks[what], completed=share)

        rows, paths = run_demo(
            out, image=image, mask=none_or(mask), invert_mask=invert_mask, prompt=prompt or PROMPT,
            methods=tuple(METHODS) if all_methods else None, editor=editor or "tiny-inpaint",
            budget=budget, preset=preset, seed=seed, device=device, progress=progress,
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
    OUT.print(make_table(f"prompt: {prompt or PROMPT}", table))
    OUT.print(
        "edit change: 1 - SSIM between the edits of protected and original photo, where the editor repaints.\n"
        "D: the same, relative to what another seed changes (0: no effect; 1: as much as a new seed).\n"
        f"{DEFAULT_METHOD} is not told which part will be repainted; the other methods are."
    )
    OUT.print("Pictures:", *(str(path) for path in paths), sep="\n  ", markup=False, soft_wrap=True)
    OUT.print(claim(editor or "tiny-inpaint")["claim"], style="dim", markup=False)


@app.command("list")
def list_(
    what: Annotated[
        str, typer.Argument(metavar="[methods|editors]", help="Both if not given.", show_default=False)
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the methods and the editors."""
    if what not in ("", "methods", "editors"):
        raise UserError(f"cannot list '{what}'; allowed: methods, editors")
    from editproof import doctor

    found: dict[str, list[dict[str, Any]]] = {}
    if what != "editors":
        found["methods"] = doctor.methods_table()
    if what != "methods":
        found["editors"] = doctor.editors_table()
    if as_json:
        print(json.dumps(found, indent=2))
        return
    for title, rows in found.items():
        OUT.print(make_table(title, rows))


@app.command("doctor")
def doctor_() -> None:
    """Show versions, devices, memory, and which editors are there and fit."""
    from editproof import doctor

    versions = [{"package": name, "version": found} for name, found in doctor.package_versions().items()]
    OUT.print(make_table("versions", versions))
    found = doctor.devices()
    gib = [
        {"device": d.name, "what": d.what, "memory": f"{d.total / GIB:.1f} GiB", "free": f"{d.free / GIB:.1f} GiB"}
        for d in found
    ]
    OUT.print(make_table("devices (the first is the default)", gib))
    fits = []
    for name, info in doctor.EDITORS.items():
        fits.append({"editor": name, "on disk": doctor.on_disk(info)})
        for device in found:
            needed = doctor.needed(name, device)
            fits[-1][f"fits {device.name}"] = f"{'yes' if needed < device.total else 'no'} ({needed / GIB:.1f} GiB)"
    OUT.print(make_table("editors", fits))
    OUT.print(
        "fits: an estimate for one edit. Methods that optimise need several times as much; "
        "the default method needs no editor."
    )


app.add_typer(train_cli.app)


def make_table(title: str, rows: Sequence[dict[str, Any]]) -> Any:
    """A rich table of rows with the same keys."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(rows[0]):
        table.add_column(name, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape("yes" if v is True else "no" if v is False else str(v)) for v in row.values()))
    return table


@contextmanager
def progress_bar() -> "Iterator[Progress]":
    """A bar with the time left that vanishes when done; none where nobody is looking."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = OUT if OUT.is_terminal else ERR  # lines that are printed meanwhile stay where they belong
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=console is OUT, disable=not console.is_terminal
    ) as bar:
        yield bar


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for what the user can mend (one line), 130 for Ctrl-C."""
    try:
        code = app(list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False) or 0
        message = STOPPED if code == 130 else ""
    except UserError as error:
        message, code = str(error), 2
    except (KeyboardInterrupt, typer.Abort):
        message, code = STOPPED, 130
    except OSError as error:
        message, code = f"{error.strerror or error}: {error.filename or ''}", 2
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):  # torch's
            message, code = "not enough memory; allowed: fewer or smaller photos, a smaller editor, --device cpu", 2
        elif hasattr(error, "format_message"):  # the option parser's
            message, code = error.format_message(), 2
        else:
            raise
    if message:
        if code != 130:
            ERR.print("error:", style="bold red", end=" ")
        ERR.print(" ".join(message.split()), markup=False, soft_wrap=True)
    return code
