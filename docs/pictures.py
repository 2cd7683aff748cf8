"""Draw the logo, the favicon and the charts of the home page, as SVG files in `_static`.

The charts show numbers of `benchmarks/tables`, and a test compares them with these files. After a benchmark, run
`python docs/pictures.py`.
"""

import math
import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
TABLES = DOCS.parent / "benchmarks" / "tables"
BLUE, ORANGE, GREY, INK = "#0072B2", "#D55E00", "#9aa5ae", "#24292f"
VERDICTS = {"right": BLUE, "right, but warned of": GREY, "wrong, without a warning": ORANGE}
# The ratio at the end of the scale.
GREATEST = 250.0
FONT = "font-family='system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif'"
# Work of the two benchmarks that the chart of speed shows, by the beginning of its name in the table.
FITS = {"second fit": "Fit 442 rows again", "24 settings": "Search 24 settings in 5 folds"}
DRAWS = {
    "posterior mean, 100,000": "Mean of 100,000 rows",
    "5 % and 95 % quantiles, 100,000": "Intervals of 100,000 rows",
    "average effect, 1,000,000": "Average effect, 1,000,000 rows",
    "draws to disk, 1,000,000": "Draws of 1,000,000 rows to disk",
    "Bayesian network to disk": "Draws of a Bayesian network",
}


def svg(width: int, height: int, content: str, title: str) -> str:
    """Return an SVG file."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' {FONT}>"
        f"<title>{escape(title)}</title>{content}</svg>\n"
    )


def card(height: int, content: list[str], title: str) -> str:
    """Return a chart on white, which can be read on dark pages, too."""
    white = "<rect width='100%' height='100%' rx='8' fill='white'/>"
    return svg(640, height, f"{white}<g transform='translate(12 10) scale(.96)'>{''.join(content)}</g>", title)


def text(x: float, y: float, words: str, *, size: str = "14", fill: str = INK, **options: str) -> str:
    """Return a line of text."""
    settings = "".join(f" {name.replace('_', '-')}='{value}'" for name, value in options.items())
    return f"<text x='{x:.4g}' y='{y:.4g}' font-size='{size}' fill='{fill}'{settings}>{escape(words)}</text>"


def bar(x: float, y: float, width: float, height: float, colour: str) -> str:
    """Return a bar."""
    return f"<rect x='{x:.4g}' y='{y:.4g}' width='{width:.4g}' height='{height:.4g}' rx='2' fill='{colour}'/>"


def mark(size: float) -> str:
    """Return the logo: draws of a curve through points, and their mean."""
    lines = [
        f"<path d='M8 {72 + shift} C 34 {60 - tilt}, 58 {52 + tilt}, 92 {22 - shift}' stroke-opacity='.45'/>"
        for shift, tilt in ((-9, 10), (-4, 5), (4, -5), (9, -10))
    ]
    lines.append("<path d='M8 72 C 34 60, 58 52, 92 22' stroke-width='7'/>")
    points = "".join(f"<circle cx='{x}' cy='{y}' r='6'/>" for x, y in ((22, 52), (50, 68), (76, 26)))
    return (
        f"<g transform='scale({size / 100:g})'><g fill='none' stroke='{BLUE}' stroke-width='4' stroke-linecap='round'>"
        f"{''.join(lines)}</g><g fill='{ORANGE}'>{points}</g></g>"
    )


def logo(ink: str) -> str:
    """Return the logo with the name."""
    name = f"<text x='52' y='34' font-size='30' font-weight='600' fill='{ink}'>skaimz</text>"
    return svg(184, 48, f"<g transform='translate(0 2)'>{mark(44)}</g>{name}", "skaimz")


def rows_of(name: str) -> list[list[str]]:
    """Return the cells of the rows of a table in Markdown."""
    lines = (TABLES / f"{name}.md").read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def seconds(cell: str) -> float:
    """Return the first number with decimals in a cell."""
    return float(re.search(r"\d+\.\d+", cell)[0])


def work() -> list[tuple[str, str, float, float]]:
    """Return what the chart of speed shows: name, name of the other side, its seconds and ours."""
    found = []
    for table, names in (("fit", FITS), ("sampling", DRAWS)):
        for start, name in names.items():
            (cells,) = (cells for cells in rows_of(table) if cells[0].startswith(start))
            other = "NumPyro" if table == "fit" else "aimz"
            found.append((name, other, seconds(cells[1]), seconds(cells[2])))
    return found


def speed() -> str:
    """Return bars that say how many times as fast as others the package is, on a logarithmic scale."""
    height, left, width = 46, 250, 330
    content = [text(0, 18, "How many times as fast, on two cores", font_weight="600")]
    for number, (name, other, theirs, ours) in enumerate(work()):
        y, ratio = 36 + height * number, theirs / ours
        end = left + width * max(0.01, math.log(ratio) / math.log(GREATEST))
        times = f"{other} {theirs:.3g} s, skaimz {ours:.2g} s"
        content += [
            text(left - 10, y + 16, name, text_anchor="end"),
            text(left - 10, y + 32, times, text_anchor="end", fill_opacity=".65", size="12"),
            bar(left, y + 4, end - left, 24, BLUE if ratio > 1 else GREY),
            text(end + 8, y + 21, f"{ratio:.3g}x" if ratio < 10 else f"{ratio:.0f}x"),
        ]
    return card(40 + height * len(work()), content, "Speed compared with NumPyro and aimz")


def outcomes() -> list[tuple[str, int, int, int]]:
    """Return what the chart of trust shows: name, number of problems, wrong without a warning, with a warning."""
    lines = (DOCS / "trust.md").read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    counts = [next(cells for cells in table if cells[0].startswith(start)) for start in ("problems", "wrong", "with a")]
    columns = list(zip(table[0], *counts, strict=True))[1:]
    names = {"default inference": "skaimz, default"}
    return [(names.get(name, name), *map(int, numbers)) for name, *numbers in columns]


def trust() -> str:
    """Return bars with the problems that were right, warned of, and wrong without a warning."""
    left, width, height = 190, 400, 52
    content = [text(0, 18, "Problems with known posteriors", font_weight="600")]
    for number, (name, problems, wrong, warned) in enumerate(outcomes()):
        y, x = 40 + height * number, float(left)
        content.append(text(left - 10, y + 20, name, text_anchor="end"))
        for count, colour in zip((problems - wrong - warned, warned, wrong), VERDICTS.values(), strict=True):
            size = width * count / problems
            content.append(bar(x, y, size, 30, colour))
            if size > 16:
                content.append(text(x + size / 2, y + 20, str(count), text_anchor="middle", fill="white"))
            x += size
    y, x = 48 + height * len(outcomes()), left
    for verdict, colour in VERDICTS.items():
        content += [bar(x, y, 14, 14, colour), text(x + 20, y + 12, verdict)]
        x += 40 + 8 * len(verdict)
    return card(y + 40, content, "Right and wrong results on problems with known posteriors")


PICTURES = {
    "favicon.svg": lambda: svg(100, 100, mark(100), "skaimz"),
    "logo.svg": lambda: logo(INK),
    "logo_dark.svg": lambda: logo("white"),
    "speed.svg": speed,
    "trust.svg": trust,
}

if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (DOCS / "_static" / name).write_text(draw())
