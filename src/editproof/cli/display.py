"""What the commands print: consoles, tables, a progress bar."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from editproof.files import printable

if TYPE_CHECKING:
    from rich.progress import Progress

OUTCOMES = ("protected", "done before", "protected already", "failed")  # of a photo among many


class Screen(Console):
    """A console that prints texts safely, whatever names of files and comments are in them."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o, lines=True) if isinstance(o, str) else o for o in objects), **options)


OUT, ERR = Screen(highlight=False), Screen(stderr=True, highlight=False)


def make_table(title: str, rows: Sequence[dict[str, Any]]) -> Any:
    """A rich table of rows with the same keys, which are the headings."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=escape(printable(title)), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(rows[0]):
        table.add_column(escape(printable(name.replace("_", " "))), no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_plain(value)) for value in row.values()))
    return table


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(", ".join(value) if isinstance(value, list) else str(value))


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


def percent(share: float) -> str:
    """A share in whole percent, below 1 % with what it takes to be told from nothing."""
    return f"{share:.0%}" if share >= 0.01 else f"{share * 100:.2g}%"


def protected_line(report: dict[str, Any], out: Path) -> str:
    """What is said of one protected photo."""
    left = ""
    if "perturbation_left" in report:
        left = f" with what the format loses, {percent(report['perturbation_left'])} of the change left in it"
    ratio = f", {report['size_ratio']:.2g} times the file's size" if "size_ratio" in report else ""
    gone = f"; left out: {', '.join(report['left_out'])}" if report.get("left_out") else ""
    found = f"{report['mask']['auto']}; " if "auto" in (report["mask"] or {}) else ""
    return printable(
        f"{report['photo']} -> {out / report['protected']}: {found}{percent(report['protected_share'])} of the picture "
        f"protected, PSNR {report['psnr_db']:.1f} dB, largest change {report['linf_levels']}/255{left}, "
        f"{report['seconds']:.1f} s{ratio}{gone}"
    )


def tell_of_places(files: int) -> None:
    """Warn that results hold coordinates."""
    which = "a photo or clip tells" if files == 1 else f"{files} photos or clips tell"
    said = f"{which} where it was taken: --no-place leaves the place out, --keep-place is content with it"
    ERR.print(said, style="yellow", markup=False, soft_wrap=True)


def tell_of_unread(inputs: Sequence[Path], out: Path) -> None:
    """Say which files of folders were not read as photos, by kind."""
    from editproof.protection.folders import unread
    from editproof.video.reading import SUFFIXES as CLIPS

    for kind, endings in unread([path for path in inputs if path.is_dir()], out, CLIPS).items():
        counted = ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))
        OUT.print(f"not read: {endings.total()} {kind} ({counted})", style="yellow", markup=False, soft_wrap=True)


def print_summary(out: Path | str, counts: Mapping[str, int], errors: Sequence[str]) -> None:
    """Of many photos: how many were protected, skipped and failed, and what was wrong with each that failed."""
    said = ", ".join(f"{counts[what]} {what}" for what in OUTCOMES if counts.get(what))
    OUT.print(f"{out}: {said}", markup=False, soft_wrap=True)
    for error in errors:
        ERR.print("failed:", style="bold red", end=" ")
        ERR.print(printable(error), markup=False, soft_wrap=True)


def rate_shown(bar: "Progress", task: Any) -> dict[str, Callable[[Any], None]]:
    """What protect_photos is to tell of many photos, as its keywords: the bar's task then shows the photos a second."""
    what, started = bar.tasks[task].description, time.perf_counter()

    def count(photos: int) -> None:
        nonlocal started
        started = time.perf_counter()
        bar.reset(task, total=photos)

    def progress(done: float) -> None:
        bar.update(task, completed=done, description=f"{what}, {done / (time.perf_counter() - started):.2g} photos/s")

    return {"count": count, "progress": progress}
