"""Loss curves of a run folder as one SVG: a panel per stage, a line per loss."""

import glob
import json
import os

WIDTH, HEIGHT, LEFT, TOP = 640, 240, 52, 24
INKS = ("#1f5fbf", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#525252")


def read(path):
    """-> {loss: [(minutes, value)]}"""
    out = {}
    with open(path, encoding="utf-8") as f:
        for line in map(json.loads, f):
            for name, value in line["loss"].items():
                out.setdefault(name, []).append((line["minutes"], value))
    return out


def panel(title, series, top):
    last = max(x for points in series.values() for x, _ in points) or 1
    most = max(y for points in series.values() for _, y in points) or 1
    w, h = WIDTH - LEFT - 130, HEIGHT - TOP - 30

    def at(x, y):
        return f"{LEFT + w * x / last:.1f},{top + TOP + h * (1 - y / most):.1f}"

    yield f'<text x="{LEFT}" y="{top + 16}" font-weight="bold">{title}</text>'
    yield f'<polyline points="{at(0, most)} {at(0, 0)} {at(last, 0)}" fill="none" stroke="#999"/>'
    yield f'<text x="4" y="{top + TOP + 8}">{most:.2f}</text><text x="4" y="{top + TOP + h}">0</text>'
    yield f'<text x="{LEFT + w - 40}" y="{top + HEIGHT - 12}">{last:.0f} min</text>'
    for i, (name, points) in enumerate(sorted(series.items())):
        ink = INKS[i % len(INKS)]
        yield (f'<polyline points="{" ".join(at(*p) for p in points)}" fill="none" stroke="{ink}" '
               f'stroke-width="1.5"/>')
        yield (f'<text x="{WIDTH - 124}" y="{top + TOP + 12 + 16 * i}" fill="{ink}">'
               f'{name} {points[-1][1]:.3f}</text>')


def draw(folder, out):
    stages = {os.path.basename(p).removesuffix(".log.jsonl"): read(p)
              for p in sorted(glob.glob(os.path.join(folder, "*.log.jsonl")))}
    stages = {name: series for name, series in stages.items() if series}
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(stages)}" '
             f'font-family="sans-serif" font-size="11">']
    for i, (name, series) in enumerate(stages.items()):
        lines += panel(name, series, HEIGHT * i)
    with open(out, "w", encoding="utf-8") as f:
        f.write("\n".join(lines + ["</svg>"]) + "\n")
