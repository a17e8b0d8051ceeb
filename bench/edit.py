"""Editing: a word of the prompt is changed, and the rest of the video should stay. And reweighting: a word that counts
more shows more.

python -m bench.edit [--scenes 32] [--models NAME ...] [--only WAY ...] [--json FILE] [--keep FILE]

Edits are of clips that the model makes itself, and of given ones, which are rendered. Columns:

    done        share of edits that show the new word; of weighed clips, share that shows the weighed word
    kept        share of the other words that are seen as in the original
    moved       how far the subject is from the original's, in frame sides
    background  how much the picture changes beside both subjects, in 0..1
    far         where a colour is weighed, how far the subject is from it, in RGB
    side        where a size is weighed, the side of a square as large as the subject, in frame sides

Each has an interval. Prompts that weigh a colour leave size and pattern open, those that weigh a size the pattern.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from devtools.environment import find_host
from kvshare_core.config import KVShareConfig

from .confidence import interval, mean
from .edit_runs import Given, Way, edit_clips, weighed_clips
from .edit_scenes import FIRST_SEED, Edit, look_at, look_at_weighed, make_edits, originals, weighed_prompt
from .form import Row, Value, make_result, pack_version, publish, show_progress
from .kept import CHANGED
from .methods import OFF, PAPER
from .pipeline import BOTH_KINDS, MODELS, Model, Pipeline, load_pipeline

SCENES, BATCH = 32, 8
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)
WEIGHED = ("colour", "size")
REWEIGHT = "reweight"
"""Name of the weighed clips among the ways."""
COLUMNS = ("done", "kept", "moved", "background", "far", "side")

PAPER_EDIT = replace(PAPER, order="lockstep", is_edit=True)
"""The paper's edit at the scale of another model."""
OURS = KVShareConfig(mode="replace", strength=1.0, position="same", end_percent=0.5, is_edit=True)
"""What docs/editing.md suggests."""

Found = dict[str, list[float]]
"""What one clip gives to each of COLUMNS."""


def ways() -> tuple[Way, ...]:
    """All ways to edit that are compared."""
    of_both = (
        Way("other noise", OFF),
        Way("one noise", OFF, noise="same"),
        Way("paper's window", PAPER_EDIT),
        Way("ours", OURS, guided=True),
        Way("ours, no subject", OURS),
        Way("ours, extend", replace(OURS, mode="extend", end_percent=1.0)),
        Way("ours, early, word twice", replace(OURS, end_percent=0.3), weight=2.0),
    )
    of_given = (
        Way("one noise, from 80 %", OFF, noise="same", given=True, denoise=0.8),
        Way("ours, from 80 %", OURS, guided=True, given=True, denoise=0.8),
        Way("ours, held to a mask", OURS, guided=True, given=True, masked=True),
    )
    return (*of_both, *(replace(way, given=True) for way in of_both), *of_given)


@dataclass(frozen=True)
class Cell:
    """A row of the table: what is made of which clips in which way."""

    model: Model
    clips: str
    way: str


class Kept:
    """What finished batches showed, in `file`, one a line, where one is named; lines of another version of the pack do
    not count, nor those of a version with changes of its own."""

    def __init__(self, file: Path | None):
        self._file, self._version = file, pack_version()
        self._found: dict[str, list[Found]] = {}
        lines = file.read_text(encoding="utf-8").splitlines() if file is not None and file.is_file() else []
        for line in lines:
            version, name, found = json.loads(line)
            if version == self._version and not version.endswith(CHANGED):
                self._found[name] = found

    def get(self, cell: Cell, first: int, make: Callable[[], list[Found]]) -> list[Found]:
        """What the batch of a cell that begins with the scene `first` shows; made where it is not kept."""
        name = f"{cell} {first}"
        if name not in self._found:
            self._found[name] = make()
            if self._file is not None:
                with self._file.open("a", encoding="utf-8") as out:
                    out.write(json.dumps([self._version, name, self._found[name]]) + "\n")
        return self._found[name]


def batches(edits: Sequence[Edit], likeness: Callable[[Edit], str]) -> list[list[Edit]]:
    """Edits that are made together: those of the same `likeness`."""
    alike: dict[str, list[Edit]] = {}
    for edit in edits:
        alike.setdefault(likeness(edit), []).append(edit)
    return [together[start : start + BATCH] for together in alike.values() for start in range(0, len(together), BATCH)]


