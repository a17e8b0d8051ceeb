"""The paper's preset equals a literal transcription of the released method over whole sampling runs."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import DITCTRL, KVShareConfig, MaskSettings
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.sampling.patch import apply
from kvshare_core.plan.making import make_plan
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.oracles.ditctrl_transcription import Text, TranscribedDiTCtrl, segment_texts
from tests.tiny.models import Sampling, joint_text, tiny_hunyuan

TOKENS = 7
STEPS = 5
WINDOW = dict(start_step=1, end_step=3, start_layer=2, end_layer=4)


@dataclass(frozen=True)
class Story:
    """Prompts and their transitions, as texts for the transcription and as a timeline for the pack."""

    prompts: tuple[Text, ...]
    timeline: Timeline
    texts: tuple[Text, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 16, self.timeline.latent_frames, 6, 6)


def story(prompts: int, transitions: int, overlap: int = 1, real: int | None = None) -> Story:
    texts = tuple(joint_text(10 + number, TOKENS, real) for number in range(prompts))
    lines = parse_script("a fox\n" * prompts)
    timeline = plan_timeline(lines, 3, overlap, 8, 4, num_transition_blocks=transitions)
    return Story(texts, timeline, tuple(segment_texts(list(texts), transitions, 0)))


def conditioning(texts: Any) -> list[Any]:
    return [[tensor, {**extra, BEAT_TAG: number}] for number, (tensor, extra) in enumerate(texts)]


def negative() -> list[Any]:
    tensor, extra = joint_text(99, 5)
    return [[tensor, dict(extra)]]


def preset(masked: bool, **changes: Any) -> KVShareConfig:
    """The preset with a window of steps and blocks that fits the tiny model."""
    places = dict(ref_token_idx=(0, 2), cur_token_idx=(1,)) if masked else {}
    masks = MaskSettings(kind="threshold", thres=0.3, **places, rim=0)
    return replace(DITCTRL, masks=masks, **{**WINDOW, **changes})


def transcription(tale: Story, masked: bool, **changes: Any) -> TranscribedDiTCtrl:
    segments = [(segment.start, text) for segment, text in zip(tale.timeline.segments, tale.texts, strict=True)]
    places = dict(use_mask=True, thres=0.3, ref_token_idx=[0, 2], cur_token_idx=[1]) if masked else {}
    return TranscribedDiTCtrl(segments, tale.timeline.window, **{**WINDOW, **changes}, **places)


def sample_both(
    model: Any, tale: Story, masked: bool, cfg: float = 3.0, **changes: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the pack and what the transcription make of the same noise."""
    noise = torch.randn(tale.shape, generator=torch.Generator().manual_seed(5))
    patched, _ = apply(model, make_plan(tale.timeline, preset(masked, **changes), "", None))
    run = Sampling(steps=STEPS, cfg=cfg).run
    found = run(patched, conditioning(tale.prompts), negative(), tale.shape, noise)
    judge = transcription(tale, masked, **changes)
    tensor, extra = tale.texts[0]
    expected = run(judge.on(model), [[tensor, dict(extra)]], negative(), tale.shape, noise)
    if masked:
        # A soft mask this close to the threshold could fall on either side by rounding alone.
        assert judge.closest_to_threshold() > 2e-5
    return found, expected


@pytest.mark.parametrize("masked", [False, True], ids=["kv-sharing", "mask-guided"])
@pytest.mark.parametrize(("prompts", "segments"), [(2, 4), (3, 7)])
def test_whole_runs_equal_the_transcription(prompts: int, segments: int, masked: bool) -> None:
    tale = story(prompts, transitions=2)
    assert len(tale.timeline.segments) == segments
    found, expected = sample_both(tiny_hunyuan(heads=2), tale, masked)
    assert (found - expected).abs().max() <= 1e-4
    unshared, _ = sample_both(tiny_hunyuan(heads=2), tale, masked=False, start_step=90, end_step=91)
    assert (found - unshared).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("overlap", "cfg", "changes"),
    [
        (2, 3.0, {}),
        (0, 3.0, {}),
        (1, 1.0, {}),
        (1, 3.0, dict(layer_idx=(0, 3))),
        (1, 3.0, dict(step_idx=(0, 4))),
        (1, 3.0, dict(start_layer=0, start_step=0)),
    ],
    ids=["much overlap", "no overlap", "no guidance", "chosen blocks", "chosen steps", "everywhere"],
)
def test_every_parameter_means_what_it_means_in_the_paper(overlap: int, cfg: float, changes: dict[str, Any]) -> None:
    found, expected = sample_both(tiny_hunyuan(), story(2, 1, overlap), masked=True, cfg=cfg, **changes)
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("heads", [1, 2])
def test_guidance_that_fits_no_batch_uses_the_masks_of_the_prompt(heads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for both, the host evaluates the negative conditioning before the prompt."""
    tale, model = story(2, 1), tiny_hunyuan(heads=heads)
    noise = torch.randn(tale.shape, generator=torch.Generator().manual_seed(5))
    tensor, extra = joint_text(99, TOKENS)
    order: list[list[int]] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        order.append(args[5]["cond_or_uncond"])
        return executor(*args, **kwargs)

    def run(patched: Any, texts: Any) -> torch.Tensor:
        seen = patched.clone()
        seen.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "look", look)
        order.clear()
        return Sampling(steps=STEPS).run(seen, texts, [[tensor, dict(extra)]], tale.shape, noise)

    judge = transcription(tale, masked=True)
    first, rest = tale.texts[0]
    expected = run(judge.on(model), [[first, dict(rest)]])
    assert judge.closest_to_threshold() > 2e-5
    plan = make_plan(tale.timeline, preset(True), "", None)
    monkeypatch.setattr(model.model, "memory_usage_factor", 1e15)
    patched, record = apply(model, plan)
    found = run(patched, conditioning(tale.prompts))
    assert {len(one) for one in order} == {1}
    assert (found - expected).abs().max() <= 1e-4
    assert record.notices() == ()


def test_no_query_attends_to_the_padding_of_a_prompt() -> None:
    found, expected = sample_both(tiny_hunyuan(), story(2, 1, real=5), masked=True)
    assert (found - expected).abs().max() <= 1e-4


def test_unshared_steps_evaluate_every_segment_once() -> None:
    tale = story(2, transitions=2)
    forwards = Counter[int]()

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        options = args[5]
        step = options["sample_sigmas"].tolist().index(float(options["sigmas"][0]))
        forwards[step] += len(options["cond_or_uncond"])
        return executor(*args, **kwargs)

    model = tiny_hunyuan().clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "count", count)
    patched, _ = apply(model, make_plan(tale.timeline, preset(masked=True), "", None))
    Sampling(steps=STEPS).run(patched, conditioning(tale.prompts), negative(), tale.shape)
    segments = len(tale.timeline.segments)
    shared = {step: 2 * (segments - 1) for step in range(WINDOW["start_step"], WINDOW["end_step"])}
    assert {step: count // 2 for step, count in forwards.items()} == {step: segments for step in range(STEPS)} | shared


def test_one_prompt_is_one_plain_run() -> None:
    tale = story(1, transitions=2)
    model = tiny_hunyuan()
    patched, _ = apply(model, make_plan(tale.timeline, preset(masked=True), "", None))
    run = Sampling(steps=2).run
    found = run(patched, conditioning(tale.prompts), negative(), tale.shape)
    assert torch.equal(found, run(model, conditioning(tale.prompts), negative(), tale.shape))
