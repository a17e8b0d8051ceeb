"""The facts on the pages of docs/models and in the README's table of models: files and settings of the workflows,
memory that sharing takes, and what was tested. They come from `devtools/released_workflows.py` and `bench/results`.

python -m bench.model_pages [--check]
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.environment import ROOT, say
from devtools.released_workflows import RELEASED, Released

from .families import RESULTS, support_table

FOLDER = ROOT / "docs" / "models"
README = ROOT / "README.md"
COMPATIBILITY = ROOT / "docs" / "compatibility.md"
BEGIN = "<!-- Begin of what `python3 dev.py bench model_pages` writes -->"
END = "<!-- End of what `python3 dev.py bench model_pages` writes -->"
NOT_RUN = "Released weights have not been run by this project, and nothing has run on CUDA yet."
TINY = (
    f"{NOT_RUN} Each layout below is a tiny model with random weights, built by ComfyUI's own classes. On each ComfyUI "
    "that has it, it holds the"
)
OWN = (
    "The embedded model was run, on a CPU. Each layout below is a tiny model with random weights. On each ComfyUI it "
    "holds the"
)
"""How a page tells what its layouts hold, of models that others released and of the pack's own."""
FILES_TAKE = "The files take "
"""How the remark of a workflow begins that gives the size of its files."""


@dataclass(frozen=True)
class Page:
    """A page of docs/models: the model families that it is about, and how the names of their models begin in the list
    of workflows and in bench/results/plans.json. tested: what was."""

    name: str
    families: tuple[str, ...]
    models: str
    tested: str = TINY

    @property
    def file(self) -> Path:
        """Where the page is."""
        return FOLDER / f"{self.name}.md"

    @property
    def workflows(self) -> list[Released]:
        """The workflows for its models."""
        return [workflow for workflow in RELEASED if self.has(workflow.name)]

    def has(self, model: str) -> bool:
        """Whether a model or a workflow of this name is the page's."""
        return model.startswith(self.models)


PAGES = (
    Page("wan", ("wan",), "Wan"),
    Page("ltx-2", ("ltx2",), "LTX-2"),
    Page("minimax-h3", ("minimax_h3",), "MiniMax"),
    Page("hunyuanvideo", ("hunyuan",), "HunyuanVideo"),
    Page("cogvideox", ("cogvideox",), "CogVideoX"),
    Page("ltx-video", ("ltxv",), "LTX-Video"),
    Page("mochi", ("mochi",), "Mochi"),
    Page("cosmos", ("cosmos", "cosmos_predict2"), "Cosmos"),
    Page("kandinsky", ("kandinsky5",), "Kandinsky"),
    Page("stable-diffusion", ("unet",), "Storyboard of stills"),
    Page("vit3d", ("vit3d",), "ViT3D", OWN),
)


@dataclass(frozen=True)
class Row:
    """A line of the README's table. plan: the model's name in plans.json. passes: batch rows that share, 2 with
    guidance."""

    model: str
    page: str
    workflow: str
    plan: str
    passes: int


ROWS = (
    Row("Wan 2.1 1.3B, 832 x 480", "wan", "Wan 2.1 1.3B text to video", "Wan 2.1-1.3B 480p 81 frames", 2),
    Row(
        "Wan 2.2 A14B in 4 steps, 640 x 640",
        "wan",
        "Wan 2.2 A14B text to video in 4 steps",
        "Wan 2.2-A14B, one expert, 640x640 81 frames",
        1,
    ),
    Row("Wan 2.2 5B, 1280 x 704", "wan", "Wan 2.2 5B text to video", "Wan 2.2-5B 704x1280 121 frames", 2),
    Row("LTX-2.3, 1280 x 704", "ltx-2", "LTX-2.3 text to video", "LTX-2.3 704x1280 121 frames", 1),
    Row("MiniMax H3, 1344 x 768", "minimax-h3", "MiniMax H3 text to video", "MiniMax H3 768x1344 124 frames", 1),
)


def plan_rows() -> dict[str, Mapping[str, Any]]:
    """What bench/results/plans.json has, by the model's name."""
    found = json.loads((RESULTS / "plans.json").read_text(encoding="utf-8"))["rows"]
    return {row["model"]: row for row in found}


