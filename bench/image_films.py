"""Films of three beats from one image: is its subject kept, are prompts followed, does a beat fall back to the image?

python -m bench.image_films [--films 32] [--steps 10] [--guidance 4] [--json FILE] [--keep FILE] [--quick]

The image is the first frame of a rendered scene, so colour and size of its subject are known. Its prompts say shape,
direction and background of every beat; the noise of a film is the same for every method. Columns:

    kept        part of the films in which all beats show the image's subject, in its colour and within 15 % of its size
    colour      the same for the colour alone
    size        and for the size alone
    adherence   part of what the prompts say that is seen
    reset       part of the later beats that begin nearer to the image's place of the subject than to where it just was
    drift       mean distance of the last beat's size from the image's, as |ln(ratio)|
    speed       way of the subject per video frame, in frame sides
"""

import argparse
import json
import math
import multiprocessing
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from devtools.environment import find_host
from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.detector import Detection, detect
from kvshare_core.embedded.scenes import FPS, FRAME_SIDE, FRAMES, Scenes, render, sample_scenes
from kvshare_core.embedded.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, SHAPES
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline

from .confidence import interval, mean
from .form import Row, make_result, publish, show_progress
from .measures import SAID, SIZE_TOLERANCE
from .pipeline import GUIDANCE, SAMPLER, SCHEDULER, HostLacksPromptsError, Pipeline, host_windows, load_pipeline
from .pipeline import without_beats as as_the_host_lists_it
from .spans import own_pictures
from .storyboards import Storyboard, make_storyboard

FILMS, QUICK_FILMS = 32, 2
FIRST_SEED = 3000
STEPS = 10
"""As few as people take."""
OVERLAP = 2
"""Latent frames that neighbouring segments share."""
LEAST_JUMP = 0.12
"""Way of a subject between two neighbouring frames, in frame sides, from which it is a jump."""

NO_SHARING = KVShareConfig(mode="off")
SHARING = KVShareConfig()
OURS: Mapping[str, KVShareConfig] = {
    "no image": replace(NO_SHARING, carry_image=False),
    "no image, shared": replace(SHARING, carry_image=False),
    "overlap": NO_SHARING,
    "overlap, shared": SHARING,
    "chain": replace(NO_SHARING, order="chain"),
    "chain, shared": replace(SHARING, order="chain"),
}
"""The pack's ways: later beats without an image, with the overlap's estimate as image, or one after the other."""
WINDOWS, LAST_FRAME = "core windows", "last frame"
"""The host's own context windows; and clips that each begin with the last frame of the one before."""
METHODS = (WINDOWS, LAST_FRAME, *OURS)
JUDGED = ("kept", "adherence", "reset")
"""Figures with an interval."""


@dataclass(frozen=True)
class Seen:
    """What one film shows; the names are those of the columns."""

    kept: list[float]
    colour: list[float]
    size: list[float]
    adherence: list[float]
    reset: list[float]
    drift: list[float]
    speed: list[float]


@dataclass(frozen=True)
class Film:
    """Prompts, and the scene whose first frame is the image."""

    board: Storyboard
    scene: Scenes

    @property
    def image(self) -> torch.Tensor:
        """[1, height, width, 3] in 0..1."""
        return render(self.scene)[0][0, 0].movedim(0, -1)[None]


def make_film(seed: int) -> Film:
    """The storyboard of that seed, and a scene that shows its first beat."""
    board = make_storyboard(seed)
    words = board.said[0]
    said = {
        "shape": SHAPES.index(words["shape"]),
        "direction": DIRECTIONS.index(words["direction"]),
        "background": BACKGROUNDS.index(words["background"]),
    }
    scene = sample_scenes(1, torch.Generator().manual_seed(seed))
    scene = replace(scene, **{name: torch.tensor([index]) for name, index in said.items()})
    # Another direction may need more room than the drawn one had.
    return Film(board, replace(scene, centre=torch.full((1, 2), 0.5)))


def look_at(film: Film, clips: Sequence[torch.Tensor]) -> Seen:
    """What the beats of a film show; clips: the own video frames of each, [f, 3, h, w] in 0..1."""
    truth = detect(render(film.scene)[0][0])
    seen = [detect(clip) for clip in clips]
    radius = truth.radius or math.nan
    ratios = [max(one.radius / radius, radius / one.radius) if one.radius else math.inf for one in seen]
    colour = all(one.colour == COLOURS[int(film.scene.colour)] for one in seen)
    size = max(ratios) <= SIZE_TOLERANCE
    said = [
        float(one.found and getattr(one, name) == words[name])
        for words, one in zip(film.board.said, seen, strict=True)
        for name in SAID
    ]
    return Seen(
        [float(colour and size)],
        [float(colour)],
        [float(size)],
        said,
        [resets(before, after, truth.centres[0]) for before, after in pairwise(seen)],
        [math.log(ratios[-1])] if math.isfinite(ratios[-1]) else [],
        [math.hypot(*one.displacement) / len(one.masks) for one in seen],
    )


def resets(before: Detection, after: Detection, start: torch.Tensor) -> float:
    """1 if the subject jumps back towards its place `start` (x, y) in the image, else 0."""
    old, new = before.centres[-1], after.centres[0]
    jump, back = float((new - old).norm()), float((new - start).norm())
    return float(jump > LEAST_JUMP and back < jump)


