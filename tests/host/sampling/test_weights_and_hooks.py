"""Sharing together with changed weights: LoRAs on the model and on one prompt, partly loaded weights, and copies of the
model on several devices."""

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.hooks
import comfy.model_management
import comfy.sd
import folder_paths
import pytest
import safetensors.torch
import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig, MaskKind, MaskSettings
from kvshare_core.host import KEY
from kvshare_core.host.conditioning.encoding import encode_timeline
from kvshare_core.host.sampling.eager import EAGER
from kvshare_core.prompt_words import PromptWords
from kvshare_core.script.film import Lora, Script, ScriptBeat
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.family_contracts import SHARED, sample
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

OFF = KVShareConfig(mode="off")
RANK = 2


@pytest.fixture(params=["wan t2v", "hunyuan video"])
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return CASES[request.param]


def lora_of(model: Any) -> dict[str, torch.Tensor]:
    """A small LoRA on every matrix of the model's blocks, in the layout of a file."""
    generator = torch.Generator().manual_seed(7)
    lora: dict[str, torch.Tensor] = {}
    for name, weight in model.model.state_dict().items():
        if "blocks." in name and name.endswith(".weight") and weight.ndim == 2:
            key = name.removesuffix(".weight")
            lora[f"{key}.lora_up.weight"] = torch.randn(weight.shape[0], RANK, generator=generator) * 0.1
            lora[f"{key}.lora_down.weight"] = torch.randn(RANK, weight.shape[1], generator=generator) * 0.1
    return lora


def with_lora(model: Any) -> Any:
    """What LoraLoaderModelOnly does."""
    return comfy.sd.load_lora_for_models(model, None, lora_of(model), 1.0, 0.0)[0]


def hooked(case: FamilyCase, timeline: Timeline, beats: tuple[int, ...]) -> list[list[Any]]:
    """The prompts, those of `beats` with a LoRA of their own."""
    hook = comfy.hooks.create_hook_lora(lora_of(model_of(case.name)), 1.0, 0.0)
    return [
        comfy.hooks.set_hooks_for_conditioning([entry], hook)[0] if number in beats else entry
        for number, entry in enumerate(case.positive(timeline))
    ]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def differs(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() > 1e-3 * other.abs().max())


def test_a_lora_acts_the_same_before_and_after_sharing(case: FamilyCase) -> None:
    timeline = tiny_timeline(2)
    model = model_of(case.name)
    plain = sample(case, share(model, timeline, SHARED)[0], timeline)
    before = sample(case, share(with_lora(model), timeline, SHARED)[0], timeline)
    after = sample(case, with_lora(share(model, timeline, SHARED)[0]), timeline)
    assert torch.equal(before, after)
    assert differs(before, plain)
    assert differs(before, sample(case, share(with_lora(model), timeline, OFF)[0], timeline))
    close(sample(case, share(model, timeline, SHARED)[0], timeline), plain)


def test_a_hook_lora_on_one_prompt_changes_its_segments_only(case: FamilyCase) -> None:
    """Without guidance the second segment is then the one of a model with that LoRA."""
    timeline = tiny_timeline(2, overlap=0)
    model = model_of(case.name)
    patched, entries = share(model, timeline, OFF)[0], hooked(case, timeline, (1,))
    shape, negative = case.shape(timeline), case.negative(timeline)
    found = Sampling(cfg=1.0).run(patched, entries, negative, shape)
    plain = sample(case, share(model, timeline, OFF)[0], timeline, cfg=1.0)
    everywhere = sample(case, share(with_lora(model), timeline, OFF)[0], timeline, cfg=1.0)
    close(found[:, :, :3], plain[:, :, :3])
    close(found[:, :, 3:], everywhere[:, :, 3:])
    assert differs(everywhere[:, :, 3:], plain[:, :, 3:])
    guided = Sampling().run(patched, entries, negative, shape)
    off = sample(case, share(model, timeline, OFF)[0], timeline)
    close(guided[:, :, :3], off[:, :, :3])
    assert differs(guided[:, :, 3:], off[:, :, 3:])


