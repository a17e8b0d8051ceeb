"""Films of storyboards with a model of yours, on a running ComfyUI: what sharing does there, beside other ways.

python3 dev.py bench real --workflow FILE --url URL [--storyboards FILE] [--json FILE]

The workflow is one of this pack's in API format (in ComfyUI: Workflow, Export (API)) with Long Video Segmenter and
Mask-Guided KV Share; its prompts and seeds are replaced, everything else stays as it is. The pictures that it is judged
by are saved as PNG in ComfyUI's output folder. docs/real_models.md tells what the figures mean and how to send them in.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from devtools import client
from devtools.environment import SetupError

from .embedder import load_embedder
from .form import Row, make_result, pack_version, publish, show_progress
from .real_boards import OWN, Board, read_boards
from .real_films import WAYS, Studio, Way, WayMissingError
from .real_scores import Eye, Seen, look_at, summary

SEED = 1
Films = dict[Way, dict[str, Seen]]


class KeptFilms:
    """What was seen of every film that is done, one a line in `file`, so that a long run can go on where it stopped.
    Lines of another version of the pack, another workflow or another eye do not count."""

    def __init__(self, file: Path | None, about: str):
        self._file = file
        self._about = about
        self._seen: dict[str, Seen] = {}
        if file is not None and file.is_file():
            for line in file.read_text(encoding="utf-8").splitlines():
                version, about_then, key, seen = json.loads(line)
                if (version, about_then) == (pack_version(), about):
                    self._seen[key] = Seen(**seen)

    def get(self, key: str) -> Seen | None:
        """What was seen of a film, None if it is not done."""
        return self._seen.get(key)

    def put(self, key: str, seen: Seen) -> None:
        """Takes in what was seen of a film."""
        self._seen[key] = seen
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as out:
                out.write(json.dumps([pack_version(), self._about, key, asdict(seen)]) + "\n")


def make_films(
    studio: Studio, boards: Sequence[Board], ways: Sequence[Way], seed: int, eye: Eye | None, kept: KeptFilms
) -> Films:
    """What was seen of the films of all storyboards in all ways. A way that the ComfyUI or the model lacks is said once
    and left out."""
    films: Films = {}
    for done, (way, board) in enumerate((way, board) for way in ways for board in boards):
        show_progress(done, len(ways) * len(boards), f"films: {board.name}, {way}")
        key = f"{way}, seed {seed}: {board.text}"
        seen = kept.get(key)
        if seen is None:
            try:
                seen = look_at(studio.make(board, way, seed), eye)
            except WayMissingError as reason:
                if board is boards[0]:
                    print(f"\n{way} is left out: {reason}", file=sys.stderr)
                continue
            kept.put(key, seen)
        films.setdefault(way, {})[board.name] = seen
    return films


def rows(films: Films, boards: Sequence[Board], eye: Eye | None) -> Iterator[Row]:
    """A row for each number of beats and each way."""
    isolated = films.get("isolated", {})
    for beats in sorted({len(board.prompts) for board in boards}):
        names = {board.name for board in boards if len(board.prompts) == beats}
        for way, seen in films.items():
            found = _of(seen, names)
            if found:
                yield {"beats": beats, "way": way, **summary(found, _of(isolated, names), eye)}


def _of(seen: Mapping[str, Seen], names: set[str]) -> dict[str, Seen]:
    return {name: one for name, one in seen.items() if name in names}


def eye_of(vision: Path | None, text: Path | None, without: bool) -> Eye | None:
    """CLIP from the user's ComfyUI; else a small open network if it is installed; else none."""
    if not without:
        from .clip_eye import find_eye

        found = find_eye(vision, text)
        if found is not None:
            return found
    try:
        embedder = load_embedder()
    except ModuleNotFoundError as missing:
        print(f"no CLIP vision model is there, and {missing}", file=sys.stderr)
        return None
    return Eye("EfficientNet-Lite0", embedder)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="films of storyboards with a model of yours, on a running ComfyUI")
    parser.add_argument("--workflow", type=Path, required=True, help="in API format")
    parser.add_argument("--url", default="http://127.0.0.1:8188", help="of the running ComfyUI (%(default)s)")
    parser.add_argument("--storyboards", type=Path, default=OWN, help="a file of yours, MTVBench's or DiTCtrl's")
    parser.add_argument("--ways", default=",".join(WAYS), help="which to compare (%(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--first", type=int, help="only that many storyboards")
    parser.add_argument("--frames", help="id of the node that makes the film's pictures, if it is not found by itself")
    parser.add_argument("--clip-vision", type=Path, help="a CLIP vision model's file")
    parser.add_argument("--clip-text", type=Path, help="the file of the same CLIP's text half")
    parser.add_argument("--no-clip", action="store_true", help="do not look for CLIP")
    parser.add_argument("--keep", type=Path, help="keep finished films here and go on where it stopped")
    parser.add_argument("--json", type=Path, help="write the results here")
    options = parser.parse_args()
    ways = [way for way in WAYS if way in options.ways.split(",")]
    try:
        boards = read_boards(options.storyboards)[: options.first]
        template = json.loads(options.workflow.read_text(encoding="utf-8"))
        studio = Studio(options.url.rstrip("/"), template, options.frames)
        eye = eye_of(options.clip_vision, options.clip_text, options.no_clip)
        name = "none" if eye is None else eye.name
        kept = KeptFilms(options.keep, f"{json.dumps(template, sort_keys=True)} seen by {name}")
        films = make_films(studio, boards, ways, options.seed, eye, kept)
    except (ValueError, OSError, client.WorkflowError, SetupError) as reason:
        parser.exit(1, f"bench real: {reason}\n")
    print(f"\nseen by {name}; storyboards of {options.storyboards.name}", file=sys.stderr)
    publish(make_result("real", options.seed, list(rows(films, boards, eye)), None), options.json)


if __name__ == "__main__":
    main()
