"""The command line. Nothing heavy is imported before a command runs, so that --help is quick."""

import io
import logging
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from editproof import __version__
from editproof.cli import app as app_cli
from editproof.cli import bench as bench_cli
from editproof.cli import bulk as bulk_cli
from editproof.cli import check as check_cli
from editproof.cli import demo as demo_cli
from editproof.cli import export as export_cli
from editproof.cli import fid as fid_cli
from editproof.cli import info as info_cli
from editproof.cli import serve as serve_cli
from editproof.cli import shortcut as shortcut_cli
from editproof.cli import show as show_cli
from editproof.cli import train as train_cli
from editproof.cli import verify as verify_cli
from editproof.cli import watch as watch_cli
from editproof.cli.clips import check_clip_options, check_clips, tell_rest
from editproof.cli.display import ERR, OUT, progress_bar, tell_of_places
from editproof.cli.looking import show_part
from editproof.cli.options import (
    CodecOption,
    CompileOption,
    CredentialsOption,
    CrfOption,
    DeviceOption,
    EditorOption,
    EpsOption,
    ForceOption,
    FormatOption,
    InvertOption,
    KnobsOption,
    L2Option,
    LookOption,
    MaskOption,
    OverwriteOption,
    PhotosArgument,
    PlaceOption,
    PlanOption,
    PresetOption,
    QualityOption,
    RecursiveOption,
    SchedulerOption,
    SeedOption,
    SizeOption,
    StepsOption,
    StripOption,
    at_least,
    metadata_asked,
    named,
    none_or,
    parse_budget,
)
from editproof.cli.quick import importing
from editproof.errors import UserError
from editproof.files import check_here
from editproof.parsing import parse_settings
from editproof.serve.allocation import keep_pages

LOG = logging.getLogger("editproof")
STOPPED = "stopped; what was finished is complete, nothing is half-written"

OLD_NAMES = {"compile": "record", "no-compile": "no-record"}  # of options; both are taken
app = typer.Typer(
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: OLD_NAMES.get(name, name),
    },
)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more: versions, what was asked, where an error came from.")
    ] = False,
) -> None:
    """Make photos resist AI editing, and measure honestly how well."""
    if verbose:
        say_more()
    if version:
        OUT.print(f"editproof {__version__}")
    elif context.invoked_subcommand is None:
        context.get_help()


def say_more() -> None:
    """Let the package's log say everything, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG)
    LOG.debug("editproof %s, Python %s on %s", __version__, platform.python_version(), platform.platform())
    LOG.debug("called as %s", sys.argv)


@app.command()
def protect(
    photos: PhotosArgument,
    out: Annotated[
        Path | None, typer.Option(parser=named, metavar="DIR", help="Folder for the results.", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option(help="See `editproof list methods`.")] = "immunizer",
    editor: EditorOption = None,
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    look: LookOption = None,
    recursive: RecursiveOption = False,
    format: FormatOption = "png",
    quality: QualityOption = None,
    overwrite: OverwriteOption = False,
    force: ForceOption = False,
    eps: EpsOption = None,
    l2: L2Option = None,
    steps: StepsOption = None,
    preset: PresetOption = None,
    scheduler: SchedulerOption = None,
    plan: PlanOption = None,
    compile: CompileOption = True,
    prompt: Annotated[str, typer.Option(help="What the editor is expected to be told.")] = "",
    knobs: KnobsOption = None,
    credentials: CredentialsOption = None,
    strip_metadata: StripOption = False,
    keep_place: PlaceOption = None,
    codec: CodecOption = None,
    crf: CrfOption = None,
    size: SizeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Protect photos and clips: writes DIR/<name>-protected.png (of a clip .mp4) and .json, each at its own size."""
    if look is not None:
        show_part(photos, look, none_or(mask), invert_mask, overwrite)
        return
    if out is None:
        raise UserError("there is no --out; allowed: --out with the folder for the results")
    budget_asked, own = parse_budget(eps, l2), parse_settings(knobs) if knobs else {}
    with importing():
        from editproof.cli.protecting import protect_all
        from editproof.protection.apply import default_budget
        from editproof.protection.settings import ProtectSettings
        from editproof.video.folders import clips_in
        from editproof.video.reading import is_clip

    clips = [photo for photo in photos if is_clip(photo)]
    photos = [photo for photo in photos if photo not in clips]
    in_folders = clips_in(photos, out) if recursive else []
    check_clip_options([*clips, *(clip for clip, _ in in_folders)], photos, format, quality, credentials, codec, crf)
    check_clips(clips, photos)
    settings = ProtectSettings(
        method=method, editor=editor, scheduler=scheduler, plan=plan, compile=compile, mask=none_or(mask),
        invert_mask=invert_mask, budget=budget_asked or default_budget(preset), prompt=prompt,
        steps=steps, preset=preset, seed=seed, device=device, knobs=own, force=force, format=format, quality=quality,
        credentials=credentials, metadata=metadata_asked(strip_metadata, keep_place), size=size,
    )  # fmt: skip
    made = protect_all(photos, clips, in_folders, out, settings, overwrite, recursive, codec, crf)
    if made.places and keep_place is None:
        tell_of_places(made.places)
    if made.claim:
        OUT.print(made.claim, style="dim", markup=False)
    if made.errors:
        raise typer.Exit(1)


