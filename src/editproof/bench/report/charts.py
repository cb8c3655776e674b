"""Drawings for the report: protection against visibility, as SVG that follows the page's colours."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from editproof.bench.estimates import Estimate, number

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 16, 52
SHAPES = ("circle", "square", "diamond", "up", "down", "cross")
COLOURS = 8  # --c0 .. --c7 in the page's style


@dataclass(frozen=True)
class Point:
    """One budget of a method: how visible, how strong."""

    budget: str
    x: Estimate
    y: Estimate


def curves(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str) -> Markup:
    """One line per method through its budgets, with the 95 % interval of each point; an SVG element."""
    drawn = {
        name: [p for p in points if math.isfinite(p.x.mean) and math.isfinite(p.y.mean)]
        for name, points in series.items()
    }
    everything = [point for points in drawn.values() for point in points]
    if not everything:
        return Markup("")
    xs = _scale([p.x.mean for p in everything])
    edges = [v for p in everything for v in (p.y.mean, p.y.low, p.y.high) if math.isfinite(v)]
    ys = _scale([*edges, 0.0])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - xs[0]) / (xs[-1] - xs[0])
        up = (y - ys[0]) / (ys[-1] - ys[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y_label)} against {escape(x_label)}">'
    ]
    for x in xs:
        left, _ = place(x, ys[0])
        parts.append(f'<line class="grid" x1="{left:.1f}" y1="{TOP}" x2="{left:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text x="{left:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_tick(x, xs)}</text>')
    for y in ys:
        _, top = place(xs[0], y)
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{top:.1f}" x2="{WIDTH - RIGHT}" y2="{top:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{_tick(y, ys)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x_label)}</text>')
    centre = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(
        f'<text class="axis" x="16" y="{centre}" text-anchor="middle" transform="rotate(-90 16 {centre})">'
        f"{escape(y_label)}</text>"
    )
    for i, (name, points) in enumerate(drawn.items()):
        placed = sorted((*place(p.x.mean, p.y.mean), p) for p in points)
        colour = f"var(--c{i % COLOURS})"
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in placed)
        parts.append(f'<g style="--c:{colour}"><polyline class="curve" points="{line}"/>')
        for x, y, point in placed:
            if math.isfinite(point.y.low):
                low, high = place(point.x.mean, point.y.low)[1], place(point.x.mean, point.y.high)[1]
                parts.append(f'<line class="bar" x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}"/>')
            told = f"{name}, {point.budget}: {number(point.y.mean)} at {number(point.x.mean)}"
            parts.append(
                f'<path class="dot" d="{_shape(SHAPES[i % len(SHAPES)], x, y)}"><title>{escape(told)}</title></path>'
            )
        parts.append("</g>")
    parts.append("</svg>")
    return Markup("".join(parts))


def legend(series: Mapping[str, Sequence[Point]]) -> Markup:
    """The names of the lines that `curves` draws, with their colours and shapes."""
    entries = []
    for i, (name, points) in enumerate(series.items()):
        if not points:
            continue
        mark = f'<path class="dot" d="{_shape(SHAPES[i % len(SHAPES)], 8, 8)}"/>'
        svg = f'<svg viewBox="0 0 16 16" style="--c:var(--c{i % COLOURS})" aria-hidden="true">{mark}</svg>'
        entries.append(f"<li>{svg}{escape(name)}</li>")
    return Markup(f'<ul class="legend">{"".join(entries)}</ul>')


def _scale(values: Sequence[float]) -> list[float]:
    """Round numbers around all values, evenly spaced: 4 to 8 of them."""
    low, high = min(values), max(values)
    span = high - low or max(abs(high), 1e-3) * 0.2
    rough = span / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    last += first == last
    return [i * step for i in range(first, last + 1)]


def _tick(value: float, scale: Sequence[float]) -> str:
    digits = max(0, 1 - math.floor(math.log10(scale[1] - scale[0])))
    return f"{value:.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:.0f}"


def _shape(name: str, x: float, y: float) -> str:
    """An SVG path of about 10 pixels around (x, y)."""
    r = 5.0
    corners = {
        "square": [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)],
        "diamond": [(0, -1.2), (1.2, 0), (0, 1.2), (-1.2, 0)],
        "up": [(0, -1.15), (1.1, 0.9), (-1.1, 0.9)],
        "down": [(0, 1.15), (1.1, -0.9), (-1.1, -0.9)],
        "cross": [(-1.1, -0.35), (-0.35, -0.35), (-0.35, -1.1), (0.35, -1.1), (0.35, -0.35), (1.1, -0.35), (1.1, 0.35),
                  (0.35, 0.35), (0.35, 1.1), (-0.35, 1.1), (-0.35, 0.35), (-1.1, 0.35)],
    }  # fmt: skip
    if name == "circle":
        return f"M{x - r:.1f} {y:.1f}a{r} {r} 0 1 0 {2 * r} 0a{r} {r} 0 1 0 {-2 * r} 0z"
    return "M" + "L".join(f"{x + r * dx:.1f} {y + r * dy:.1f}" for dx, dy in corners[name]) + "z"
