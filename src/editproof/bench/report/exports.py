"""Tables for people and programs: Markdown, LaTeX, CSV."""

import csv
import io
from collections.abc import Mapping, Sequence

from editproof.bench.report.tables import Field

Lines = Sequence[Mapping[str, Field]]
LATEX = {"\\": r"\textbackslash{}", "%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}",
         "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "∞": r"$\infty$",
         "\u00a0": "~"}  # fmt: skip


def markdown(lines: Lines) -> str:
    """A table in Markdown, the best in bold."""
    heads = _heads(lines)
    text = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    for line in lines:
        cells = [line.get(head, Field("-")) for head in heads]
        text.append(f"| {' | '.join(f'**{_whole(c)}**' if c.best else _whole(c) for c in cells)} |")
    return "\n".join(text) + "\n"


def latex(lines: Lines, caption: str) -> str:
    """A table in LaTeX (needs booktabs), the best in bold."""
    heads = _heads(lines)
    body = []
    for line in lines:
        cells = [line.get(head, Field("-")) for head in heads]
        body.append(" & ".join(rf"\textbf{{{_tex(_whole(c))}}}" if c.best else _tex(_whole(c)) for c in cells) + r" \\")
    return "\n".join([
        r"\begin{table}", rf"\caption{{{_tex(caption)}}}", rf"\begin{{tabular}}{{{'l' * len(heads)}}}", r"\toprule",
        " & ".join(map(_tex, heads)) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def comma_separated(lines: Lines) -> str:
    """A table as CSV: the numbers where a cell has one, else what it says."""
    heads, file = _heads(lines), io.StringIO()
    out = csv.writer(file, lineterminator="\n")
    out.writerow(heads)
    for line in lines:
        cells = [line.get(head, Field("")) for head in heads]
        out.writerow([c.text if c.value != c.value else f"{c.value:.6g}" for c in cells])
    return file.getvalue()


def _heads(lines: Lines) -> list[str]:
    return list(dict.fromkeys(head for line in lines for head in line))


def _whole(cell: Field) -> str:
    return f"{cell.text} {cell.added}" if cell.added else cell.text


def _tex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)