@dataclass(frozen=True)
class Job:
    """A batch of a cell, and what makes it with a pipeline."""

    cell: Cell
    first: int
    make: Callable[[Pipeline], list[Found]]


def jobs(model: Model, scenes: int, only: Sequence[str] = ()) -> list[Job]:
    """All that is to be made with a model. only: the ways that are wanted, all for none."""
    edits, drawn = make_edits(scenes)
    videos, subjects = originals(drawn)
    found: list[Job] = []
    # Edits of the same word of their prompts can be sampled together.
    for batch in batches(edits, lambda edit: edit.swapped):
        places = [edit.place for edit in batch]
        given = Given(videos[places], subjects[places])
        for way in ways():
            if not only or way.name in only:
                cell = Cell(model, "given" if way.given else "generated", way.name)
                make = partial(_edited, way=way, batch=batch, given=given if way.given else None)
                found.append(Job(cell, places[0], make))
    for attribute in WEIGHED if not only or REWEIGHT in only else ():
        for batch in batches(edits, partial(_weighed_clips_name, attribute)):
            for weight in WEIGHTS:
                cell = Cell(model, _weighed_clips_name(attribute, batch[0]), f"weight {weight:g}")
                make = partial(_weighed, batch=batch, attribute=attribute, weight=weight)
                found.append(Job(cell, batch[0].place, make))
    return found


def _weighed_clips_name(attribute: str, edit: Edit) -> str:
    """Sizes are measured word by word: one makes the subject larger and the other smaller."""
    return f"weighed {edit.words[attribute] if attribute == 'size' else attribute}"


def measure(models: Sequence[Model], only: Sequence[str], scenes: int, kept: Kept) -> dict[Cell, list[Found]]:
    """What all clips of every cell show."""
    work: list[tuple[Model, list[Job]]] = [(model, jobs(model, scenes, only)) for model in models]
    count, done = sum(len(own) for _, own in work), 0
    found: dict[Cell, list[Found]] = {}
    for model, own in work:
        pipeline = load_pipeline(model)
        for job in own:
            made = kept.get(job.cell, job.first, partial(job.make, pipeline))
            found.setdefault(job.cell, []).extend(made)
            show_progress(done := done + 1, count, "batches")
    return found


def _edited(pipeline: Pipeline, way: Way, batch: Sequence[Edit], given: Given | None) -> list[Found]:
    films = [edit.script(way.guided, way.weight) for edit in batch]
    clips = edit_clips(pipeline, way, films, [edit.seed for edit in batch], given)
    return [_all_columns(asdict(look_at(edit, *clip))) for edit, clip in zip(batch, clips, strict=True)]


def _weighed(pipeline: Pipeline, batch: Sequence[Edit], attribute: str, weight: float) -> list[Found]:
    prompts = [weighed_prompt(edit, attribute, weight) for edit in batch]
    clips = weighed_clips(pipeline, prompts, [edit.seed for edit in batch])
    return [
        _all_columns(look_at_weighed(clip, attribute, edit.words[attribute]))
        for edit, clip in zip(batch, clips, strict=True)
    ]


def _all_columns(found: Found) -> Found:
    return {**{name: [] for name in COLUMNS}, **found}


def rows_of(found: Mapping[Cell, Sequence[Found]]) -> list[Row]:
    """One row for every cell, with intervals."""
    rows: list[Row] = []
    for cell, seen in found.items():
        row: dict[str, Value] = {**asdict(cell), "scenes": len(seen)}
        for name in COLUMNS:
            values = [one[name] for one in seen]
            row[name], row[f"{name}_ci"] = mean(values), interval(values, FIRST_SEED)
        rows.append(row)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="edits of a word, and weights of words")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=BOTH_KINDS, help="which embedded models")
    parser.add_argument("--only", nargs="+", default=(), help="names of ways, or reweight; all where none is given")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--keep", type=Path, help="keep finished batches in this file, and go on from it")
    options = parser.parse_args()
    if options.scenes < 1:
        parser.error("--scenes must be at least 1")
    found = measure(options.models, options.only, options.scenes, Kept(options.keep))
    publish(make_result("edit", FIRST_SEED, rows_of(found), find_host()), options.json)


if __name__ == "__main__":
    main()
