"""What benchmark.py writes: results.csv (a row a run), table.md (a row a variant), figure.png."""

import csv
import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from studies import CLUSTER_HEAD, Variant

from ccscale import atomic
from ccscale.draw.lettering import width_of, write
from ccscale.errors import InputError

FIELDS = (
    *("variant", "seed", "acc", "nmi", "ari", "f", "epochs", "steps", "seconds", "commit", "machine"),
    "scored_by",
)
SHOWN = {"acc": "ACC", "nmi": "NMI", "ari": "ARI"}
BY_LABELS = (
    "**Chosen by the labels:** of each run's evaluated epochs the one with the best ACC is shown, which nobody "
    "without labels could choose. (Rows of k-means have their last step.)"
)


@dataclass(frozen=True)
class Row:
    """A variant and the figures of its runs, one a seed."""

    variant: Variant
    runs: list[dict[str, Any]]

    def values(self, name: str) -> list[float]:
        """Return a score of every run, in the order of the seeds."""
        return [run[name] for run in self.runs]


def figures_of(variant: Variant, seed: int, record: dict[str, Any], best: bool = False) -> dict[str, Any]:
    """Return a row of results.csv from a cell's record: of its last step, or of its best evaluated epoch.

    Raises
    ------
    InputError
        If there is no such score.
    """
    if variant.scored_by not in record["scores"]:
        raise InputError(f"{variant.name}, seed {seed}: too few labelled images for {variant.scored_by}")
    chosen = {"epochs": record["epochs"], **record["scores"][variant.scored_by]}
    if best and variant.scored_by == CLUSTER_HEAD:
        chosen = max(record["evaluations"], key=lambda found: found["acc"])
        chosen = {"epochs": chosen["epoch"], **chosen}
    found = {"variant": variant.name, "seed": seed, "scored_by": variant.scored_by, **record, **chosen}
    return {name: found[name] for name in FIELDS}


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the sample standard deviation; None of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def results_csv(rows: Sequence[Row]) -> str:
    """Return a row for every run."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerows(row.runs)
    return text.getvalue()


def table(rows: Sequence[Row], heading: str, missing: Sequence[str], notes: Sequence[str], best: bool) -> str:
    """Return the Markdown table.

    Parameters
    ----------
    rows
        With runs.
    heading
        The line above it.
    missing
        A line each of what is not in it.
    notes
        Lines below it.
    best
        Whether the labels chose the epochs.
    """
    published = any(row.variant.published for row in rows)
    titles = ["variant", "clusters by", *SHOWN.values(), "seeds", "ACC of each seed"]
    titles += ["published ACC / NMI / ARI"] if published else []
    lines = [BY_LABELS, ""] if best else []
    lines += [heading, "", _line(titles), _line(["---"] * len(titles))]
    for row in rows:
        cells = [row.variant.name, row.variant.scored_by]
        cells += [with_spread(row.values(name)) for name in SHOWN]
        cells += [str(len(row.runs)), " ".join(map(short, row.values("acc")))]
        if published:
            cells.append(" / ".join(map(short, row.variant.published or ())))
        lines.append(_line(cells))
    lines += ["", *(f"- {note}" for note in [*missing, *notes])]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def with_spread(values: Sequence[float]) -> str:
    """Return mean and spread as tables have them: .882 ± .010."""
    mean, spread = mean_and_spread(values)
    return short(mean) if spread is None else f"{short(mean)} ± {short(spread)}"


def short(value: float) -> str:
    """Return a score without its leading zero: .882."""
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 0.9995 else f"{value:.3f}"


BAR, GAP, BETWEEN, MARGIN, SCALE = 13, 3, 14, 20, 520
HUES = {"acc": (38, 92, 170), "nmi": (58, 145, 115), "ari": (200, 128, 40)}
INK, FAINT, GRID, PAPER = (32, 33, 36), (110, 113, 118), (222, 224, 228), (255, 255, 255)


def draw(rows: Sequence[Row], heading: str) -> Image.Image:
    """Draw a bar for each mean, a line for its spread and a dot for each run."""
    names = min(360, 14 + max(int(width_of(row.variant.name, 14)) for row in rows))
    high = 3 * (BAR + GAP) + BETWEEN
    top, left = MARGIN + 58, MARGIN + names
    width, height = left + SCALE + 70 + MARGIN, top + len(rows) * high + MARGIN + 18
    picture = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(picture)
    write(pen, (MARGIN, MARGIN), heading, width - 2 * MARGIN, 16, INK)
    key = MARGIN
    for name, title in SHOWN.items():
        pen.rectangle((key, MARGIN + 32, key + 12, MARGIN + 44), HUES[name])
        write(pen, (key + 18, MARGIN + 30), title, 60, 13, INK)
        key += 70
    write(pen, (key, MARGIN + 30), "bar: mean · line: spread over seeds · dots: seeds", 420, 13, FAINT)
    bottom = top + len(rows) * high
    for tenth in range(0, 11, 2):
        x = left + SCALE * tenth // 10
        pen.line((x, top - 4, x, bottom), GRID)
        write(pen, (x - 8, bottom + 4), f"{tenth / 10:.1f}", 40, 12, FAINT)
    for number, row in enumerate(rows):
        y = top + number * high
        write(pen, (MARGIN, y + BAR + GAP - 3), row.variant.name, names - 10, 14, INK)
        for name in SHOWN:
            _bar(pen, left, y, row.values(name), HUES[name])
            y += BAR + GAP
    return picture


def _bar(
    pen: ImageDraw.ImageDraw, left: int, y: int, values: Sequence[float], hue: tuple[int, int, int]
) -> None:
    def place(value: float) -> int:
        return left + round(SCALE * min(max(value, 0.0), 1.0))  # ARI may be below 0

    mean, spread = mean_and_spread(values)
    light = tuple(255 - (255 - part) * 2 // 5 for part in hue)
    pen.rectangle((left, y, place(mean), y + BAR), light)
    middle = y + BAR // 2
    if spread is not None:
        ends = place(mean - spread), place(mean + spread)
        pen.line((ends[0], middle, ends[1], middle), hue, 2)
        for x in ends:
            pen.line((x, middle - 4, x, middle + 4), hue, 2)
        for value in values:
            pen.ellipse((place(value) - 2, middle - 2, place(value) + 2, middle + 2), INK)
    write(pen, (left + SCALE + 12, y - 1), with_spread(values), 90, 12, FAINT)


def write_results(folder: Path, rows: Sequence[Row], markdown: str, heading: str) -> None:
    """Write the three files, each whole or not at all."""
    atomic.write_bytes(folder / "results.csv", results_csv(rows).encode())
    atomic.write_bytes(folder / "table.md", markdown.encode())
    data = io.BytesIO()
    draw(rows, heading).save(data, format="PNG", optimize=True)
    atomic.write_bytes(folder / "figure.png", data.getvalue())
