"""Storyboards for films on released models: those written for this pack, and files of MTVBench's or DiTCtrl's form."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import yaml

from kvshare_core.script.film import Script, ScriptBeat, ScriptError
from kvshare_core.script.parsing import parse_script
from kvshare_core.script.text_form import script_text

OWN = Path(__file__).with_name("real_storyboards.txt")
GROUP = "###"
"""The line between two storyboards, as in MTVBench's prompt file."""


@dataclass(frozen=True)
class Board:
    """One storyboard: a film of at least two prompts."""

    name: str
    script: Script

    @property
    def prompts(self) -> tuple[str, ...]:
        return tuple(beat.prompt for beat in self.script.beats)

    @property
    def text(self) -> str:
        """The film as LongVideoSegmenter reads it."""
        return script_text(self.script)

    @property
    def new_scenes(self) -> tuple[bool, ...]:
        """For every beat but the first whether a cut to another scene is before it."""
        kinds = [None if beat.transition is None else beat.transition.kind for beat in self.script.beats[1:]]
        return tuple(kind == "cut" for kind in kinds)

    def apart(self) -> "Board":
        """The same prompts without any transition."""
        beats = tuple(replace(beat, transition=None) for beat in self.script.beats)
        return replace(self, script=replace(self.script, beats=beats))


def read_boards(file: Path = OWN) -> list[Board]:
    """The storyboards of a file, in its order. A text file has one prompt per line and `###` between storyboards, each
    of which may be a whole script of docs/timeline.md; a .yaml file is a case of DiTCtrl's code. Raises ValueError
    naming the file and the storyboard that cannot be read or has fewer than two prompts."""
    if file.suffix in (".yaml", ".yml"):
        boards = [_ditctrl_case(file)]
    else:
        groups = "\n".join(file.read_text(encoding="utf-8-sig").splitlines()).split(f"\n{GROUP}\n")
        texts = [group.removeprefix(f"{GROUP}\n").removesuffix(f"\n{GROUP}") for group in groups]
        boards = [_board(file, number, text) for number, text in enumerate(texts, start=1) if text.strip(f"\n {GROUP}")]
    for board in boards:
        if len(board.prompts) < 2:
            raise ValueError(f"{file.name}: storyboard {board.name} has one prompt; a film of one has nothing to keep.")
    return boards


def _board(file: Path, number: int, text: str) -> Board:
    try:
        return Board(f"{file.stem}-{number:03}", parse_script(text))
    except ScriptError as reason:
        raise ValueError(f"{file.name}: storyboard {number}: {reason}") from None


def _ditctrl_case(file: Path) -> Board:
    """A case of DiTCtrl's repository (sat/inference_case_configs): its prompts are in `args.prompts`."""
    try:
        read: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as reason:
        raise ValueError(f"{file.name}: no YAML: {reason}") from None
    arguments = cast("dict[str, Any]", read).get("args") if isinstance(read, dict) else None
    prompts = arguments.get("prompts") if isinstance(arguments, dict) else None
    if not isinstance(prompts, list) or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise ValueError(f"{file.name}: no list of prompts in args.prompts, where cases of DiTCtrl have them.")
    return Board(file.stem, Script(tuple(ScriptBeat(prompt.strip()) for prompt in prompts)))