@app.command()
def edit(
    photo: Annotated[Path, typer.Argument(help="The photo or clip to edit.", show_default=False)],
    prompt: Annotated[str, typer.Option(help="What the edit should show.", show_default=False)],
    out: Annotated[
        Path, typer.Option(parser=named, metavar="FILE", help="The result: .png, of a clip .mp4.", show_default=False)
    ],
    mask: MaskOption = "none",
    invert_mask: InvertOption = False,
    editor: EditorOption = None,
    scheduler: SchedulerOption = None,
    plan: PlanOption = None,
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
    strength: Annotated[
        float | None,
        typer.Option(
            parser=at_least(0, float),
            metavar="NUMBER",
            help="Below 1 the edit starts from the noised photo; the editor's own if not given.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    codec: CodecOption = None,
    crf: CrfOption = None,
    size: SizeOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Edit a photo or a clip as an attacker would, to see what a protection does."""
    from editproof.protection.edit import edit_photo
    from editproof.video.edit import edit_clip
    from editproof.video.reading import is_clip

    clip = is_clip(photo)
    check_clip_options([photo] if clip else [], [], "png", None, None, codec, crf)
    with progress_bar() as bar:
        task = bar.add_task("edit", total=1)
        rest = (partial(edit_clip, codec=codec, crf=crf) if clip else edit_photo)(
            photo, prompt, out, mask=none_or(mask), invert_mask=invert_mask, editor=editor or "tiny-inpaint",
            scheduler=scheduler, plan=plan, steps=steps, guidance=guidance, strength=strength,
            overwrite=overwrite, seed=seed, device=device, size=size,
            progress=lambda what, share: bar.update(task, description=what, completed=share),
        )  # fmt: skip
    OUT.print(f"{photo} -> {out}", markup=False, soft_wrap=True)
    if rest is not None:
        tell_rest(rest.lost, rest.converted)


for commands in (
    app_cli.app, bench_cli.app, bulk_cli.app, check_cli.app, demo_cli.app, export_cli.app, fid_cli.app, info_cli.app,
    serve_cli.app, shortcut_cli.app, show_cli.app, train_cli.app, verify_cli.app,
    watch_cli.app,
):  # fmt: skip
    app.add_typer(commands)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 2 for what the user can mend (one line), 130 for Ctrl-C."""
    keep_pages()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a pipe on Windows knows few letters, and names have any
            stream.reconfigure(errors="backslashreplace")
    try:
        check_here()
        code = app(list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False) or 0
        message = STOPPED if code == 130 else ""
    except UserError as error:
        LOG.debug("an error that the user can mend", exc_info=True)
        message, code = str(error), 2
    except (KeyboardInterrupt, typer.Abort):
        message, code = STOPPED, 130
    except OSError as error:
        LOG.debug("an error of the system", exc_info=True)
        message, code = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), 2
    except Exception as error:
        out_of_memory = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # torch's
        if out_of_memory or "can't allocate memory" in str(error):
            message, code = "not enough memory; allowed: fewer or smaller photos, a smaller editor, --device cpu", 2
        elif hasattr(error, "format_message"):  # the option parser's
            message, code = error.format_message(), 2
        else:
            raise
    if message:
        if code != 130:
            ERR.print("error:", style="bold red", end=" ", soft_wrap=True)
        ERR.print(" ".join(message.split()), markup=False, soft_wrap=True)
    return code
