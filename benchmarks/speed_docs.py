"""Tables and the plot of docs/speed.md from the committed rows: what stands between these two lines is made here.

    <!-- speed: published -->
    <!-- /speed -->

    python benchmarks/speed_docs.py            # writes the tables
    python benchmarks/speed_docs.py --plot     # and the plot (needs matplotlib)

Figures are compared only if they come from one kind of machine.
"""

import argparse
import json
import math
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from editproof.bench.uncertainty import median_interval
from editproof.errors import UserError

ROOT = Path(__file__).parents[1]
DOCUMENT, RESULTS = ROOT / "docs" / "speed.md", ROOT / "benchmarks" / "results"
BLOCK = re.compile(r"(<!-- speed: (\w+) -->\n)(.*?)(<!-- /speed -->)", re.DOTALL)
Row = dict[str, Any]


class Aim(NamedTuple):
    """A row of the first table: the published code's cost on one H100, and what was asked for."""

    what: str
    model: str
    method: str
    batch: int
    published: str  # s/step, GiB; "-" where nobody has published it
    aim: float
    side: int = 512
    limit: float | None = None  # GiB that PyTorch might take


AIMS = (
    Aim("DeContext, FLUX 12B", "flux-kontext", "decontext", 1, ".35-.47, 28-36", 0.15),
    Aim("DeContext, FLUX 12B, 1024x1024", "flux-kontext", "decontext", 1, "-", 0.8, 1024, 80),
    Aim("the same within 45 GiB", "flux-kontext", "decontext", 1, "-", 0.8, 1024, 45),
    Aim("the same within 24 GiB (weights streamed)", "flux-kontext stream", "decontext", 1, "-", 2.0, 1024, 24),
    Aim("DeContext, 4 photos", "flux-kontext", "decontext", 4, "-", 0.55, 512, 80),
    Aim("VETO, FLUX 12B", "flux-kontext", "veto", 1, "-", 0.08),
    Aim("PhotoGuard encoder, SD 1.5", "sd-inpaint", "photoguard-encoder", 1, ".0256, 3.6", 0.006),
    Aim("DiffusionGuard, SD 1.5, 4 masks", "sd-inpaint", "diffusionguard", 1, ".694, 7.5", 0.05),
    Aim("PhotoGuard diffusion, SD 1.5, 10 draws x 4 steps", "sd-inpaint", "photoguard-diffusion", 1, "4.98, 18.5", 0.7,
        512, 80),
    Aim("UNet++, one pass", "unet++", "pass", 1, ".0081, 2.5", 0.0025),
    Aim("UNet++, one pass, batch 16", "unet++", "pass", 16, ".0929, 12.5", 0.018),
)  # fmt: skip


def read(name: str) -> list[Row]:
    """The rows of results/NAME.jsonl; none if there is no such file."""
    path = RESULTS / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def machine(rows: Sequence[Row]) -> str:
    """The one GPU that rows were measured on. Raises UserError for several."""
    names = sorted({row["device"] for row in rows if not row["device"].startswith("CPU")})
    if len(names) > 1:
        raise UserError(f"rows of {' and '.join(names)} cannot be compared; allowed: rows of one kind of machine")
    return names[0] if names else "no GPU"


def _gpu(rows: Sequence[Row]) -> list[Row]:
    machine(rows)
    return [row for row in rows if not row["device"].startswith("CPU")]


def _ceiling(rows: Sequence[Row]) -> float:
    return max((row["tflop_per_s"] for row in rows if row.get("part") == "ceiling"), default=0.0)


def published(rows: Sequence[Row]) -> str:
    """The published code beside ours, 512x512 where nothing else is said."""
    rows = _gpu(rows)
    lines = [
        "| what | published, s/step, GiB | here, s/step | GiB, of the driver | TFLOP/s | aim | reached |",
        "| --- " * 7 + "|",
    ]
    for aim in AIMS:
        row = next((r for r in rows if _is(r, aim)), {})
        gib = f"{row['driver_gib']:.1f}" if "driver_gib" in row else "-"
        reached = "not measured" if not row else "yes" if row["s_per_step"] <= aim.aim else "no"
        lines.append(
            f"| {aim.what} | {aim.published} | {_seconds(row)} | {gib} | {_rate(row, _ceiling(rows))} | "
            f"{f'{aim.aim:g}'.removeprefix('0')} | {reached} |"
        )
    return "\n".join(lines) + "\n"


def everything(rows: Sequence[Row]) -> str:
    """Every row of the GPU."""
    return _listed(_gpu(rows))


def cpu(rows: Sequence[Row]) -> str:
    """Every row of the CPU: processor seconds, which other jobs on the machine change less than the clock's."""
    lines = ["| model | method | size | settings | processor s/step | s/step | GFLOP |", "| --- " * 7 + "|"]
    for row in rows:
        if row["device"].startswith("CPU") and "part" not in row:
            knobs = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
            lines.append(
                f"| {row['model']} | {row['method']} | {row['side']} | {knobs or '-'} | "
                f"{_short(row['processor_s'], 2)} | {_short(row['s_per_step'], 2)} | {1000 * row['tflop']:.0f} |"
            )
    return "\n".join(lines) + "\n"


