"""Subject masks over a run, against plain loops: which maps count, from which step on, never waiting for a device."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from kvshare_core.attention.log_sum_exp import LogSumExpAttention
from kvshare_core.attention.rope import embed_nd_scheme
from kvshare_core.attention.token_split import TokenSplit
from kvshare_core.bank.bank import BankEntry, BankKey, Chunk, KeyValueBank
from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.call import AttentionContext
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.plan.schedule import Role
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.script.parsing import parse_script
from kvshare_core.subject import appearance, maps
from kvshare_core.subject.strategies import MaskPass
from kvshare_core.subject.tracker import SubjectTracker
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Segment
from tests.oracles.dense_reference import dense_attention, heads_together
from tests.support.fake_family import COND, UNCOND, FakeModel, joint, self_and_cross, timeline_of
from tests.support.pretend_cuda import CUDA, pretending
from tests.support.share_plans import one_subject

GRID = (3, 2, 3)
VIDEO, TEXT = 18, 7
CPU = torch.device("cpu")
CONTRAST = MaskSettings("contrast", thres=0.5, rim=0)
FOX = SubjectTokens((1, 2), (3, 4))
REAL = (0, 1, 2, 3, 4)
SCHEME = embed_nd_scheme((4, 2, 2), 10000.0)


def plan_of(settings: MaskSettings, **values: Any) -> SharePlan:
    """Three segments that overlap by one frame, all showing one beat."""
    values = {"cast": one_subject(FOX), "beat_tokens": (REAL,), **values}
    return SharePlan(timeline_of(3, GRID[0]), KVShareConfig(masks=settings), **values)


def dense_backend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return scaled_dot_product_attention(query, key, value, enable_gqa=True)


class Watcher:
    """A tracker and the forwards that feed it. Calls are cross-attention with seeded tensors."""

    def __init__(self, plan: SharePlan, rows: int = 1, heads: tuple[int, int] = (2, 2)):
        self.plan = plan
        self.rows = rows
        self.heads = heads
        self.warnings: list[str] = []
        self.tracker = SubjectTracker(plan, self.warnings.append, 8)

    def forward(self, segment: int | Segment = 0, role: Role = "both", **values: Any) -> Forward:
        chosen = self.plan.timeline.segments[segment] if isinstance(segment, int) else segment
        batch = Batch(values.pop("chunks", (COND, UNCOND)), values.pop("prompts", 0), self.rows)
        return Forward(chosen, batch, PromptText(values.pop("text_tokens", TEXT)), GRID, role=role, **values)

    def call(self, seed: int, chunks: int = 2) -> AttentionCall:
        generator = torch.Generator().manual_seed(seed)
        shape = chunks * self.rows
        query = torch.randn(shape, self.heads[0], VIDEO, 4, generator=generator, dtype=torch.float64)
        key = torch.randn(shape, self.heads[1], TEXT, 4, generator=generator, dtype=torch.float64)
        return AttentionCall(query, key, key)

    def watch(self, forward: Forward, seed: int, block: int = 0) -> AttentionCall:
        call = self.call(seed, len(forward.batch.chunks))
        self.tracker.add_map(self.context(forward, call, CallSite(block, "cross")))
        return call

    def context(self, forward: Forward, call: AttentionCall, site: CallSite) -> AttentionContext:
        return AttentionContext(forward, call, site, dense_backend, LogSumExpAttention())

    def probabilities(self, call: AttentionCall, row: int, tokens: Sequence[int]) -> torch.Tensor:
        """What every video token of latent `row` looks at, [video, len(tokens)], mean over heads; softmax over them."""
        found = torch.zeros(VIDEO, len(tokens), dtype=torch.float64)
        for head in range(self.heads[0]):
            key = call.key[row, head * self.heads[1] // self.heads[0]]
            found += torch.softmax(call.query[row, head] @ key[list(tokens)].T / 2, -1) / self.heads[0]
        return found

    def contrast(self, call: AttentionCall, row: int, subject: SubjectTokens, tokens: Sequence[int]) -> torch.Tensor:
        found = dict(zip(tokens, self.probabilities(call, row, tokens).T, strict=True))
        score = torch.stack([found[token] for token in subject.subject]).mean(0)
        return score - torch.stack([found[token] for token in subject.others]).mean(0)


def counted(score: torch.Tensor) -> torch.Tensor:
    """The score of one block as it counts beside those of others."""
    return (score - score.mean()) / score.std(correction=0)


def above(score: torch.Tensor, threshold: float) -> list[int]:
    """Tokens whose score, scaled between its 2 % and 98 % quantiles, reaches the threshold."""
    low, high = (score.float().quantile(part) for part in (0.02, 0.98))
    return ((score.float() - low) / (high - low) >= threshold).nonzero().squeeze(1).tolist()


def frames_above(score: torch.Tensor, threshold: float, grid: tuple[int, int, int] = GRID) -> list[int]:
    """Tokens whose score, scaled between the lowest and the highest of their frame, reaches the threshold."""
    size = grid[1] * grid[2]
    chosen: list[int] = []
    for frame in range(grid[0]):
        part = score[frame * size : (frame + 1) * size].float()
        scaled = (part - part.min()) / (part.max() - part.min() + 1e-6)
        chosen += [frame * size + place for place in range(size) if scaled[place] >= threshold]
    return chosen


def subjects_of(splits: Sequence[TokenSplit] | None) -> list[list[int]] | None:
    """The subject's tokens for every latent; checks that the rest is background."""
    if splits is None:
        return None
    for split in splits:
        (subject,) = split.subjects
        for places in (subject, split.background):
            assert torch.equal(places.on_cpu, places.on_device)
        assert sorted([*subject.on_cpu.tolist(), *split.background.on_cpu.tolist()]) == list(range(VIDEO))
    return [split.subjects[0].on_cpu.tolist() for split in splits]


