"""What the commands print: consoles, tables, a progress bar."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from rich.progress import Progress

OUT, ERR = Console(highlight=False), Console(stderr=True, highlight=False)


def make_table(title: str, rows: Sequence[dict[str, Any]]) -> Any:
    """A rich table of rows with the same keys, which are the headings."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(rows[0]):
        table.add_column(name.replace("_", " "), no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_plain(value)) for value in row.values()))
    return table


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(value) if isinstance(value, list) else str(value)


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
