"""The plan that the timeline editor shows tells how workers divide the film."""

import json
from typing import Any

import pytest

from kv_share.nodes.plan_answer import answer_for
from kvshare_core.config import KVShareConfig
from kvshare_core.host.editor.live_plan import Film, Surroundings, tell
from kvshare_core.host.loading.model_headers import facts_of

EIGHT = "\n".join(f"a fox runs {number}" for number in range(8))


def notes(workers: int | None, guided: bool = True, model: bool = True, **config: Any) -> tuple[list[str], list[str]]:
    """What the plan says of workers: notes and problems."""
    facts = facts_of("embedded") if model else None
    around = Surroundings(facts, KVShareConfig(**config), "fox", guided=guided, workers=workers)
    answer = tell(Film(EIGHT, width=96, height=96), around)
    return (
        [note for note in answer["notes"] if note.startswith("KV Share Workers")],
        [problem["message"] for problem in answer["problems"]],
    )


def test_the_split_its_evaluations_its_bytes_and_its_gain_are_told() -> None:
    facts = facts_of("embedded")
    assert facts is not None
    piece = facts.info.latent_channels * facts.info.native_frames * 12 * 12 * 4
    told, problems = notes(2)
    assert problems == []
    assert told == [
        "KV Share Workers: 5 + 4 evaluations in each step, with one process 8: 1.6 times as fast.",
        f"KV Share Workers: segments 1-5, 6-8; {(9 + 2 * 8) * piece / 2**20:.1f} MiB travel in each step.",
    ]
    assert f"{(9 + 8) * piece / 2**20:.1f} MiB" in notes(2, guided=False)[0][1]


def test_without_a_model_only_the_evaluations_are_told() -> None:
    assert notes(4, model=False)[0] == [
        "KV Share Workers: 3 + 3 + 3 + 2 evaluations in each step, with one process 8: 2.7 times as fast."
    ]


def test_nothing_is_told_without_the_node_and_no_gain_without_a_number() -> None:
    assert notes(None) == ([], [])
    (told,) = notes(0)[0]
    assert "one worker for each GPU" in told


@pytest.mark.parametrize(
    ("config", "said"), [({"sources": "previous"}, "sources to first"), ({"order": "chain"}, "order")]
)
def test_what_the_node_would_refuse_is_a_problem(config: dict[str, Any], said: str) -> None:
    told, (problem,) = notes(2, **config)
    assert told == [] and said in problem


@pytest.mark.parametrize(("workers", "count"), [(2, 1), (0, 1), ("two", 0), (-1, 0)])
def test_the_node_is_found_between_sharing_and_the_sampler(workers: Any, count: int) -> None:
    graph = {
        "1": {"class_type": "LoadVideoDiT", "inputs": {"diffusion_model": "embedded"}},
        "2": {"class_type": "LongVideoSegmenter", "inputs": {"prompts": EIGHT, "model": ["1", 0]}},
        "3": {"class_type": "MaskGuidedKVShare", "inputs": {"model": ["1", 0], "timeline": ["2", 0], "subject": "fox"}},
        "4": {"class_type": "KVShareWorkers", "inputs": {"model": ["3", 0], "workers": workers}},
        "5": {"class_type": "KSampler", "inputs": {"model": ["4", 0], "steps": 4, "cfg": 4.0}},
    }
    answer = answer_for(json.dumps({"graph": graph, "node": "2"}).encode(), lambda: None)
    found = [note for note in answer["notes"] if note.startswith("KV Share Workers")]
    assert len(found[:1]) == count
