"""The tables of methods and editors in docs/models.md: `python -m editproof.cli.models_table` prints them."""

from editproof.budgets import LEVELS, Linf
from editproof.editors import EDITORS
from editproof.methods import METHODS
from editproof.methods.method import NEEDS

MEANT = (512, 512)  # (height, width) at which the papers' budgets are given


def methods_table() -> str:
    """METHODS as a Markdown table, a line each."""
    lines = ["| method | what it does, paper | editors | its budget and steps | `--preset fast` |",
             "| --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, method in METHODS.items():
        own, fast = "one pass", "one pass"
        if method.paper:
            budget, steps, _ = method.values(*MEANT)
            size = f"{budget.eps * LEVELS:g}/255" if isinstance(budget, Linf) else f"L2 {budget.eps:g}"
            own = f"{size}, {steps} steps"
            fast = ", ".join(f"{key} {value}" for key, value in method.fast.items())
        title = method.title + "".join(f"; needs {name}" for name in method.required)
        lines.append(f"| `{name}` | {title} | {NEEDS[method.needs][0]} | {own} | {fast} |")
    return "\n".join(lines)


def editors_table() -> str:
    """EDITORS as a Markdown table, a line each."""
    lines = ["| editor | what it is | side | takes a mask | weights | licence |",
             "| --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, info in EDITORS.items():
        source = "embedded" if info.embedded else f"`{info.source}`"
        note = info.note.removeprefix("embedded: ")
        mask = "yes" if info.masked else ""
        lines.append(
            f"| `{name}` | {note}: {source} | {info.size} | {mask} | {info.weights:,} million | {info.licence} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(methods_table(), editors_table(), sep="\n\n")
