"""One patched MODEL that several samplers use, or one sampler with several seeds: a record tells their runs apart."""

import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy_execution.utils import CurrentNodeContext
from nodes import KSampler, KSamplerAdvanced

from kvshare_core.config import KVShareConfig
from kvshare_core.host.files.run_files import load
from kvshare_core.host.loading.model_files import EMBEDDED
from kvshare_core.record.record import KEPT_RUNS, KVShareRecord, RecordedMasks, RunOrigin, latent_digest
from tests.support.node_calls import run_node, segmenter_inputs

STEPS = 2


@dataclass
class Queue:
    """A server whose running prompt is `workflow`."""

    workflow: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def prompt_queue(self) -> Any:
        return SimpleNamespace(get_current_queue_volatile=lambda: ([(0, "prompt", self.workflow, {}, [])], []))

    client_id = None


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    found = Queue(workflow_of(a=1, b=2))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=found)))
    return found


def workflow_of(**seeds: int) -> dict[str, Any]:
    """A film and for each name a sampler with that seed, its decoded pictures, their preview and a saver of its latent,
    all of one patched model."""
    nodes: dict[str, Any] = {
        "film": {"class_type": "LongVideoSegmenter", "inputs": {"prompts": "a"}},
        "share": {"class_type": "MaskGuidedKVShare", "inputs": {"timeline": ["film", 0]}},
    }
    for name, seed in seeds.items():
        sampler = {"seed": seed, "model": ["share", 0], "positive": ["film", 1], "latent_image": ["film", 3]}
        nodes[name] = {"class_type": "KSampler", "inputs": sampler}
        nodes[f"decode {name}"] = {"class_type": "VAEDecode", "inputs": {"samples": [name, 0]}}
        shown = {"images": [f"decode {name}", 0], "record": ["share", 1], "opacity": 0.5}
        nodes[f"preview {name}"] = {"class_type": "AttentionMaskPreview", "inputs": shown}
        saved = {"latent": [name, 0], "record": ["share", 1]}
        nodes[f"save {name}"] = {"class_type": "LongVideoSave", "inputs": saved}
    return nodes


@dataclass
class Film:
    """The embedded model with one patch for all samplers of a film."""

    made: tuple[Any, ...]
    model: Any
    record: KVShareRecord

    def sample(self, node: str, seed: int, latent: Any = None, denoise: float = 1.0) -> dict[str, Any]:
        _, positive, negative, empty, _ = self.made
        with CurrentNodeContext("prompt", node), torch.inference_mode():
            return KSampler().sample(
                self.model, seed, STEPS, 1.0, "euler", "simple", positive, negative, latent or empty, denoise
            )[0]

    def preview(self, name: str) -> torch.Tensor:
        """The mask that the preview `name` shows."""
        images = torch.zeros(self.made[0].frames, 16, 16, 3)
        with CurrentNodeContext("prompt", f"preview {name}"):
            return run_node("AttentionMaskPreview", record=self.record, images=images, opacity=0.5)[1]

    def save(self, name: str, latent: dict[str, Any]) -> RecordedMasks | None:
        """What the saver `name` stores with a latent."""
        with CurrentNodeContext("prompt", f"save {name}"):
            (file,) = run_node(
                "LongVideoSave", timeline=self.made[0], latent=latent, filename_prefix="run", record=self.record
            )
        return load(file).record.latest()


def film_of(config: KVShareConfig | None = None, **inputs: Any) -> Film:
    model, clip, *_ = run_node(
        "LoadVideoDiT", diffusion_model=EMBEDDED, text_encoder=EMBEDDED, vae=EMBEDDED, weight_dtype="default"
    )
    made = run_node("LongVideoSegmenter", **segmenter_inputs(model, clip, **inputs))
    return Film(made, *run_node("MaskGuidedKVShare", model=model, timeline=made[0], subject="circle", config=config))


def without_readers(workflow: dict[str, Any]) -> dict[str, Any]:
    """The workflow without the nodes that take the record."""
    return {name: node for name, node in workflow.items() if "record" not in node["inputs"]}


def masks_of(record: KVShareRecord) -> torch.Tensor:
    masks = record.latest()
    assert masks is not None
    return masks.heat


@pytest.mark.usefixtures("folders")
def test_preview_and_file_of_a_sampler_have_its_own_masks(queue: Queue) -> None:
    film = film_of()
    latents = {"a": film.sample("a", 1)}
    first, shown = masks_of(film.record), film.preview("a")
    latents["b"] = film.sample("b", 2)
    second = masks_of(film.record)
    assert not torch.equal(first, second)
    assert torch.equal(film.preview("a"), shown) and not torch.equal(film.preview("b"), shown)
    for name, heat in (("a", first), ("b", second)):
        saved = film.save(name, latents[name])
        assert saved is not None and torch.equal(saved.heat, heat)
    # A latent is known by its numbers too, whatever the graph says.
    saved = film.save("b", {"samples": latents["a"]["samples"].clone()})
    assert saved is not None and torch.equal(saved.heat, first)