def _listed(rows: Sequence[Row]) -> str:
    lines = [
        "| model | method | batch | size | settings | first step, s | s/step | GiB: tensors | driver | TFLOP/s |",
        "| --- " * 10 + "|",
    ]
    for row in rows:
        if row.get("part"):
            continue
        knobs = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
        knobs += "" if row["variant"] == "default" else f" ({row['variant']})"
        knobs += f" within {row['limit_gib']} GiB" if row.get("limit_gib") else ""
        lines.append(
            f"| {row['model']} | {row['method']} | {row['batch']} | {row['side']} | {knobs.strip() or '-'} | "
            f"{row.get('first', '-')} | {row.get('error', '')[:40] or _seconds(row)} | {row.get('peak_gib', '-')} | "
            f"{row.get('driver_gib', '-')} | {_rate(row, _ceiling(rows))} |"
        )
    return "\n".join(lines) + "\n"


def kernels(rows: Sequence[Row]) -> str:
    """What a step's time on the GPU is made of, where it was looked at."""
    lines = []
    for row in _gpu(rows):
        if "profile" in row:
            named = f"{row['model']}, {row['method']}, batch {row['batch']} ({row['variant']})"
            lines += [f"- {named}: {row['profile'][0]}, {_seconds(row)} s a step"]
            lines += [f"  - {line}" for line in row["profile"][1:7]]
    return "\n".join(lines) + "\n"


def curves(rows: Sequence[Row]) -> str:
    """Each method's paper settings, and what ours reach in how many steps."""
    lines = ["| editor | method | photos | settings | steps | median effect [95 %] |", "| --- " * 6 + "|"]

    def order(row: Row) -> tuple[Any, ...]:
        return row["editor"], -row["side"], row["method"], row["curve"] != "paper", row["curve"], row["steps"]

    for row in sorted(rows, key=order):
        effect = row.get("error", "")[:40] or _median(row["each"])
        knobs = "".join(f", {name} {row['knobs'][name]}" for name in ("samples", "timesteps") if name in row["knobs"])
        lines.append(
            f"| {row['editor']} | {row['method']} | {row['photos']}, {row['side']} px | {row['curve']}{knobs} | "
            f"{row['steps']} | {effect} |"
        )
    return "\n".join(lines) + "\n"


def _median(values: Sequence[float]) -> str:
    middle, low, high = median_interval(values)
    interval = "" if math.isnan(low) else f" [{_short(low, 3)}, {_short(high, 3)}]"
    return f"{_short(middle, 3)}{interval}"


KINDS: dict[str, tuple[str, Callable[[Sequence[Row]], str]]] = {
    "published": ("speed", published),
    "everything": ("speed", everything),
    "cpu": ("speed", cpu),
    "kernels": ("speed", kernels),
    "curves": ("effect_curves", curves),
}


def _is(row: Row, aim: Aim) -> bool:
    wanted = {"model": aim.model, "method": aim.method, "batch": aim.batch, "side": aim.side, "limit_gib": aim.limit}
    return row.get("variant") == "default" and all(row.get(name) == value for name, value in wanted.items())


def _seconds(row: Row) -> str:
    return _short(row["s_per_step"], 4 if row["s_per_step"] < 0.1 else 3) if "s_per_step" in row else "-"


def _rate(row: Row, ceiling: float) -> str:
    if "tflop_per_s" not in row:
        return "-"
    share = f" ({100 * row['tflop_per_s'] / ceiling:.0f} %)" if ceiling else ""
    return f"{row['tflop_per_s']:.0f}{share}" if row["tflop_per_s"] >= 1 else _short(row["tflop_per_s"], 2)


def _short(value: float, digits: int) -> str:
    return f"{value:.{digits}f}".replace("0.", ".", 1) if value < 1 else f"{value:.{digits - 1}f}"


def written() -> str:
    """docs/speed.md with every table as the rows have it."""

    def table(block: re.Match[str]) -> str:
        name, make = KINDS[block[2]]
        return f"{block[1]}{make(read(name))}{block[4]}"

    return BLOCK.sub(table, DOCUMENT.read_text(encoding="utf-8"))


def plot(rows: Sequence[Row], path: Path) -> None:
    """Effect (the photos' median) against steps, a panel for each method; the papers' settings are dashed."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "editproof", "font.size": 9})
    from matplotlib import pyplot

    most = max(row["side"] for row in rows)
    rows = [row for row in rows if "error" not in row and row["curve"] != "control" and row["side"] == most]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure, axes = pyplot.subplots(1, len(methods), figsize=(3.1 * len(methods), 3.2), squeeze=False)
    names = list(dict.fromkeys(row["curve"] for row in rows))
    for panel, method in zip(axes[0], methods, strict=True):
        for number, name in enumerate(names):
            chosen = [row for row in rows if (row["method"], row["curve"]) == (method, name)]
            points = sorted((row["steps"], statistics.median(row["each"])) for row in chosen)
            if points:
                style = "--s" if name == "paper" else "-o"
                panel.plot(*zip(*points, strict=True), style, ms=4, lw=1.2, color=f"C{number}", label=name)
        ticks = sorted({row["steps"] for row in rows if row["method"] == method})
        panel.margins(y=0.1)
        panel.set(xscale="log", title=method, xlabel="steps", ylim=(0, None))
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    axes[0][0].set_ylabel("effect, median")
    handles = {label: h for p in axes[0] for h, label in zip(*p.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=len(handles), frameon=False)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", action="store_true", help="draw docs/effect-curves.svg too")
    args = parser.parse_args()
    DOCUMENT.write_text(written(), encoding="utf-8")
    if args.plot:
        plot(read("effect_curves"), ROOT / "docs" / "effect-curves.svg")


if __name__ == "__main__":
    main()
