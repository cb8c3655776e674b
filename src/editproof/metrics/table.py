"""The table of metrics in docs/metrics.md: `python -m editproof.metrics.table` prints it."""

from editproof.metrics import METRICS


def table() -> str:
    """METRICS as a Markdown table, a line each."""
    lines = [
        "| metric | compares | range | stronger | same pictures | needs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, metric in METRICS.items():
        direction = metric.stronger if metric.group != "visibility" else f"{metric.stronger} (less visible)"
        best = "-" if metric.best is None else f"{metric.best:g}"
        needs = [f"extra `{metric.extra}`"] if metric.extra else []
        needs += [f"model `{metric.source}`"] if metric.source else []
        lines.append(
            f"| `{name}` | {metric.compares} | {metric.low:g} to {metric.high:g} | {direction} | {best} "
            f"| {', '.join(needs) or '-'} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