@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([(2, 2), (4, 2)]), st.integers(0, 99))
@settings(max_examples=25)
def test_contrast_masks_hold_from_the_next_pass_on(rows: int, calls: int, heads: tuple[int, int], seed: int) -> None:
    watcher = Watcher(plan_of(CONTRAST), rows, heads)
    known: list[list[int]] | None = None
    for number in range(3):
        watcher.tracker.begin_pass(MaskPass())
        scores = [torch.zeros(VIDEO, dtype=torch.float64) for _ in range(rows)]
        forward = watcher.forward(1)
        for block in range(calls):
            call = watcher.watch(forward, seed + 10 * number + block, block)
            for row in range(rows):
                scores[row] += counted(watcher.contrast(call, row, FOX, REAL))
            assert subjects_of(watcher.tracker.splits(forward, block, CPU)) == known
        watcher.tracker.end_pass(CPU)
        known = [above(score, 0.5) for score in scores]
        assert subjects_of(watcher.tracker.splits(watcher.forward(1), 0, CPU)) == known
        assert watcher.tracker.splits(watcher.forward(0), 0, CPU) is None


@given(st.integers(1, 2), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=15)
def test_appearance_masks_start_from_maps_and_continue_with_examples(rows: int, blocks: int, seed: int) -> None:
    settings = MaskSettings("appearance", thres=0.6, attn_map_layer_idx=(0,), rim=0, start="maps")
    watcher = Watcher(plan_of(settings), rows)
    examples: appearance.Examples | None = None
    for number in range(3):
        watcher.tracker.begin_pass(MaskPass())
        forward = watcher.forward(1)
        words, looks = (torch.zeros(1, rows, VIDEO) for _ in range(2))
        for block in range(blocks):
            own = watcher.call(seed + 50 + 10 * number + block)
            own = AttentionCall(own.query, own.query, own.query)
            watcher.tracker.add_likeness(watcher.context(forward, own, CallSite(block, "self")))
            if examples is not None:
                looks += counted_rows(
                    appearance.likeness(own.value[:rows], appearance.contrasts(appearance.example_weights(examples)))
                )
        call = watcher.watch(forward, seed + number)
        for row in range(rows):
            words[0, row] = watcher.contrast(call, row, FOX, REAL)
        watcher.tracker.end_pass(CPU)
        score = words if examples is None else looks
        expected = [above(score[0, row], 0.6) for row in range(rows)]
        assert subjects_of(watcher.tracker.splits(forward, 0, CPU)) == expected
        examples = appearance.choose_examples(counted_rows(score) + counted_rows(words))


