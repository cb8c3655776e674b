"""The table of counters in docs/counters.md: `python -m editproof.counters.table` prints it."""

from editproof.counters import COUNTERS


def table() -> str:
    """COUNTERS as a Markdown table, a line each."""
    lines = [
        "| counter | strength | range | default | gradient | needs an editor |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, info in COUNTERS.items():
        values = f"{info.low:g} to {info.high:g} | {info.default:g}" if info.low < info.high else "- | -"
        gradient, editor = ("yes" if flag else "" for flag in (info.differentiable, info.needs_editor))
        lines.append(f"| `{name}` | {info.note} | {values} | {gradient} | {editor} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