@pytest.mark.usefixtures("folders")
def test_a_cached_run_of_another_seed_keeps_its_masks(queue: Queue) -> None:
    """As with a larger cache of nodes: the host goes back to the first seed without sampling again."""
    film = film_of()
    queue.workflow = workflow_of(a=1)
    film.sample("a", 1)
    shown = film.preview("a")
    queue.workflow = workflow_of(a=2)
    film.sample("a", 2)
    assert not torch.equal(film.preview("a"), shown)
    queue.workflow = workflow_of(a=1)
    assert torch.equal(film.preview("a"), shown)


def test_a_run_that_finds_nothing_shows_nothing_of_the_run_before(queue: Queue) -> None:
    film = film_of(prompts="common: a red circle until 100%\na red circle moves right\na red circle moves up")
    film.record.put(RecordedMasks(film.made[0], torch.ones(1, film.made[0].latent_frames, 3, 3), torch.ones(1)), None)
    film.sample("a", 1)
    with pytest.raises(ValueError, match=r"^Attention Mask Preview: record: the run had a subject, but no step looked"):
        film.preview("a")
    assert film.record.latest() is None


@pytest.mark.usefixtures("folders")
def test_a_second_sampler_starts_with_the_masks_of_the_latent_that_it_goes_on_from(queue: Queue) -> None:
    """earlier_record after two runs, of which the last is not the one that is gone on from."""
    film = film_of()
    first = film.sample("a", 1)
    alone = Film(film.made, *patched(film, film.record)).sample("b", 3, first, 0.5)["samples"]
    film.sample("b", 2)
    later = Film(film.made, *patched(film, film.record)).sample("b", 3, first, 0.5)["samples"]
    assert torch.equal(later, alone)
    newest = KVShareRecord()
    newest.put(film.record.latest(), None)
    other = Film(film.made, *patched(film, newest)).sample("b", 3, first, 0.5)["samples"]
    assert not torch.equal(other, alone)


def patched(film: Film, earlier: KVShareRecord) -> tuple[Any, ...]:
    model, *_ = run_node(
        "LoadVideoDiT", diffusion_model=EMBEDDED, text_encoder=EMBEDDED, vae=EMBEDDED, weight_dtype="default"
    )
    config = KVShareConfig(mode="replace", strength=1.0)
    return run_node(
        "MaskGuidedKVShare",
        model=model,
        timeline=film.made[0],
        subject="circle",
        config=config,
        earlier_record=earlier,
    )


def test_without_a_server_the_newest_run_counts() -> None:
    film = film_of()
    film.sample("a", 1)
    film.sample("b", 2)
    assert torch.equal(film.preview("a"), film.preview("b"))


def test_a_record_keeps_the_newest_runs_and_each_once() -> None:
    record = KVShareRecord()
    latents = [torch.full((2,), float(seed)) for seed in range(KEPT_RUNS + 2)]
    for seed, latent in enumerate(latents):
        for named in (False, True):
            record.put(None, None, named and seed > 2, RunOrigin(latent_digest(latent), f"node {seed}"))
    assert not record.findings(latents[2]).named and record.findings(latents[3]).named
    # The oldest two are gone, and what is not known counts as the newest.
    assert record.findings(latents[0]).named and record.findings(nodes=["other", "node 1"]).named
    assert not record.findings(nodes=["other", "node 2", "node 3"]).named


@pytest.mark.parametrize("changes", [{"mode": "off"}, {"strength": 0.0}])
def test_a_run_that_shares_nothing_looks_for_the_subject_only_for_a_node_that_takes_its_record(
    queue: Queue, changes: dict[str, Any]
) -> None:
    film = film_of(config=KVShareConfig(**changes))
    queue.workflow = without_readers(workflow_of(a=1))
    unseen = film.sample("a", 1)["samples"]
    assert film.record.latest() is None
    with pytest.raises(ValueError, match="only if this input was connected while it was sampled"):
        film.preview("a")
    queue.workflow = workflow_of(a=1)
    assert torch.equal(film.sample("a", 1)["samples"], unseen)
    assert film.record.latest() is not None


def test_a_run_that_shares_looks_for_the_subject_whoever_takes_its_record(queue: Queue) -> None:
    film = film_of()
    queue.workflow = without_readers(workflow_of(a=1))
    film.sample("a", 1)
    assert film.record.latest() is not None


def test_a_run_that_stops_early_looks_for_the_subject_for_the_sampler_that_goes_on(queue: Queue) -> None:
    film = film_of(config=KVShareConfig(mode="off"))
    queue.workflow = without_readers(workflow_of(a=1))
    _, positive, negative, empty, _ = film.made
    with CurrentNodeContext("prompt", "a"), torch.inference_mode():
        KSamplerAdvanced().sample(
            film.model, "enable", 1, 3, 1.0, "euler", "simple", positive, negative, empty, 0, 2, "enable"
        )
    assert film.record.latest() is not None