def counted_rows(scores: torch.Tensor) -> torch.Tensor:
    """Every row's score as it counts beside others."""
    return torch.stack([torch.stack([counted(row) for row in rows]) for rows in scores])


@given(st.integers(1, 2), st.integers(0, 99))
@settings(max_examples=25)
def test_threshold_masks_belong_to_one_forward_block_by_block(rows: int, seed: int) -> None:
    watcher = Watcher(plan_of(MaskSettings(kind="threshold", thres=0.4, rim=0)), rows)
    for number in range(2):
        watcher.tracker.begin_pass(MaskPass())
        for segment in range(2):
            forward = watcher.forward(segment)
            assert watcher.tracker.splits(forward, 0, CPU) is None
            total = [torch.zeros(VIDEO, dtype=torch.float64) for _ in range(rows)]
            for block in range(3):
                call = watcher.watch(forward, seed + 100 * number + 10 * segment + block, block)
                for row in range(rows):
                    total[row] += watcher.probabilities(call, row, REAL)[:, [1, 2]].sum(1)
                found = subjects_of(watcher.tracker.splits(forward, block, CPU))
                assert found == [frames_above(score / (block + 1), 0.4) for score in total]
                assert subjects_of(watcher.tracker.splits(forward, block, CPU)) == found
        watcher.tracker.end_pass(CPU)


def test_the_unconditional_forward_behind_uses_the_masks_of_the_conditional_one() -> None:
    watcher = Watcher(plan_of(MaskSettings(kind="threshold", thres=0.5, rim=0)))
    watcher.tracker.begin_pass(MaskPass())
    conditional = watcher.forward(chunks=(COND,))
    unconditional = watcher.forward(chunks=(UNCOND,))
    watcher.watch(conditional, 1)
    found = watcher.tracker.splits(conditional, 0, CPU)
    assert found is not None
    watcher.watch(unconditional, 2)
    assert watcher.tracker.splits(unconditional, 0, CPU) is found


def test_only_rows_of_the_segments_own_prompt_are_used() -> None:
    watcher = Watcher(plan_of(CONTRAST), rows=2)
    watcher.tracker.begin_pass(MaskPass())
    forward = watcher.forward(chunks=((0, 1), UNCOND, COND))
    call = watcher.watch(forward, 3)
    watcher.tracker.end_pass(CPU)
    expected = [above(watcher.contrast(call, row, FOX, REAL), 0.5) for row in (4, 5)]
    assert subjects_of(watcher.tracker.splits(forward, 0, CPU)) == expected
    assert watcher.forward(chunks=(UNCOND, (0, 1))).batch.conditional_rows is None


@pytest.mark.parametrize("kind", ["contrast", "threshold"])
def test_targets_may_have_words_of_their_own(kind: Any) -> None:
    target = SubjectTokens((0,), (3,))
    watcher = Watcher(plan_of(MaskSettings(kind=kind, thres=0.5, rim=0), cast=one_subject(FOX, targets=(target,))))
    found: dict[str, Any] = {}
    for role, subject in (("source", FOX), ("target", target)):
        watcher.tracker.begin_pass(MaskPass())
        forward = watcher.forward(1, role)  # type: ignore[arg-type]
        call = watcher.watch(forward, 5)
        if kind == "contrast":
            watcher.tracker.end_pass(CPU)
            expected = above(watcher.contrast(call, 0, subject, REAL), 0.5)
        else:
            looks = watcher.probabilities(call, 0, REAL)
            expected = frames_above(looks[:, list(subject.subject)].sum(1), 0.5)
        found[role] = subjects_of(watcher.tracker.splits(forward, 0, CPU))
        assert found[role] == [expected]
    assert found["source"] != found["target"]


