"""Draws the studies: what each variant of a setting does to the measures that count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from .form import Row

SHOWN = ("identity", "colour", "adherence", "motion", "seam", "leak", "mask_iou")
COLOURS = {"cross-attention": "#3b6ea8", "joint-attention": "#c2703d", "one-stream-attention": "#5b8c4a"}
WIDTH, HEIGHT = 2.3, 2.6
"""Size of one panel in inches."""


def draw_studies(rows: Sequence[Row], folder: Path) -> list[Path]:
    """One picture for every study in `rows`, as bench.studies makes them: a panel for each measure, a bar for each
    variant and model, with intervals where the rows have them. Gives the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    for study in dict.fromkeys(str(row["study"]) for row in rows):
        file = folder / f"{study.replace(' ', '_')}.png"
        draw_study(study, [row for row in rows if row["study"] == study]).savefig(file, dpi=110)
        files.append(file)
    return files


def draw_study(study: str, rows: Sequence[Row]) -> Figure:
    """The picture of one study."""
    figure = Figure(figsize=(WIDTH * len(SHOWN), HEIGHT), layout="constrained")
    for place, name in enumerate(SHOWN, start=1):
        draw_panel(figure.add_subplot(1, len(SHOWN), place), name, rows)
    figure.suptitle(study, fontsize=11, x=0.01, ha="left")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="upper right", ncols=3, fontsize=8, frameon=False)
    return figure


def draw_panel(panel: Any, name: str, rows: Sequence[Row]) -> None:
    """The bars of one measure."""
    variants = list(dict.fromkeys(str(row["variant"]) for row in rows))
    models = list(dict.fromkeys(str(row["model"]) for row in rows))
    width = 0.8 / len(models)
    for number, model in enumerate(models):
        of_model: Mapping[str, Row] = {str(row["variant"]): row for row in rows if row["model"] == model}
        places = [place + (number - (len(models) - 1) / 2) * width for place in range(len(variants))]
        heights = [value_of(of_model[variant], name) for variant in variants]
        panel.bar(places, heights, width, color=COLOURS[model], label=model)
        for place, height, variant in zip(places, heights, variants, strict=True):
            interval: Any = of_model[variant].get(f"{name}_ci")
            if interval is not None:
                panel.plot([place, place], interval, color="#333333", linewidth=0.8)
            elif of_model[variant].get(name) is None:
                panel.text(place, height, "-", ha="center", fontsize=8)
    panel.set_title(name.replace("_", " "), fontsize=9)
    panel.set_xticks(range(len(variants)), variants, rotation=60, ha="right", fontsize=7)
    panel.tick_params(axis="y", labelsize=7)
    panel.spines[["top", "right"]].set_visible(False)


def value_of(row: Row, name: str) -> float:
    """A figure of a row; 0 where there is none."""
    value = row.get(name)
    return value if isinstance(value, float) else 0.0
