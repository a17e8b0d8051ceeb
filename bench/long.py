"""What a beat of a long film costs, over a beat of a short one: planned, edited, sampled, saved and resumed.

python3 dev.py bench long [--rounds 3] [--json FILE] [--quick]

Films on the embedded model with the default settings, which find the subject and share it. A short film is made as
often as it takes for as many beats as the long one has, and the two take turns; ratios are medians of the rounds' own
and of processor time, on one thread.

Columns:
    film            what every beat has
    plan_ms         a script to the plan of its sharing, as the nodes make it
    editor_ms       the answer for the timeline editor while the user types, as an editor asks for it
    sampled_ms      a beat in a step after the first
    over_short      that, over the same in a film of SHORT beats
    kib             most that the tensors of a run hold beyond those of a film of SHORT beats, for every beat more
    kib_stock       the same of the segments one after the other without the pack
    kib_latent      of a beat's latent
    resumed_error   of a film that was stopped in the middle of its steps, saved, loaded and gone on with, the largest
                    difference to the same without that, over the largest value
    resumed_over    a beat in a step after the break, over one in a step before it
"""

import argparse
import gc
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kvshare_core.config import KVShareConfig
from kvshare_core.plan.forecast import ModelFacts
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline

from .form import Row, make_result, publish, show_progress
from .host_process import start_host
from .meters import StorageMeter
from .sampling import Clock

SHORT, LONG, PLANNED = 8, 256, 1000
QUICK_LONG, QUICK_PLANNED = 12, 40
STEPS, GUIDANCE = 4, 1.0
KIB = 1024
SUBJECT = "circle"
PROMPT = f"a {SUBJECT} moves right over grass"
FILMS = {
    "plain": PROMPT,
    "seconds": f"[2s] {PROMPT}",
    "cuts": f"[cut]\n{PROMPT}",
    "routes": f"[route 2f]\n{PROMPT}",
    "transitions": f"[segments 1]\n{PROMPT}",
    "subjects": f"{PROMPT} | subject: {SUBJECT}",
    "sources": f"{PROMPT} | source: previous",
    "loop": PROMPT,
}
"""By name a beat of each film that is planned."""


def script_of(film: str, beats: int) -> str:
    """The text of a film of so many beats."""
    first = FILMS[film].rpartition("]\n")[2] if film in ("cuts", "routes", "transitions") else FILMS[film]
    return "\n".join([*(["loop: yes"] if film == "loop" else []), first, *[FILMS[film]] * (beats - 1)])


def plan(text: str, window: int, named: bool) -> Timeline:
    """What the nodes make of a script before a text encoder sees it; named: whether it names its subjects itself."""
    from kvshare_core.plan.making import make_plan
    from kvshare_core.prompt_words import find_words

    timeline = plan_timeline(parse_script(text), window, 1, 8, 4)
    words = [find_words((character, (0,)) for character in beat.prompt) for beat in timeline.beats]
    beats = tuple(replace(beat, words=own) for beat, own in zip(timeline.beats, words, strict=True))
    made = make_plan(replace(timeline, beats=beats), KVShareConfig(), "" if named else SUBJECT, None)
    assert made.shares
    return made.timeline


@dataclass(frozen=True)
class Film:
    """A film of the embedded model: its patched MODEL, and what a sampler needs."""

    timeline: Timeline
    model: Any
    record: Any
    positive: Any
    negative: Any
    latent: torch.Tensor

    @property
    def beats(self) -> int:
        return len(self.timeline.beats)

    def sample(self, model: Any = None, steps: int = STEPS, **options: Any) -> torch.Tensor:
        """Samples it by the stock sampler, with the patched MODEL or another."""
        from tests.tiny.models import Sampling

        options.setdefault("latent", self.latent)
        run = Sampling(steps, GUIDANCE).run
        return run(model or self.model, self.positive, self.negative, tuple(self.latent.shape), **options)


class Films:
    """Makes films of the embedded model."""

    def __init__(self) -> None:
        from kvshare_core.host.loading.loading import load_video_model
        from kvshare_core.host.loading.model_files import EMBEDDED
        from kvshare_core.host.loading.model_info import model_info

        self.stock, self._encoder, _ = load_video_model(EMBEDDED, EMBEDDED, EMBEDDED, "default")
        _, self.info = model_info(self.stock)
        self.clock = Clock()

    def of(self, beats: int) -> Film:
        """A film of so many beats."""
        from kvshare_core.embedded.scenes import FPS, FRAME_SIDE
        from kvshare_core.host.conditioning.encoding import empty_latent, encode_timeline
        from kvshare_core.host.sampling.patch import apply
        from kvshare_core.plan.making import make_plan

        script = parse_script(script_of("plain", beats))
        planned = plan_timeline(script, self.info.native_frames, 1, FPS, self.info.compression[0])
        timeline, positive, negative = encode_timeline(self._encoder, planned, "")
        model, record = apply(self.clock.on(self.stock), make_plan(timeline, KVShareConfig(), SUBJECT, None))
        latent = empty_latent(self.info, timeline, FRAME_SIDE, FRAME_SIDE, 1)
        return Film(timeline, model, record, positive, negative, latent)