@pytest.mark.parametrize("mix", [0.0, 0.25, 0.75])
def test_a_transition_weighs_the_words_of_both_beats(mix: float) -> None:
    second = SubjectTokens((5,), (0, 6))
    tokens = (REAL, (0, 5, 6))
    timeline = plan_timeline(parse_script("a\nb"), GRID[0], 1, 16, 4, num_transition_blocks=1)
    plan = SharePlan(timeline, KVShareConfig(masks=CONTRAST), one_subject(FOX, second), tokens)
    watcher = Watcher(plan)
    watcher.tracker.begin_pass(MaskPass())
    transition = replace(timeline.segments[1], mix=mix)
    assert transition.next_beat == 1
    forward = watcher.forward(transition)
    call = watcher.watch(forward, 8)
    watcher.tracker.end_pass(CPU)
    score = (1 - mix) * watcher.contrast(call, 0, FOX, tokens[0]) + mix * watcher.contrast(call, 0, second, tokens[1])
    assert subjects_of(watcher.tracker.splits(forward, 0, CPU)) == [above(score, 0.5)]
    found = watcher.tracker.recorded()
    assert found is not None
    heat = found.heat[0, transition.start : transition.stop].flatten()
    torch.testing.assert_close(heat, maps.normalise_over_clip(score.float()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["contrast", "threshold"])
def test_masks_are_cleaned_and_frames_without_a_subject_left_out(kind: Any) -> None:
    rough, fine = (
        Watcher(plan_of(MaskSettings(kind=kind, thres=0.5, presence=presence, clean=clean, rim=0)))
        for presence, clean in ((0.0, False), (0.9, True))
    )
    found: list[torch.Tensor] = []
    for watcher in (rough, fine):
        watcher.tracker.begin_pass(MaskPass())
        forward = watcher.forward()
        call = watcher.watch(forward, 20)
        if kind == "contrast":
            watcher.tracker.end_pass(CPU)
        subjects = subjects_of(watcher.tracker.splits(forward, 0, CPU))
        assert subjects is not None
        found.append(torch.tensor([[token in subjects[0] for token in range(VIDEO)]]))
    looks = rough.probabilities(call, 0, REAL)[:, [1, 2]].sum(1)
    score = rough.contrast(call, 0, FOX, REAL) if kind == "contrast" else looks
    present = maps.drop_absent_frames(found[0], score[None], 0.9, GRID)
    assert torch.equal(found[1], maps.clean_mask(present, GRID))
    assert len({tuple(mask[0].tolist()) for mask in (found[0], present, found[1])}) == 3


def test_no_maps_are_asked_for_once_masks_are_frozen() -> None:
    watcher = Watcher(plan_of(replace(CONTRAST, freeze_after=0.5)))
    reads: list[bool] = []
    for step in range(4):
        now = MaskPass(step, 4)
        reads.append(watcher.tracker.finds_in_pass(now))
        watcher.tracker.begin_pass(now)
        if reads[-1]:
            watcher.watch(watcher.forward(), step)
        watcher.tracker.end_pass(CPU)
    assert reads == [True, True, False, False]


def test_masks_frozen_from_the_start_are_found_once() -> None:
    watcher = Watcher(plan_of(replace(CONTRAST, freeze_after=0.0)))
    assert watcher.tracker.finds_in_pass(MaskPass(3, 4))
    watcher.watch(watcher.forward(), 0)
    watcher.tracker.end_pass(CPU)
    assert not watcher.tracker.finds_in_pass(MaskPass(0, 4))


@pytest.mark.parametrize("kind", ["contrast", "threshold"])
def test_chosen_steps_and_blocks_alone_are_read(kind: Any) -> None:
    chosen = MaskSettings(kind=kind, attn_map_step_idx=(1, 3), attn_map_layer_idx=(2,))
    tracker = Watcher(plan_of(chosen)).tracker
    assert [tracker.finds_in_pass(MaskPass(step, 5)) for step in range(5)] == [False, True, False, True, False]
    assert [tracker.uses_block(0, block) for block in range(4)] == [False, False, True, False]


def test_a_users_mask_is_used_at_once_and_for_every_latent() -> None:
    pictures = (torch.rand(29, 4, 6, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    watcher = Watcher(plan_of(CONTRAST, mask=pictures), rows=2)
    assert not watcher.tracker.finds_in_pass(MaskPass(0, 4))
    for segment in watcher.plan.timeline.segments:
        first, last = watcher.plan.timeline.picture_range(segment.start, segment.stop)
        frames: list[torch.Tensor] = []
        for frame in range(segment.start, segment.stop):
            first, last = watcher.plan.timeline.picture_range(frame, frame + 1)
            frames.append(pictures[first:last].reshape(-1, 2, 2, 3, 2).mean((0, 2, 4)).flatten())
        expected = (torch.cat(frames) >= 0.5).nonzero().squeeze(1).tolist()
        found = watcher.tracker.splits(watcher.forward(segment), 0, CPU)
        assert subjects_of(found) == [expected, expected]


def test_what_is_recorded_averages_over_segments_that_overlap() -> None:
    watcher = Watcher(plan_of(CONTRAST), rows=2)
    watcher.tracker.begin_pass(MaskPass())
    heat, mask = torch.zeros(2, 7, 6), torch.zeros(2, 7, 6)
    count = torch.zeros(7)
    for segment in watcher.plan.timeline.segments:
        call = watcher.watch(watcher.forward(segment), segment.index)
        for row in range(2):
            score = watcher.contrast(call, row, FOX, REAL).float()
            low, high = (score.quantile(part) for part in (0.02, 0.98))
            normalised = ((score - low) / (high - low)).clamp(0, 1).reshape(3, 6)
            heat[row, segment.start : segment.stop] += normalised
            mask[row, segment.start : segment.stop] += (normalised >= 0.5).float()
        count[segment.start : segment.stop] += 1
    assert watcher.tracker.recorded() is None
    watcher.tracker.end_pass(CPU)
    found = watcher.tracker.recorded()
    assert found is not None
    assert found.heat.shape == found.mask.shape == (2, 7, 2, 3)
    torch.testing.assert_close(found.heat.flatten(2), heat / count[:, None], rtol=0, atol=1e-4)
    assert torch.equal(found.mask.flatten(2), (mask / count[:, None] >= 0.5).float())


def test_nothing_stays_after_clearing() -> None:
    watcher = Watcher(plan_of(CONTRAST))
    watcher.watch(watcher.forward(), 0)
    watcher.tracker.end_pass(CPU)
    assert watcher.tracker.recorded() is not None
    watcher.tracker.clear()
    assert watcher.tracker.recorded() is None
    assert watcher.tracker.splits(watcher.forward(), 0, CPU) is None
    assert watcher.tracker.finds_in_pass(MaskPass(3, 4))


@pytest.mark.parametrize(
    ("values", "named"), [({"prompts": None}, "Long Video Segmenter"), ({"text_tokens": 2}, "more")]
)
def test_a_subject_that_cannot_be_followed_is_named_and_left(values: dict[str, Any], named: str) -> None:
    watcher = Watcher(plan_of(CONTRAST))
    forward = watcher.forward(**values)
    watcher.watch(forward, 0)
    watcher.tracker.end_pass(CPU)
    assert watcher.tracker.splits(forward, 0, CPU) is None
    assert len(watcher.warnings) == 1 and named in watcher.warnings[0]


def test_tokens_stay_in_a_mask_until_they_fall_below_by_the_hysteresis() -> None:
    plain, slow = (Watcher(plan_of(replace(CONTRAST, hysteresis=part))) for part in (0.0, 0.3))
    found: list[list[set[int]]] = []
    scores: list[torch.Tensor] = []
    for number in range(2):
        for watcher in (plain, slow):
            watcher.tracker.begin_pass(MaskPass())
            call = watcher.watch(watcher.forward(), 20 + number)
            watcher.tracker.end_pass(CPU)
        scores.append(plain.contrast(call, 0, FOX, REAL))
        splits = [subjects_of(watcher.tracker.splits(watcher.forward(), 0, CPU)) for watcher in (plain, slow)]
        found.append([set(split[0]) for split in splits if split])
    assert found[0][0] == found[0][1]
    kept = found[0][0] & set(above(scores[1], 0.2))
    assert found[1][1] == found[1][0] | kept
    assert found[1][1] != found[1][0]


class Entries(KeyValueBank):
    """Remembers every entry."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[BankKey, BankEntry] = {}

    def put(self, key: BankKey, entry: BankEntry, consumers: int) -> None:
        self.entries[key] = entry
        super().put(key, entry, consumers)


@pytest.mark.parametrize("chunks", [(COND, UNCOND), (UNCOND, COND)])
@pytest.mark.parametrize("overridden", [False, True])
@pytest.mark.parametrize("video_start", [0, 4])
def test_threshold_masks_of_a_joint_model_are_those_of_the_whole_softmax(
    video_start: int, overridden: bool, chunks: tuple[Chunk, ...]
) -> None:
    """As DiTCtrl computes them: explicit probabilities over video and text, of this block and those before."""
    grid = (3, 2, 2)
    config = KVShareConfig(
        masks=MaskSettings(kind="threshold", thres=0.4, rim=0), layer_idx=(1, 2), share_background=True
    )
    subject = SubjectTokens((1, 2), ())
    plan = SharePlan(timeline_of(2, grid[0]), config, one_subject(subject))
    text_start = 12 if video_start == 0 else 0
    sites = joint(3, video_start, text_start)
    model = FakeModel(plan, sites, grid, outside=4, text_tokens=4, heads=(4, 2))
    model.chunks, model.overridden = chunks, overridden
    hidden = torch.zeros(16, dtype=torch.float64)
    hidden[text_start + 3] = torch.finfo(torch.float64).min
    model.masks = {COND: hidden, UNCOND: hidden}
    session = model.session()
    bank = Entries()
    session.use_bank(bank)
    results = model.run_pass(session)
    total = torch.zeros(12, dtype=torch.float64)
    for block in range(3):
        query, key, value = model.tensors(0, "both", block, COND, 0)
        scores = query @ key.repeat_interleave(2, 1).transpose(-1, -2) / 2 + hidden
        looks = scores.softmax(-1).mean(1)[0]
        video = slice(video_start, video_start + 12)
        total += looks[video, text_start + 1 : text_start + 3].sum(1)
        if block in config.layer_idx:
            for chunk in (COND, UNCOND):
                entry = bank.entries[BankKey(0, block, chunk, 0)]
                assert entry.subjects[0].tokens.tolist() == frames_above(total / (block + 1), 0.4, grid)
        # Nothing is shared with the first segment: its outputs are ordinary attention, whoever computed them.
        ordinary = dense_attention(query, key, value, bias=hidden)
        torch.testing.assert_close(heads_together(results[0][1][COND, 0][block]), ordinary, rtol=0, atol=1e-10)
    assert session.shared_calls == 4


@pytest.mark.parametrize("position", ["same", "gap", "frame", "matched", "centred"])
@pytest.mark.parametrize("shape", ["cross", "joint"])
def test_following_a_contrasted_subject_never_waits_inside_a_forward(shape: str, position: Any) -> None:
    grid = (3, 2, 2)
    config = KVShareConfig(
        masks=replace(CONTRAST, presence=0.2, clean=True, hysteresis=0.1),
        share_background=True,
        strength=0.5,
        position=position,
        position_gap=2,
    )
    plan = SharePlan(timeline_of(3, grid[0]), config, one_subject(FOX), (REAL,))
    sites, outside = (self_and_cross(2), 0) if shape == "cross" else (joint(2, 7, 0), 7)
    model = FakeModel(plan, sites, grid, outside=outside, text_tokens=7, head_dim=8, device=str(CUDA), scheme=SCHEME)
    session = model.session()
    attend, end_pass = session.attend, session.end_pass
    inside, between = Counter[str](), Counter[str]()
    with pretending() as device, device:

        def watched_attend(*args: Any) -> Any:
            found: list[Any] = []
            inside.update(device.waits_of(lambda: found.append(attend(*args))))
            return found.pop()

        session.attend = watched_attend  # type: ignore[method-assign]
        session.end_pass = lambda: between.update(device.waits_of(end_pass))  # type: ignore[method-assign]
        model.run_pass(session, step=0)
        assert between == {"copy to the CPU": 1}
        assert session.shared_calls == 0
        assert not inside
        model.run_pass(session, step=1)
        assert session.shared_calls > 0
        # Kernels that are new to this process are tried once.
        inside.clear()
        model.run_pass(session, step=2)
        assert between == {"copy to the CPU": 3}
        assert not inside