def make_clips(pipeline: Pipeline, method: str, film: Film, steps: int, guidance: float) -> list[torch.Tensor] | None:
    """The own video frames of every beat by one method; None where the host has not what it needs."""

    def sample(model: Any, latent: torch.Tensor, positive: Any, negative: Any) -> torch.Tensor:
        return pipeline.sample(model, latent, [film.board.seed], positive, negative, steps, guidance)

    if method == LAST_FRAME:
        return chained_clips(pipeline, film, sample)
    from kvshare_core.host.conditioning.beat_images import add_beat_images
    from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
    from kvshare_core.host.loading.model_info import model_info
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.plan.making import make_plan

    _, info = model_info(pipeline.model)
    script = parse_script("\n".join(film.board.prompts))
    timeline = plan_timeline(script, info.native_frames, OVERLAP, FPS, info.compression[0])
    timeline, positive, negative = encode_timeline(pipeline.clip, timeline, "")
    latent = empty_latent(info, timeline, FRAME_SIDE, FRAME_SIDE, 1)
    if method == WINDOWS:
        try:
            model = host_windows(pipeline.model, timeline)
        except HostLacksPromptsError:
            return None
        values = image_values(pipeline, positive, negative, film.image, timeline.frames)
        positive = [[text, {**extra, **values}] for text, extra in as_the_host_lists_it(positive)]
        negative = [[text, {**extra, **values}] for text, extra in negative]
    else:
        images = film.image, None
        positive, negative = add_beat_images(
            pipeline.model, pipeline.vae, timeline, latent, positive, negative, 1, *images
        )
        model, _ = apply(pipeline.model, make_plan(timeline, OURS[method], film.board.shape, None))
    video = pipeline.decode(sample(model, latent, positive, negative))[0]
    return [video[start:stop] for start, stop in own_pictures(timeline)]


def image_values(pipeline: Pipeline, positive: Any, negative: Any, image: torch.Tensor, frames: int) -> dict[str, Any]:
    """What the host's WanImageToVideo writes into a conditioning for a video of `frames` that begins with `image`."""
    from comfy_extras.nodes_wan import WanImageToVideo

    plain = [positive[0][0], {}]
    with_image = WanImageToVideo.execute(
        [plain], negative, pipeline.vae, FRAME_SIDE, FRAME_SIDE, frames, 1, start_image=image
    ).args[0]
    return with_image[0][1]


def chained_clips(pipeline: Pipeline, film: Film, sample: Callable[..., torch.Tensor]) -> list[torch.Tensor]:
    """A clip for every beat, each from the last frame of the one before, by the unpatched model."""
    from kvshare_core.host.conditioning.encoding import encode

    image, clips = film.image, list[torch.Tensor]()
    for prompt in film.board.prompts:
        positive, negative = encode(pipeline.clip, prompt), encode(pipeline.clip, "")
        values = image_values(pipeline, positive, negative, image, FRAMES)
        both = ([[text, {**extra, **values}] for text, extra in entries] for entries in (positive, negative))
        video = pipeline.decode(sample(pipeline.model, pipeline.empty_clip(), *both))[0]
        clips.append(video[1:] if clips else video)
        image = video[-1:].movedim(1, -1)
    return clips


@cache
def pipeline_of_process() -> Pipeline:
    """The image-to-video model of this process."""
    return load_pipeline("image-to-video")


@torch.inference_mode()
def run_task(task: tuple[str, int, int, float]) -> Seen | None:
    """Makes and measures one film: method, seed, steps, guidance."""
    torch.set_num_threads(1)
    method, seed, steps, guidance = task
    film = make_film(seed)
    clips = make_clips(pipeline_of_process(), method, film, steps, guidance)
    return None if clips is None else look_at(film, clips)


def measure(tasks: Sequence[tuple[str, int, int, float]], processes: int, keep: Path | None) -> dict[str, list[Seen]]:
    """What every method's films show; those in the file `keep` are not made again."""
    lines = keep.read_text(encoding="utf-8").splitlines() if keep is not None and keep.exists() else []
    done = {tuple(task): seen for task, seen in map(json.loads, lines)}
    waiting = [task for task in tasks if task not in done]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        for count, (task, seen) in enumerate(zip(waiting, pool.map(run_task, waiting), strict=True), start=1):
            done[task] = None if seen is None else asdict(seen)
            if keep is not None:
                with keep.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([task, done[task]]) + "\n")
            show_progress(count, len(waiting), "films")
    found: dict[str, list[Seen]] = {}
    for task in tasks:
        if done[task] is not None:
            found.setdefault(task[0], []).append(Seen(**done[task]))
    return found


def rows_of(found: Mapping[str, Sequence[Seen]], steps: int, guidance: float) -> list[Row]:
    """One row for every method; `NAME_ci` is the 95 % interval of NAME."""
    rows: list[Row] = []
    for method, films in found.items():
        row: dict[str, Any] = {"method": method, "films": len(films), "steps": steps, "guidance": guidance}
        for name in asdict(films[0]):
            values = [getattr(film, name) for film in films]
            row[name] = mean(values)
            if name in JUDGED:
                row[f"{name}_ci"] = interval(values, FIRST_SEED)
        rows.append(row)
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="films from one image: subject, prompts, resets")
    parser.add_argument("--films", type=int, default=FILMS, help="by each method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--processes", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--keep", type=Path, help="keep finished films in this file, and go on from it")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FILMS} films")
    options = parser.parse_args()
    films = QUICK_FILMS if options.quick else options.films
    if min(films, options.steps, options.processes) < 1:
        parser.error("--films, --steps and --processes must be at least 1")
    tasks = [
        (method, seed, options.steps, options.guidance)
        for method in options.methods
        for seed in range(FIRST_SEED, FIRST_SEED + films)
    ]
    found = measure(tasks, options.processes, options.keep)
    print(f"{SAMPLER}, {SCHEDULER}, {options.steps} steps, guidance {options.guidance:g}")
    rows = rows_of(found, options.steps, options.guidance)
    publish(make_result("image_films", FIRST_SEED, rows, find_host()), options.json)


if __name__ == "__main__":
    main()