def gigabytes(row: Mapping[str, Any], name: str = "subject_kv_gib_all", passes: int = 1) -> str:
    """A figure of a plan in GB with one decimal."""
    return f"{passes * row[name] * 2**30 / 1e9:.1f}"


def files_take(workflow: Released) -> str:
    """The size of a workflow's files, as its note has it. Raises ValueError for a note without one."""
    for remark in workflow.remarks:
        if remark.startswith(FILES_TAKE):
            return remark.removeprefix(FILES_TAKE).rstrip(".")
    raise ValueError(f"{workflow.name}: no remark begins with '{FILES_TAKE}'")


def readme_table() -> str:
    """The README's table of models."""
    plans, released = plan_rows(), {workflow.name: workflow for workflow in RELEASED}
    lines = ["| Model and size | Files on disk | Sharing takes, beside the model |", "|---|---|---|"]
    for row in ROWS:
        extra = gigabytes(plans[row.plan], passes=row.passes)
        link = f"[{row.model}](docs/models/{row.page}.md)"
        lines.append(f"| {link} | {files_take(released[row.workflow])} | {extra} GB |")
    return "\n".join(lines)


def facts(page: Page) -> str:
    """The generated part of a page."""
    parts = [*_workflows(page.workflows), *_memory(page), *_tested(page)]
    return "\n".join([BEGIN, "", *parts, "", END])


def _workflows(workflows: Sequence[Released]) -> list[str]:
    lines: list[str] = []
    for workflow in workflows:
        rows = [
            f"| `{file.name}` | `models/{file.folder}` | [{file.repository}]({file.url}) |" for file in workflow.files
        ]
        remarks = [f"- {remark}" for remark in workflow.remarks]
        lines += [
            f"## Workflow: {workflow.name}",
            "",
            "| File | Folder | From |",
            "|---|---|---|",
            *rows,
            "",
            *remarks,
            "",
        ]
    return lines


def _memory(page: Page) -> list[str]:
    rows = [row for name, row in plan_rows().items() if page.has(name)]
    if not rows:
        return []
    cells = [f"| {row['model']} | {gigabytes(row)} | {gigabytes(row, 'kv_gib_all')} |" for row in rows]
    return [
        "## Memory",
        "",
        "Keys and values of one source segment in GB: of a subject that fills 30 % of the picture, and of the whole "
        "picture, which is what a film without a subject shares. With guidance it is twice as much, unless "
        "`share_uncond` is off. By default a film has one source segment. Calculated for sharing in all blocks, from "
        "[bench/results/plans.json](../../bench/results/plans.json).",
        "",
        "| Model | Subject, GB | Everything, GB |",
        "|---|---|---|",
        *cells,
        "",
    ]


def _tested(page: Page) -> list[str]:
    table = support_table(sorted(RESULTS.glob("families-*.json"))).splitlines()
    rows = [line for line in table[2:] if line.split("|")[2].strip() in page.families]
    return [
        "## What was tested",
        "",
        f"{page.tested} [contracts](../{COMPATIBILITY.name}#contracts).",
        "",
        *table[:2],
        *rows,
    ]


def replaced(text: str, made: str) -> str:
    """A page with its generated part replaced. Raises ValueError if it has no place for one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks the lines {BEGIN} and {END}")
    return before + made + after


def pages() -> dict[Path, str]:
    """Every page as it has to be."""
    wanted = {page.file: replaced(page.file.read_text(encoding="utf-8"), facts(page)) for page in PAGES}
    table = "\n".join([BEGIN, "", readme_table(), "", END])
    return {**wanted, README: replaced(README.read_text(encoding="utf-8"), table)}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="the facts on the pages of docs/models and in the README")
    parser.add_argument("--check", action="store_true", help="fail where a page differs instead of writing it")
    options = parser.parse_args()
    old = [file for file, text in pages().items() if file.read_text(encoding="utf-8") != text]
    if options.check and old:
        raise SystemExit(f"write these anew with bench model_pages: {', '.join(file.name for file in old)}")
    for file in old:
        file.write_text(pages()[file], encoding="utf-8")
        say(f"page: {file.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