def measure_planning(film: str, beats: int, facts: ModelFacts, rounds: int) -> Row:
    """The row of a film that is only planned."""
    from kvshare_core.host.editor.live_plan import Film as Inputs
    from kvshare_core.host.editor.live_plan import Surroundings, tell

    text, named = script_of(film, beats), film == "subjects"
    around = Surroundings(facts, KVShareConfig(), "" if named else SUBJECT)
    answer = tell(Inputs(text), around)
    if answer["error"] is not None or answer["problems"] or len(answer["beats"]) != beats:
        raise ValueError(f"{film}: {answer['error'] or answer['problems'] or len(answer['beats'])}")
    return {
        **row(film, beats),
        "plan_ms": 1e3 * best(lambda: plan(text, facts.info.native_frames, named), rounds),
        "editor_ms": 1e3 * best(lambda: tell(Inputs(text), around), rounds),
    }


def row(film: str, beats: int) -> dict[str, Any]:
    """A row without figures."""
    figures = (
        "plan_ms",
        "editor_ms",
        "sampled_ms",
        "over_short",
        "kib",
        "kib_stock",
        "kib_latent",
        "resumed_error",
        "resumed_over",
    )
    return {"film": film, "beats": beats, **dict.fromkeys(figures)}


def best(run: Callable[[], object], tries: int) -> float:
    """The least processor time of several tries, without the collector, in seconds."""
    found = float("inf")
    for _ in range(tries):
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            run()
            found = min(found, time.process_time() - start)
        finally:
            gc.enable()
    return found


def measure_sampling(films: Films, long: int, rounds: int) -> list[Row]:
    """The rows of a short film and of a long one that are sampled."""
    from tests.support.windows import PlainWindows

    made = {beats: films.of(beats) for beats in (SHORT, long)}
    rows = {beats: row("plain", beats) for beats in made}
    seconds: dict[int, list[float]] = {beats: [] for beats in made}
    for _ in range(rounds):
        for beats, film in made.items():
            gc.collect()
            found: list[float] = []
            for _ in range(-(-long // beats)):
                film.sample()
                found.append(films.clock.take(STEPS).later / beats)
            seconds[beats].append(statistics.mean(found))
    peaks = {beats: peak_bytes(film) for beats, film in made.items()}
    stock = {beats: peak_bytes(film, PlainWindows(film.timeline).on(films.stock)) for beats, film in made.items()}
    latents = {beats: film.latent.nbytes for beats, film in made.items()}
    films.clock.calls.clear()
    for beats in made:
        rows[beats]["sampled_ms"] = 1e3 * statistics.median(seconds[beats])
    ratios = [one / other for one, other in zip(seconds[long], seconds[SHORT], strict=True)]
    rows[long]["over_short"] = statistics.median(ratios)
    for name, held in (("kib", peaks), ("kib_stock", stock), ("kib_latent", latents)):
        rows[long][name] = (held[long] - held[SHORT]) / (long - SHORT) / KIB
    rows[long] |= measure_resuming(films, made[long])
    return list(rows.values())


def peak_bytes(film: Film, model: Any = None) -> int:
    """The most that the tensors of a run of two steps hold, with the patched MODEL or another."""
    with StorageMeter() as meter:
        film.sample(model, steps=2)
    return meter.peak_bytes


def measure_resuming(films: Films, film: Film) -> Row:
    """The figures of a film that is stopped in the middle, saved, loaded and gone on with."""
    import folder_paths

    from kvshare_core.host.files import run_files
    from kvshare_core.host.sampling.patch import apply
    from kvshare_core.plan.making import make_plan

    whole = film.sample()
    films.clock.calls.clear()
    half = film.sample(last_step=STEPS // 2, force_full_denoise=False)
    before = films.clock.calls.pop()[0]
    with tempfile.TemporaryDirectory() as folder:
        output = folder_paths.get_output_directory()
        folder_paths.set_output_directory(folder)
        try:
            _, name = run_files.save(run_files.file_of(film.timeline, {"samples": half}, film.record), "film")
            loaded = run_files.load(f"{name} [output]")
        finally:
            folder_paths.set_output_directory(output)
    plan = make_plan(loaded.timeline, KVShareConfig(), SUBJECT, None)
    model, _ = apply(films.clock.on(films.stock), plan, loaded.record)
    films.clock.calls.clear()
    latent = loaded.latent["samples"]
    rest: dict[str, Any] = {"start_step": STEPS // 2, "disable_noise": True, "noise": torch.zeros_like(latent)}
    ended = film.sample(model, latent=latent, **rest)
    after = films.clock.calls.pop()[0]
    films.clock.calls.clear()
    error = float((ended - whole).abs().max() / whole.abs().max())
    return {"resumed_error": error, "resumed_over": after / before}


def measure_all(long: int, planned: int, rounds: int) -> list[Row]:
    """All rows."""
    from kvshare_core.plan.forecast import ModelFacts

    films = Films()
    facts = ModelFacts(films.info, 4)
    rows: list[Row] = []
    for number, film in enumerate(FILMS, start=1):
        rows += [measure_planning(film, beats, facts, rounds) for beats in (planned // 2, planned)]
        show_progress(number, len(FILMS) + 1, "films")
    rows += measure_sampling(films, long, rounds)
    show_progress(len(FILMS) + 1, len(FILMS) + 1, "films")
    return rows


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="what a beat of a long film costs, over a beat of a short one")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a film that is hardly longer, to see that it runs")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    host = start_host()
    if options.quick:
        rows = measure_all(QUICK_LONG, QUICK_PLANNED, 1)
    else:
        rows = measure_all(LONG, PLANNED, options.rounds)
    publish(make_result("long", 1, rows, host), options.json)


if __name__ == "__main__":
    main()
