"""Plans of sharing for tests without a host: short scripts, and random plans for property tests."""

from dataclasses import replace

import torch
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.plan.share_plan import CastMember, SharePlan
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.record.record import SegmentMasks
from kvshare_core.script.film import Duration, Script, ScriptBeat, Source, Transition
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline

GRID = (3, 2, 2)
TOKENS = 12
FROZEN = MaskSettings(freeze_after=0.0)
SHOWN = SubjectTokens((1,), (0, 2))


def timeline_of(*beats: ScriptBeat, transitions: int = 0) -> Timeline:
    """Beats of one segment each, unless they last longer."""
    return plan_timeline(Script(beats), GRID[0], 1, 16, 4, num_transition_blocks=transitions)


def beats_of(count: int, **changes: ScriptBeat) -> list[ScriptBeat]:
    """Plain beats but for those given as `beat2=...`."""
    return [changes.get(f"beat{number}", ScriptBeat(f"prompt {number}")) for number in range(count)]


def one_subject(*tokens: SubjectTokens | None, targets: tuple[SubjectTokens, ...] = ()) -> tuple[CastMember, ...]:
    """A cast of one fox, with its tokens in every beat; without any it is what a mask covers."""
    return (CastMember("fox", tokens, target_tokens=targets),)


def random_masks(plan: SharePlan, rows: int, seed: int) -> SegmentMasks:
    """Subjects and background at random, without those that a segment does not show."""
    generator = torch.Generator().manual_seed(seed)
    masks: list[torch.Tensor] = []
    for segment in plan.timeline.segments:
        owners = torch.randint(-1, len(plan.names), (rows, TOKENS), generator=generator)
        shown = plan.shown(segment)
        masks.append(torch.stack([(owners == number) & (number in shown) for number in range(len(plan.names))]))
    return SegmentMasks(plan.names, tuple(masks))


def rules(beat: int) -> st.SearchStrategy[tuple[Source, ...] | None]:
    """What a beat may say of whom it sees."""
    known: list[tuple[Source, ...]] = [(), ("first",), ("previous",), ("first", "previous")]
    earlier: list[tuple[Source, ...]] = [(source,) for source in range(beat)]
    return st.none() | st.sampled_from([*known, *earlier, *((*rule, "previous") for rule in earlier)])


@st.composite
def share_plans(draw: st.DrawFn, subjects: int | None = None) -> SharePlan:
    """Films whose beats and subjects say of themselves what they see, how strongly and how far away."""
    count = draw(st.integers(2, 4))
    beats: list[ScriptBeat] = []
    for number in range(count):
        cut = Transition("cut", gap=draw(st.sampled_from([None, Duration(2, "latent frames")])))
        beats.append(
            ScriptBeat(
                f"prompt {number}",
                Duration(draw(st.sampled_from([3, 5])), "latent frames"),
                cut if number > 0 and draw(st.booleans()) else None,
                sources=draw(rules(number)),
                strength=draw(st.sampled_from([None, None, 0.0, 0.4, 2.0])),
            )
        )
    cast = tuple(
        CastMember(
            f"subject {number}",
            tuple(SHOWN if draw(st.integers(0, 3)) else None for _ in beats),
            tuple(draw(rules(beat)) for beat in range(count)),
        )
        for number in range(draw(st.integers(0, 3)) if subjects is None else subjects)
    )
    mode = draw(st.sampled_from(["extend", "replace", "swap"]))
    shares_subject = not cast or draw(st.integers(0, 3)) > 0
    config = KVShareConfig(
        mode=mode,
        sources=draw(st.sampled_from(["first", "previous", "first and previous"])),
        strength=draw(st.sampled_from([0.3, 1.0])),
        share_background=not shares_subject or draw(st.booleans()),
        share_subject=shares_subject,
        share_text=mode == "replace" and draw(st.booleans()),
        position=draw(st.sampled_from(["same", "gap", "frame", "centred"])),
        position_gap=1,
        layer_idx=(0, 1),
        masks=FROZEN,
    )
    plan = SharePlan(timeline_of(*beats), config, cast=cast, beat_tokens=((0, 1, 2),) * count if cast else ())
    return replace(plan, known=random_masks(plan, 2, draw(st.integers(0, 99)))) if cast else plan
