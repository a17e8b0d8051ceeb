"""Files of long videos load as they were saved, and a resumed run ends where the unbroken one does."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from comfy.nested_tensor import NestedTensor
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.host.files.run_files import CONTENT, SUFFIX, file_names, file_of, load, save
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plain_values import from_plain, to_plain
from kvshare_core.plan.making import make_plan
from kvshare_core.record.record import KVShareRecord, RecordedMasks
from kvshare_core.script.film import Duration, Lora, Script, ScriptBeat, Subject, Transition
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.support.family_cases import CASES, model_of
from tests.support.windows import tiny_timeline
from tests.tiny.models import Sampling

pytestmark = pytest.mark.usefixtures("folders")


def film() -> Timeline:
    """A timeline with everything that a script can say."""
    beats = (
        ScriptBeat("a fox runs", Duration(2.5), sources=("previous",)),
        ScriptBeat(
            "a fox sleeps",
            Duration(9, "frames"),
            Transition("route", Duration(1, "latent frames")),
            negative="",
            subjects=(Subject("fox", "fox", ("first", 0)),),
        ),
        ScriptBeat("night", None, Transition("cut", gap=Duration(1.0)), strength=0.5, loras=(Lora("a.safetensors"),)),
    )
    planned = plan_timeline(Script(beats, "film", subjects=(Subject("fox", "fox"),), common_prompt="x"), 4, 1, 8, 4)
    words = tiny_timeline(1).beats[0].words
    return replace(planned, beats=tuple(replace(beat, words=words) for beat in planned.beats))


def masks_of(timeline: Timeline) -> RecordedMasks:
    heat = torch.rand(1, timeline.latent_frames, 3, 3, generator=torch.Generator().manual_seed(1))
    return RecordedMasks(timeline, heat, (heat > 0.5).float())


def record_of(timeline: Timeline) -> KVShareRecord:
    record = KVShareRecord()
    record.put(masks_of(timeline), None)
    return record


def name_of(saved: tuple[str, str]) -> str:
    return "/".join(part for part in saved if part) + " [output]"


# Frozen values.


@dataclass(frozen=True)
class Odd:
    number: float
    maybe: tuple[int, str] | None
    table: dict[int, torch.Tensor]
    several: frozenset[int] = frozenset()
    added: str = "new"


@given(
    st.floats(allow_nan=False),
    st.none() | st.tuples(st.integers(), st.text()),
    st.sets(st.integers(0, 9)),
    st.sets(st.integers()),
)
def test_a_frozen_value_comes_back_from_json(number: float, maybe: Any, keys: set[int], several: set[int]) -> None:
    value = Odd(number, maybe, {key: torch.full((2,), float(key)) for key in keys}, frozenset(several))
    tensors: dict[str, torch.Tensor] = {}
    plain = json.loads(json.dumps(to_plain(value, tensors)))
    del plain["added"]
    found = from_plain(Odd, plain, tensors)
    assert (found.number, found.maybe, found.several, found.added) == (number, maybe, several, "new")
    assert found.table.keys() == keys
    assert all(torch.equal(found.table[key], value.table[key]) for key in keys)


@pytest.mark.parametrize(
    "plain", [{}, [], 3, {"number": "1", "maybe": None, "table": []}, {"number": 1.0, "maybe": [1], "table": []}]
)
def test_what_is_no_such_value_is_refused(plain: Any) -> None:
    with pytest.raises(ValueError, match="it does not hold a Odd"):
        from_plain(Odd, plain, {})


# Files.


def test_a_file_holds_the_latent_the_timeline_and_the_masks() -> None:
    timeline = film()
    latent: dict[str, Any] = {
        "samples": torch.randn(1, 16, timeline.latent_frames, 6, 6),
        "noise_mask": torch.rand(1, 1, timeline.latent_frames, 6, 6),
        "batch_index": [3],
    }
    found = load(name_of(save(file_of(timeline, latent, record_of(timeline)), "films/fox")))
    assert found.timeline == timeline
    assert torch.equal(found.latent["samples"], latent["samples"])
    assert torch.equal(found.latent["noise_mask"], latent["noise_mask"])
    assert found.latent["batch_index"] == [3]
    masks, expected = found.record.latest(), masks_of(timeline)
    assert masks is not None
    assert masks.timeline == timeline
    assert torch.equal(masks.heat, expected.heat)
    assert torch.equal(masks.mask, expected.mask)


def test_video_and_audio_are_saved_together_and_a_record_may_be_empty() -> None:
    timeline = film()
    parts = [torch.randn(1, 16, timeline.latent_frames, 6, 6), torch.randn(1, 8, 20, 16)]
    latent = {"samples": NestedTensor(parts)}
    found = load(name_of(save(file_of(timeline, latent, KVShareRecord()), "fox")))
    assert all(torch.equal(one, other) for one, other in zip(found.latent["samples"].unbind(), parts, strict=True))
    assert "noise_mask" not in found.latent
    assert found.record.latest() is None


def test_saved_files_are_listed_and_none_is_written_over(folders: Path) -> None:
    timeline = film()
    content = file_of(timeline, {"samples": torch.zeros(1, 16, timeline.latent_frames, 6, 6)}, None)
    names = [name_of(save(content, "films/fox")) for _ in range(2)]
    assert names == [f"films/fox_0000{number}_{SUFFIX} [output]" for number in (1, 2)]
    (folders / "input" / "other.safetensors").write_bytes(b"")
    (folders / "output" / f"films/fox_00001_{SUFFIX}").rename(folders / "input" / f"mine{SUFFIX}")
    assert file_names() == [f"mine{SUFFIX}", names[1]]
    assert load(f"mine{SUFFIX}").timeline == timeline


@pytest.mark.parametrize(
    "name", [f"../secret{SUFFIX}", f"../secret{SUFFIX} [output]", "other.safetensors", f"none{SUFFIX}"]
)
def test_nothing_outside_the_folders_is_read(folders: Path, name: str) -> None:
    for file in (folders / f"secret{SUFFIX}", folders / "input" / "other.safetensors"):
        safetensors.torch.save_file({"samples.0": torch.zeros(1)}, str(file))
    with pytest.raises(ValueError, match="file: there is no "):
        load(name)


NESTED = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {CONTENT: "{"},
        {CONTENT: "[]"},
        {CONTENT: '{"samples": []}'},
        {CONTENT: NESTED},
        {CONTENT: '{"timeline": ' + "[" * 900 + "]" * 900 + "}"},
        {CONTENT: '{"timeline": "' + "x" * 100_000 + '"}'},
    ],
)
def test_a_file_of_another_kind_is_refused(folders: Path, metadata: Any) -> None:
    safetensors.torch.save_file({"x": torch.zeros(1)}, str(folders / "input" / f"a{SUFFIX}"), metadata)
    (folders / "input" / f"b{SUFFIX}").write_bytes(b"no such file")
    for name in (f"a{SUFFIX}", f"b{SUFFIX}"):
        with pytest.raises(ValueError, match=r"was not written by Long Video Save") as reason:
            load(name)
        assert len(str(reason.value)) < 500


def test_a_latent_of_another_timeline_is_not_saved() -> None:
    with pytest.raises(ValueError, match="latent: it has the shape"):
        file_of(film(), {"samples": torch.zeros(1, 16, 3, 6, 6)}, None)


# Going on.


@pytest.mark.parametrize("guide", ["everything", "mask", "words"])
def test_a_resumed_run_ends_where_the_unbroken_one_does(guide: str) -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(3)
    pictures = torch.zeros(1, 6, 6)
    pictures[:, :3] = 1
    shape, texts = case.shape(timeline), (case.positive(timeline), case.negative(timeline))
    # Masks that are frozen when the run stops are those that it goes on with.
    config = KVShareConfig(share_background=True, masks=MaskSettings(freeze_after=0.0))

    def run(earlier: KVShareRecord | None = None, **options: Any) -> tuple[torch.Tensor, KVShareRecord]:
        plan = make_plan(timeline, config, "fox" if guide == "words" else "", pictures if guide == "mask" else None)
        model, record = apply(model_of(case.name), plan, earlier)
        return Sampling(steps=4).run(model, *texts, shape, **options), record

    unbroken, _ = run()
    half, record = run(last_step=2, force_full_denoise=False)
    rest: dict[str, Any] = {"noise": torch.zeros(shape), "start_step": 2, "disable_noise": True}
    straight, _ = run(record, latent=half, **rest)
    saved = load(name_of(save(file_of(timeline, {"samples": half}, record), "half")))
    resumed, _ = run(saved.record, latent=saved.latent["samples"], **rest)
    assert torch.equal(resumed, straight)
    # The host scales the latent it hands over, which rounds.
    torch.testing.assert_close(resumed, unbroken, rtol=1e-4, atol=1e-4)
    assert (half - unbroken).abs().max() > 0.1
    if guide == "words":
        forgetful, _ = run(latent=half, **rest)
        assert (forgetful - unbroken).abs().max() > 1e-3
