"""The table of counters in docs/counters.md: `python -m editproof.counters.table` prints it."""

from editproof.counters import COUNTERS


def table() -> str:
    """COUNTERS as a Markdown table, a line each."""
    lines = [
        "| counter | strength | range | default | gradient | needs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, info in COUNTERS.items():
        values = f"{info.low:g} to {info.high:g} | {info.default:g}" if info.low < info.high else "- | -"
        gradient = "yes" if info.differentiable else ""
        model = "an editor" if info.needs_editor else "a file" if info.needs_weights else ""
        lines.append(f"| `{name}` | {info.note} | {values} | {gradient} | {model} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