@pytest.fixture
def lora_files(case: FamilyCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's folder of LoRAs with a LoRA and a file that is none."""
    extensions = folder_paths.folder_names_and_paths["loras"][1]
    folder = tmp_path / "loras"
    folder.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", ([str(folder)], extensions))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    lora = lora_of(model_of(case.name))
    for file in (folder / "style.safetensors", tmp_path / "outside.safetensors"):
        safetensors.torch.save_file(lora, str(file))
    (folder / "broken.safetensors").write_bytes(b"no lora")


def scripted(case: FamilyCase, *loras: tuple[Lora, ...], overlap: int = 0, **script: Any) -> tuple[Timeline, Any]:
    """A plan of beats with these LoRAs, and its conditioning as LongVideoSegmenter makes it, with the case's texts."""
    beats = tuple(ScriptBeat("fox runs", loras=own) for own in loras)
    timeline = plan_timeline(Script(beats, **script), 3, overlap, fps=8, temporal_compression=4)
    seeds = {"fox runs": 10, "": 99, "common": 50}

    class Encoder:
        """A text encoder that has the case's texts for those of the script."""

        tokenizer = SimpleNamespace(locate_words=lambda text: PromptWords(("fox", "runs"), ((0, 1), (2,))))

        def tokenize(self, text: str) -> str:
            return text

        def encode_from_tokens_scheduled(self, text: str) -> list[Any]:
            tensor, extra = case.text(seeds[text], 6)
            return [[tensor, extra]]

    timeline, positive, negative = encode_timeline(Encoder(), timeline, "")
    return timeline, (positive, negative, case.shape(timeline))


@pytest.mark.usefixtures("lora_files")
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_a_lora_of_a_beat_acts_on_its_prompt_and_its_negative_prompt(case: FamilyCase, cfg: float) -> None:
    """Its segments are those of a model with that LoRA, and the other beats' those of one without."""
    timeline, inputs = scripted(case, (), (Lora("style.safetensors"),), ())
    model, run = model_of(case.name), Sampling(cfg=cfg).run
    found = run(share(model, timeline, OFF)[0], *inputs)
    assert torch.equal(run(share(model, timeline, OFF)[0], *inputs), found)
    unsaid = scripted(case, (), (), ())[1]
    plain = run(share(model, timeline, OFF)[0], *unsaid)
    everywhere = run(share(with_lora(model), timeline, OFF)[0], *unsaid)
    close(found[:, :, [0, 1, 2, 6, 7, 8]], plain[:, :, [0, 1, 2, 6, 7, 8]])
    close(found[:, :, 3:6], everywhere[:, :, 3:6])
    assert differs(found[:, :, 3:6], plain[:, :, 3:6])


@pytest.mark.usefixtures("lora_files")
def test_loras_of_a_beat_add_up_and_have_a_strength(case: FamilyCase) -> None:
    """One that takes away what the other adds leaves the model as it is; so does one of strength 0."""
    model, run = model_of(case.name), Sampling().run
    style, other = Lora("style.safetensors", 0.5), Lora("style.safetensors", -0.5)
    for loras in ((style, other), (replace(style, strength=0.0),)):
        timeline, inputs = scripted(case, (), loras)
        plain = run(share(model, timeline, OFF)[0], *scripted(case, (), ())[1])
        close(run(share(model, timeline, OFF)[0], *inputs), plain)
    timeline, inputs = scripted(case, (), (style,))
    half = comfy.sd.load_lora_for_models(model, None, lora_of(model), 0.5, 0.0)[0]
    everywhere = run(share(half, timeline, OFF)[0], *scripted(case, (), ())[1])
    close(run(share(model, timeline, OFF)[0], *inputs)[:, :, 3:], everywhere[:, :, 3:])


@pytest.mark.usefixtures("lora_files")
def test_a_lora_of_a_beat_acts_under_a_common_prompt_too(case: FamilyCase) -> None:
    style = (Lora("style.safetensors"),)
    common: dict[str, Any] = {"common_prompt": "common", "common_until": 0.4}
    timeline, inputs = scripted(case, (), style, **common)
    model, run = model_of(case.name), Sampling(steps=4).run
    unsaid = scripted(case, (), (), **common)[1]
    everywhere = run(share(with_lora(model), timeline, OFF)[0], *unsaid)
    found = run(share(model, timeline, OFF)[0], *inputs)
    close(found[:, :, 3:], everywhere[:, :, 3:])
    close(found[:, :, :3], run(share(model, timeline, OFF)[0], *unsaid)[:, :, :3])
    shared = share(model, timeline, SHARED)[0]
    assert torch.equal(run(shared, *inputs), run(shared, *inputs))
    assert differs(run(shared, *inputs), found)


@pytest.mark.usefixtures("lora_files")
def test_beats_with_the_same_loras_have_one_hook_and_no_tagged_negative(case: FamilyCase) -> None:
    style = (Lora("style.safetensors"),)
    _, (positive, negative, _) = scripted(case, style, style)
    assert len({id(extra["hooks"]) for _, extra in positive + negative}) == 1
    assert len(negative) == 1
    _, (positive, negative, _) = scripted(case, style, (), style)
    assert [extra.get("hooks") is None for _, extra in positive] == [False, True, False]
    assert [entry[1].get("hooks") for entry in positive] == [entry[1].get("hooks") for entry in negative]


@pytest.mark.usefixtures("lora_files")
@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        (
            "gone.safetensors",
            r"^prompt 2: the LoRA 'gone.safetensors' is not in models/loras\. There are broken.*style",
        ),
        ("../outside.safetensors", r"^prompt 2: the LoRA '\.\./outside.safetensors' is not in models/loras\."),
        ("broken.safetensors", r"^prompt 2: the LoRA 'broken.safetensors' cannot be read: "),
    ],
)
def test_a_lora_that_cannot_be_loaded_is_explained(case: FamilyCase, file: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        scripted(case, (), (Lora(file),))


def test_hook_loras_share(case: FamilyCase) -> None:
    """On every prompt they are the LoRA on the model; on one the run ends clean and repeats."""
    timeline = tiny_timeline(2)
    model = model_of(case.name)
    shape, negative = case.shape(timeline), case.negative(timeline)
    on_every = share(model, timeline, SHARED)[0]
    everywhere = sample(case, share(with_lora(model), timeline, SHARED)[0], timeline, cfg=1.0)
    close(Sampling(cfg=1.0).run(on_every, hooked(case, timeline, (0, 1)), negative, shape), everywhere)

    sessions: list[weakref.ref[Any]] = []
    held: list[int] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        sessions.append(weakref.ref(args[5][KEY].run))
        held.append(len(args[5][KEY].run.bank))
        return executor(*args, **kwargs)

    patched, record = share(model, timeline, SHARED)
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    entries = hooked(case, timeline, (1,))
    first = Sampling().run(patched, entries, negative, shape)
    assert max(held) > 0
    assert not any(len(session.bank) for session in (reference() for reference in sessions) if session)
    gc.collect()
    assert {session() for session in sessions} == {None}
    assert record.latest() is not None
    assert torch.equal(Sampling().run(patched, entries, negative, shape), first)
    unshared = share(model, timeline, OFF)[0]
    assert differs(first, Sampling().run(unshared, entries, negative, shape))
    assert differs(first, sample(case, share(model, timeline, SHARED)[0], timeline))


@pytest.mark.parametrize("lora", [False, True], ids=["plain", "with a lora"])
def test_weights_loaded_in_part_share_as_weights_loaded_whole(
    case: FamilyCase, lora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's path for little memory: most weights are cast, and patched, for each use."""
    timeline = tiny_timeline(2)
    model = case.build()
    patched = share(with_lora(model) if lora else model, timeline, SHARED)[0]
    whole = sample(case, patched, timeline)
    assert not model.model.model_lowvram
    comfy.model_management.unload_all_models()
    load = ModelPatcher.partially_load

    def in_part(self: Any, device: Any, extra_memory: float = 0, **kwargs: Any) -> Any:
        return load(self, device, self.model_size() // 3, **kwargs)

    monkeypatch.setattr(ModelPatcher, "partially_load", in_part)
    partly = sample(case, patched, timeline)
    assert model.model.model_lowvram
    assert model.model.model_loaded_weight_memory < model.model_size() / 2
    assert (model.model.lowvram_patch_counter > 0) == lora
    close(partly, whole)


@pytest.mark.parametrize("kind", ["contrast", "threshold"])
@pytest.mark.parametrize("first", [True, False], ids=["copies first", "sharing first"])
def test_copies_of_the_model_on_two_devices_share_as_one(case: FamilyCase, kind: MaskKind, first: bool) -> None:
    """The host evaluates prompt and negative prompt in threads of their own; both devices here are the processor."""
    pytest.importorskip("comfy.multigpu", reason="this host samples on one device")
    timeline = tiny_timeline(3)
    config = KVShareConfig(share_background=True, masks=MaskSettings(kind=kind))
    model = case.build()
    model.cached_patcher_init = (case.build, ())
    # Threshold masks are found in the prompt's forward; the negative prompt's runs beside it and goes without.
    expected = config if kind == "contrast" else replace(config, share_uncond=False)
    alone = sample(case, share(model, timeline, expected)[0], timeline, steps=3)
    patched, record = share(on_two_devices(model) if first else model, timeline, config)
    patched = patched if first else on_two_devices(patched)
    threads: dict[int, set[tuple[int, ...]]] = {}

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        threads.setdefault(threading.get_ident(), set()).add(tuple(args[5]["cond_or_uncond"]))
        return executor(*args, **kwargs)

    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
    close(sample(case, patched, timeline, steps=3), alone)
    assert len(threads) == 2 and {(0,), (1,)} == set.union(*threads.values())
    assert record.latest() is not None


def on_two_devices(model: Any) -> Any:
    """What the host's node for several devices does, with a second name of the processor."""
    split = model.clone()
    copy = model.deepclone_multigpu(new_load_device=torch.device("cpu:0"))
    copy.is_multigpu_base_clone = True
    split.set_additional_models("multigpu", [copy])
    split.match_multigpu_clones()
    return split


def test_overlapping_forwards_leave_the_compiler_as_they_found_it() -> None:
    """The stance of PyTorch holds for all threads: the first to leave must not lift it for the others."""
    compiled: list[int] = []

    def count(graph: Any, inputs: list[torch.Tensor]) -> Any:
        compiled.append(1)
        return graph.forward

    function = torch.compile(lambda tensor: tensor + 1, backend=count)
    region = EAGER
    try:
        region.__enter__()
        function(torch.zeros(2))
        region.__enter__()
        region.__exit__(None, None, None)
        function(torch.zeros(2))
        assert not compiled
        region.__exit__(None, None, None)
        function(torch.zeros(2))
        assert compiled
    finally:
        torch.compiler.reset()
