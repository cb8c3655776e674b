"""`editproof verify`: imports no torch until it runs."""

from pathlib import Path
from typing import Annotated

import typer

from editproof.cli.bench import _listed, _print_summary, _say
from editproof.cli.display import OUT, progress_bar
from editproof.cli.options import DeviceOption, SizeOption, at_least, named

app = typer.Typer()


@app.command()
def verify(
    editor: Annotated[str, typer.Option(help="A name, hub id or folder.", show_default=False)],
    out: Annotated[
        Path, typer.Option(parser=named, metavar="DIR", help="For rows, report and leaderboard.json; goes on there.")
    ] = Path("outputs/verify"),
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Photos (docs/benchmark.md); one portrait if not given.", show_default=False),
    ] = None,
    photos: Annotated[int, typer.Option(parser=at_least(1), metavar="N", help="At most so many photos.")] = 10,
    prompts: Annotated[int, typer.Option(parser=at_least(1), metavar="N", help="Held-out prompts.")] = 3,
    seeds: Annotated[int, typer.Option(parser=at_least(1), metavar="N", help="Seeds of the edits.")] = 2,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="NAME[:setting=value...].", show_default="the usual ones")
    ] = None,
    eps: Annotated[
        str, typer.Option(metavar="NUMBER", help="8/255, 0.03, l2:8, or paper for each method's own.")
    ] = "8/255",
    preset: Annotated[str, typer.Option(metavar="fast|paper|sizes", help="The methods' settings.")] = "fast",
    edit_steps: Annotated[
        int | None,
        typer.Option(parser=at_least(1), metavar="N", help="Denoising steps.", show_default="the editor's own"),
    ] = None,
    size: SizeOption = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Say what it would take, and end.")] = False,
    device: DeviceOption = None,
) -> None:
    """Measure protections against one editor as an attacker uses it, and write a row for docs/leaderboard.md."""
    from editproof.bench.report.page import write_report
    from editproof.bench.run import run_bench
    from editproof.bench.verify import prepare, probe, write_row

    with progress_bar() as bar:
        task = bar.add_task("load the editor and take two steps of everything", total=None)
        config, loaded = prepare(
            editor, out, data=data, photos=photos, prompts=prompts, seeds=seeds,
            methods=None if methods is None else _listed(methods), budget=eps, preset=preset, edit_steps=edit_steps,
            size=size, device=device,
        )  # fmt: skip
        cost = probe(config, loaded)
        where = str(loaded.device)
        del loaded
        OUT.print(
            f"{editor} sees the first photo at {cost.size[1]}x{cost.size[0]} pixels. {cost.protections} protections "
            f"and {cost.edits} edits of {cost.photos} photos: about {_words(cost.seconds)} on {where}, "
            f"{cost.memory / 2**30:.1f} GiB so far; less if {out} holds a part of them.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
        if estimate:
            return

        def progress(what: str, done: float, left: float | None) -> None:
            bar.update(task, description=what, completed=done, total=None if left is None else done + left)

        run_bench(config, out, progress=progress, tell=_say)
        report, row = write_report(out), write_row(out, config)
    _print_summary(out)
    OUT.print(f"report: {report}\nto hand in: {row}", markup=False, soft_wrap=True)


def _words(seconds: float) -> str:
    """A time as people say it."""
    minutes = seconds / 60
    return (
        f"{max(1, round(seconds))} s"
        if minutes < 2
        else f"{minutes:.0f} min"
        if minutes < 90
        else f"{minutes / 60:.1f} h"
    )
