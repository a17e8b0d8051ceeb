"""A session, driven call by call as a host does it: what comes out, what the bank holds and when."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvshare_core.attention.rope import embed_nd_scheme, rotate
from kvshare_core.bank.bank import BankEntry, BankKey, Chunk, KeyValueBank
from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.plan.bank_size import bank_uses, kept_tokens, predict_bytes
from kvshare_core.plan.schedule import Evaluation
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.prompt_words import SubjectTokens
from kvshare_core.session import call_sharing
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.subject import strategies as subject_module
from tests.oracles.dense_reference import Tokens, dense_attention, heads_together, joint_sharing_bias
from tests.support.fake_family import (
    COND,
    SIGMAS,
    UNCOND,
    FakeModel,
    Outputs,
    joint,
    self_and_cross,
    self_only,
    timeline_of,
)
from tests.support.share_plans import one_subject

GRID = (3, 2, 2)
HIDDEN = torch.finfo(torch.float64).min
SECOND_PROMPT = (0, 1)
Kept = dict[tuple[int, int, Chunk, int], tuple[torch.Tensor, torch.Tensor]]
"""Keys and values by segment, call, chunk and latent."""


def picture_mask(seed: int = 0) -> torch.Tensor:
    """A user's mask that falls differently on every segment: [1, 2, 2] would be the same in all, so one per frame."""
    return (torch.rand(41, 2, 2, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def subject_of(plan: SharePlan, segment: int, grid: tuple[int, int, int]) -> torch.Tensor | None:
    """The user's mask on the tokens of a segment, found picture by picture."""
    if plan.mask is None:
        return None
    start = plan.timeline.segments[segment].start
    found: list[torch.Tensor] = []
    for frame in range(start, start + grid[0]):
        first, last = plan.timeline.picture_range(frame, frame + 1)
        found.append(plan.mask[first:last].mean(0).flatten() >= 0.5)
    return torch.cat(found)


def expected_outputs(
    model: FakeModel,
    results: Sequence[tuple[Evaluation, Outputs]],
    as_seen: Callable[[torch.Tensor], torch.Tensor] = lambda key: key,
    kept: Kept | None = None,
    keeps: bool = True,
) -> list[Outputs]:
    """What a pass should give, from one dense matrix of biases per latent and call; `as_seen` is what later segments
    find of a segment's keys. kept: what was there before, to which the pass adds its own where it `keeps` them."""
    plan, config = model.plan, model.plan.config
    kept = {} if kept is None else kept
    expected: list[Outputs] = []
    frame_tokens = model.grid[1] * model.grid[2]
    for evaluation, outputs in results:
        segment, here = evaluation.segment.index, Outputs()
        for chunk, row in outputs:
            here[chunk, row] = []
            for number, site in enumerate(model.sites):
                query, key, value = model.tensors(segment, evaluation.role, number, chunk, row)
                video = range(site.video_start, site.video_start + model.video_tokens)
                hidden = model.masks[chunk] == HIDDEN if model.masks else None
                soft = model.masks[chunk].masked_fill(hidden, 0) if hidden is not None else None

                def tokens_of(index: int) -> Tokens:
                    return Tokens(key.shape[2], video, subject_of(plan, index, model.grid), hidden, soft)  # noqa: B023

                takes_part = (
                    site.block in config.layer_idx
                    and evaluation.role != "plain"
                    and (config.share_uncond or chunk[0] == model.prompts)
                )
                reads = takes_part and evaluation.role in ("both", "target")
                sources = [index for index in plan.sources(segment) if (index, number, chunk, row) in kept and reads]
                pairs = [(key, value), *(kept[index, number, chunk, row] for index in sources)]
                bias = joint_sharing_bias(
                    config, config.strength, tokens_of(segment), [tokens_of(index) for index in sources], frame_tokens
                )
                keys, values = (torch.cat(tensors, 2) for tensors in zip(*pairs, strict=True))
                here[chunk, row].append(dense_attention(query, keys, values, bias=bias))
                if keeps and takes_part and evaluation.role in ("both", "source"):
                    kept[segment, number, chunk, row] = as_seen(key), value
        expected.append(here)
    return expected


def assert_as_expected(
    model: FakeModel,
    results: Sequence[tuple[Evaluation, Outputs]],
    as_seen: Callable[[torch.Tensor], torch.Tensor] = lambda key: key,
    kept: Kept | None = None,
    keeps: bool = True,
) -> None:
    for (_, found), expected in zip(results, expected_outputs(model, results, as_seen, kept, keeps), strict=True):
        assert found.keys() == expected.keys()
        for place, calls in found.items():
            for one, other in zip(calls, expected[place], strict=True):
                torch.testing.assert_close(heads_together(one), other, rtol=0, atol=1e-10)


def assert_same(one: Sequence[tuple[Evaluation, Outputs]], other: Sequence[tuple[Evaluation, Outputs]]) -> None:
    for (_, first), (_, second) in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for place in first:
            for left, right in zip(first[place], second[place], strict=True):
                torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


class WatchedBank(KeyValueBank):
    """Remembers what was asked of it, in order; also to fetch what it has on the device."""

    moves = True

    def __init__(self, bank: KeyValueBank):
        super().__init__(bank.memory)
        self.log: list[tuple[str, BankKey]] = []
        self.entries: dict[BankKey, BankEntry] = {}
        self.prefetched: list[list[BankKey]] = []

    def put(self, key: BankKey, entry: BankEntry, consumers: int | None) -> None:
        self.log.append(("put", key))
        self.entries[key] = entry
        super().put(key, entry, consumers)

    def get(self, key: BankKey) -> BankEntry | None:
        self.log.append(("get", key))
        return super().get(key)

    def prefetch(self, keys: Sequence[BankKey]) -> None:
        self.prefetched.append(list(keys))
        super().prefetch(keys)


def watch_bank(session: SamplingRun) -> WatchedBank:
    """Puts a watched bank in place of the session's own."""
    bank = WatchedBank(session.bank)
    session.use_bank(bank)
    return bank


def masks_of(outside: range, length: int, kind: str) -> dict[Chunk, torch.Tensor]:
    """An additive mask for every chunk that hides keys outside the video, the same or other ones in every chunk."""
    masks: dict[Chunk, torch.Tensor] = {}
    for number, chunk in enumerate((COND, SECOND_PROMPT, UNCOND)):
        mask = torch.zeros(length, dtype=torch.float64)
        hidden = 1 if kind == "same" else number
        mask[list(outside)[:hidden]] = HIDDEN
        if kind == "soft":
            mask[list(outside)[-1]] = -0.75
        masks[chunk] = mask
    return masks


@st.composite
def models(draw: st.DrawFn) -> FakeModel:
    """Models and plans over every switch that changes who sees what in a pass."""
    shape = draw(st.sampled_from(["self", "text first", "text last", "reference first"]))
    mode = draw(st.sampled_from(["extend", "replace", "swap"]))
    order = draw(st.sampled_from(["lockstep", "ditctrl"]))
    config = KVShareConfig(
        mode=mode,
        order=order,
        strength=draw(st.sampled_from([0.3, 1.0, 3.0])),
        sources=draw(st.sampled_from(["first", "previous", "first and previous"])),
        layer_idx=draw(st.sampled_from([(1,), (0, 1)])),
        share_background=draw(st.booleans()),
        share_uncond=draw(st.booleans()),
        share_text=mode == "replace" and draw(st.booleans()),
        position=draw(st.sampled_from(["same", "frame"])),
    )
    mask = picture_mask(draw(st.integers(0, 9))) if draw(st.booleans()) else None
    plan = SharePlan(
        timeline_of(draw(st.integers(1, 4)), GRID[0]), config, () if mask is None else one_subject(), mask=mask
    )
    outside = {"self": 0, "text first": 4, "text last": 4, "reference first": 6}[shape]
    start = {"self": 0, "text first": 4, "text last": 0, "reference first": 2}[shape]
    sites = self_only(2) if shape == "self" else joint(2, start, {"text first": 0}.get(shape, start + 12))
    masks: dict[Chunk, torch.Tensor] = {}
    kind = draw(st.sampled_from(["none", "same", "per chunk", "soft"]))
    if outside and kind != "none":
        texts = range(4) if shape == "text first" else range(start + 12, outside + 12)
        masks = masks_of(texts, 12 + outside, kind)
    return FakeModel(
        plan,
        sites,
        GRID,
        rows=draw(st.integers(1, 2)),
        outside=outside,
        text_tokens=4 if outside else 5,
        chunks=draw(st.sampled_from([(COND,), (COND, UNCOND), (UNCOND, COND), (COND, SECOND_PROMPT, UNCOND)])),
        heads=draw(st.sampled_from([(2, 2), (2, 1)])),
        masks=masks,
    )


@given(models())
@settings(max_examples=40)
def test_later_stages_attend_to_the_last_keys_of_a_source(model: FakeModel) -> None:
    model.plan = replace(model.plan, config=replace(model.plan.config, order="sources_first"))
    session = model.session()
    kept: Kept = {}
    held = (0, 0)
    for number, segments in enumerate(session.stages.all):
        if number > 0:
            session.next_stage()
        last = not session.stages.early
        for step in (0, 1):
            results = model.run_pass(session, step=step)
            assert {evaluation.segment.index for evaluation, _ in results} == segments
            assert_as_expected(model, results, kept=kept, keeps=not last)
        if not last:
            held = (len(session.bank), session.bank.held_bytes)
    # The last stage adds nothing: nobody comes after it.
    assert (len(session.bank), session.bank.held_bytes) == held
    assert (session.shared_calls > 0) == session.stages.has_early_stages
    assert (len(session.bank) > 0) == session.stages.has_early_stages
    session.close()
    assert (len(session.bank), session.bank.held_bytes) == (0, 0)


def test_passes_perturbed_by_guidance_leave_nothing_for_later_stages() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(order="sources_first", layer_idx=(0,)))
    model = FakeModel(plan, self_only(1), GRID)
    session, kept = model.session(), Kept()
    assert_as_expected(model, model.run_pass(session, step=1), kept=kept)
    perturbed = FakeModel(plan, self_only(1), GRID, step=7)
    for evaluation in session.begin_pass(SIGMAS[1], SIGMAS):
        perturbed.forward(session, evaluation, model.chunks)
    session.end_pass()
    session.next_stage()
    assert_as_expected(model, model.run_pass(session, step=1), kept=kept, keeps=False)
    assert session.shared_calls > 0


@given(models(), st.sampled_from(["together", "apart", "apart, reversed"]))
@settings(max_examples=70)
def test_a_pass_equals_the_dense_reference_however_the_host_batches_it(model: FakeModel, batching: str) -> None:
    session = model.session()
    batches: dict[str, list[tuple[Chunk, ...]]] = {
        "together": [model.chunks],
        "apart": [(chunk,) for chunk in model.chunks],
        "apart, reversed": [(chunk,) for chunk in reversed(model.chunks)],
    }
    results = model.run_pass(session, batches[batching])
    assert_as_expected(model, results)
    assert (len(session.bank), session.bank.held_bytes) == (0, 0)
    assert model.warnings == []
    expects_sharing = len(model.plan.timeline.segments) > 1
    assert expects_sharing or session.shared_calls == 0


@pytest.mark.parametrize("order", ["lockstep", "sources_first", "ditctrl"])
@pytest.mark.parametrize("sources", ["first", "previous", "first and previous"])
@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("extras", [{}, {"share_background": True}, {"share_text": True, "mode": "replace"}])
@pytest.mark.parametrize("share_uncond", [True, False])
def test_the_bank_peaks_where_predicted(
    order: Any, sources: Any, guided: bool, extras: dict[str, Any], share_uncond: bool
) -> None:
    config = KVShareConfig(order=order, sources=sources, share_uncond=share_uncond, layer_idx=(0, 2), **extras)
    cast, mask = (one_subject(), picture_mask()) if guided else ((), None)
    plan = SharePlan(timeline_of(4, GRID[0]), config, cast, mask=mask)
    model = FakeModel(plan, joint(3, 0, 12), GRID, rows=2, outside=4, text_tokens=4, heads=(2, 1), dtype=torch.float16)
    session = model.session()
    model.run_stages(session)

    masks = [subject_of(plan, segment, GRID) for segment in range(4)]
    counts = [kept_tokens(config, guided, 12, 12 if mask is None else int(mask.sum()), 4) for mask in masks]
    evaluations = bank_uses(plan, counts)
    predicted = predict_bytes(evaluations, 2, 4 if share_uncond else 2, 1, 4, 2, config.memory)
    assert predicted > 0
    assert session.bank.peak_bytes == predicted


def test_every_latent_is_read_before_its_own_keys_are_written() -> None:
    plan = SharePlan(timeline_of(3, GRID[0]), KVShareConfig(sources="previous"))
    model = FakeModel(plan, self_only(1), GRID, rows=2)
    session = model.session()
    bank = watch_bank(session)
    model.run_pass(session)
    middle = [(kind, (key.chunk, key.row)) for kind, key in bank.log[4:12]]
    latents = [(chunk, row) for row in range(2) for chunk in (COND, UNCOND)]
    assert middle == [(kind, latent) for latent in latents for kind in ("get", "put")]


def test_keys_are_fetched_ahead_for_the_next_shared_block_only() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(layer_idx=(0, 2, 3)))
    model = FakeModel(plan, self_only(5), GRID)
    session = model.session()
    bank = watch_bank(session)
    model.run_pass(session)
    ahead = [sorted({key.block for key in keys}) for keys in bank.prefetched if keys]
    assert ahead == [[0], [2], [3]]
    assert all(key.segment == 0 for keys in bank.prefetched for key in keys)


def test_all_chunks_of_one_latent_go_through_one_call() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig())
    model = FakeModel(plan, self_only(1), GRID, rows=2)
    model.run_pass(model.session())
    assert model.backend_calls == [(2, 24), (2, 24)]


@pytest.mark.parametrize("missing", [(0, COND), (0, UNCOND), (1, COND)])
def test_where_a_source_is_missing_the_rest_is_shared(missing: tuple[int, Chunk]) -> None:
    config = KVShareConfig(sources="first and previous", layer_idx=(0, 1))
    plan = SharePlan(timeline_of(3, GRID[0]), config, one_subject(), mask=picture_mask())
    model = FakeModel(plan, self_only(2), GRID, skip=frozenset([missing]))
    session = model.session()
    assert_as_expected(model, model.run_pass(session))
    assert len(session.bank) == 0
    assert session.shared_calls > 0


def test_without_share_uncond_only_the_prompts_rows_change() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(share_uncond=False))
    model = FakeModel(plan, self_only(1), GRID)
    plain = FakeModel(replace(plan, config=KVShareConfig(mode="off")), self_only(1), GRID)
    shared = model.run_pass(model.session())[1][1]
    alone = {place: calls for place, calls in plain_pass(plain, "both")[1][1].items()}
    assert torch.equal(shared[UNCOND, 0][0], alone[UNCOND, 0][0])
    assert not torch.allclose(shared[COND, 0][0], alone[COND, 0][0])


def plain_pass(model: FakeModel, role: Any) -> list[tuple[Evaluation, Outputs]]:
    """The segments evaluated without a session that does anything, with the tensors of evaluations of `role`."""
    session = model.session()
    evaluations = [replace(evaluation, role=role) for evaluation in session.begin_pass(1.0, SIGMAS)]
    return [(evaluation, model.forward(session, evaluation, model.chunks)) for evaluation in evaluations]


@pytest.mark.parametrize(
    "config", [KVShareConfig(mode="off"), KVShareConfig(strength=0.0), KVShareConfig(step_idx=(3,))]
)
def test_what_does_not_share_never_touches_a_call(config: KVShareConfig) -> None:
    model = FakeModel(SharePlan(timeline_of(3, GRID[0]), config), self_only(1), GRID)
    session = model.session()
    bank = watch_bank(session)
    model.run_pass(session)
    assert (model.backend_calls, bank.log, session.shared_calls) == ([], [], 0)


def test_tokens_are_split_once_per_segment_or_forward(monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def counting(mask: torch.Tensor, device: Any = "cpu") -> Any:
        counted.append(1)
        return split_tokens(mask, device)

    split_tokens = subject_module.split_tokens
    monkeypatch.setattr(subject_module, "split_tokens", counting)
    monkeypatch.setattr(call_sharing, "split_tokens", counting)
    timeline = timeline_of(3, GRID[0])
    for plan, wanted in (
        (SharePlan(timeline, KVShareConfig(), one_subject(), mask=picture_mask()), 3),
        (SharePlan(timeline, KVShareConfig(position="frame")), 6),
    ):
        counted.clear()
        model = FakeModel(plan, self_only(4), GRID, rows=2)
        session = model.session()
        model.run_pass(session, step=0)
        model.run_pass(session, step=1)
        assert len(counted) == wanted


def test_layouts_may_differ_from_block_to_block() -> None:
    sites = [CallSite(0, "joint", 4, 0), CallSite(1, "joint", 0, 12)]
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(layer_idx=(0, 1)))
    model = FakeModel(plan, sites, GRID, outside=4, text_tokens=4)
    assert_as_expected(model, model.run_pass(model.session()))


def test_a_mask_that_changes_within_a_forward_is_read_again() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(strength=0.5))
    model = FakeModel(plan, joint(2, 4, 0), GRID, outside=4, text_tokens=4)
    session = model.session()
    evaluations = session.begin_pass(1.0, SIGMAS)
    for evaluation in evaluations:
        forward = model.open_forward(session, evaluation, (COND,))
        assert forward is not None
        for number in range(2):
            query, key, value = model.tensors(evaluation.segment.index, "both", number, COND, 0)
            hidden = torch.arange(16) == number
            mask = torch.zeros(16, dtype=torch.float64).masked_fill(hidden, HIDDEN)
            found = session.attend(forward, AttentionCall(query, key, value, mask), model.backend)
            if evaluation.segment.index == 0:
                assert found is None
                continue
            _, source_key, source_value = model.tensors(0, "both", number, COND, 0)
            own, source = Tokens(16, range(4, 16), hidden=hidden), Tokens(16, range(4, 16), hidden=hidden)
            bias = joint_sharing_bias(plan.config, 0.5, own, [source])
            expected = dense_attention(
                query, torch.cat([key, source_key], 2), torch.cat([value, source_value], 2), bias=bias
            )
            assert found is not None
            torch.testing.assert_close(heads_together(found), expected, rtol=0, atol=1e-10)


def odd_masks() -> dict[str, torch.Tensor]:
    """Masks that say more than which text nobody sees."""
    video = torch.zeros(1, 1, 1, 16, dtype=torch.float64)
    video[..., 5] = HIDDEN
    return {
        "differs from query to query": torch.zeros(16, 16),
        "hides video": video,
        "has a row for every head": torch.zeros(4, 1, 16),
    }


@pytest.mark.parametrize("mask", odd_masks().values(), ids=odd_masks().keys())
def test_a_mask_that_is_not_understood_leaves_the_call_alone_with_one_warning(mask: torch.Tensor) -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig())
    model = FakeModel(plan, joint(1, 0, 12), GRID, outside=4, text_tokens=4)
    session = model.session()
    bank = watch_bank(session)
    for evaluation in session.begin_pass(1.0, SIGMAS):
        forward = model.open_forward(session, evaluation)
        assert forward is not None
        query, key, value = (torch.randn(2, 2, 16, 4) for _ in range(3))
        call = AttentionCall(query, key, value, mask)
        assert session.attend(forward, call, model.backend) is None
    assert bank.log == []
    assert len(model.warnings) == 1 and "mask" in model.warnings[0]


def test_a_call_that_does_not_fit_ends_sharing_where_calls_can_only_be_counted() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(layer_idx=(0,)))
    model = FakeModel(plan, self_only(1), GRID)
    session = model.session()
    model.sites = self_only(2)
    model.run_pass(session)
    model.run_pass(session, step=1)
    assert (session.shared_calls, len(session.bank)) == (0, 0)
    assert model.warnings == [
        "fake: an attention call has no block to belong to. Another node adds or changes it; this model, whose calls "
        "can only be counted, is left unshared. Take that node off the model."
    ]
    assert session.finish() == (None, None)


def test_dropped_tokens_are_the_same_in_all_blocks_and_others_in_every_step() -> None:
    config = KVShareConfig(token_dropout=0.5, share_background=True, sources="first")
    plan = SharePlan(timeline_of(2, GRID[0]), config, one_subject(), mask=torch.ones(1, 2, 2))
    model = FakeModel(plan, self_only(3), GRID)
    session = model.session()
    bank = watch_bank(session)
    chosen: list[set[tuple[int, ...]]] = []
    for step in range(4):
        bank.entries.clear()
        model.run_pass(session, step=step)
        kept = {tuple(entry.subjects[0].tokens.tolist()) for entry in bank.entries.values()}
        assert len(kept) == 1
        assert all(len(tokens) == 6 and list(tokens) == sorted(set(tokens)) for tokens in kept)
        chosen.append(kept)
    assert len({next(iter(kept)) for kept in chosen}) > 1


def test_dropped_keys_are_those_of_the_tokens_that_stay() -> None:
    plan = SharePlan(timeline_of(2, GRID[0]), KVShareConfig(token_dropout=0.4))
    model = FakeModel(plan, joint(1, 4, 0), GRID, outside=4, text_tokens=4)
    session = model.session()
    bank = watch_bank(session)
    model.run_pass(session)
    for place, entry in bank.entries.items():
        _, key, value = model.tensors(0, "both", 0, place.chunk, place.row)
        assert torch.equal(entry.subjects[0].key, key[:, :, 4 + entry.subjects[0].tokens])
        assert torch.equal(entry.subjects[0].value, value[:, :, 4 + entry.subjects[0].tokens])


SCHEME = embed_nd_scheme((4, 2, 2), 10000.0)


def test_a_gap_moves_subject_and_background_but_not_text() -> None:
    config = KVShareConfig(
        mode="replace",
        share_background=True,
        share_text=True,
        position="gap",
        position_gap=2,
        layer_idx=(0,),
        strength=1.0,
    )
    plan = SharePlan(timeline_of(2, GRID[0]), config, one_subject(), mask=picture_mask())
    model = FakeModel(plan, joint(1, 4, 0), GRID, outside=4, text_tokens=4, head_dim=8, scheme=SCHEME)

    def moved(key: torch.Tensor) -> torch.Tensor:
        video = rotate(key[:, :, 4:], SCHEME, torch.tensor([-2, 0, 0]))
        return torch.cat([key[:, :, :4], video], 2)

    assert_as_expected(model, model.run_pass(model.session()), moved)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("position", ["matched", "gap"])
def test_moved_keys_do_not_depend_on_how_the_host_batches(position: Any, guided: bool) -> None:
    config = KVShareConfig(position=position, position_gap=1, sources="first and previous", layer_idx=(0, 1))
    cast, mask = (one_subject(), picture_mask()) if guided else ((), None)
    plan = SharePlan(timeline_of(3, GRID[0]), config, cast, mask=mask)
    model = FakeModel(plan, joint(2, 4, 0), GRID, rows=2, outside=4, text_tokens=4, head_dim=8, scheme=SCHEME)
    model.masks = masks_of(range(4), 16, "per chunk")
    together = model.run_pass(model.session())
    for batches in ([(COND,), (UNCOND,)], [(UNCOND,), (COND,)], [(UNCOND, COND)]):
        assert_same(model.run_pass(model.session(), batches), together)


def threshold_plan(position: Any, segments: int = 2) -> SharePlan:
    config = KVShareConfig(masks=MaskSettings(kind="threshold", thres=0.5, rim=0), position=position)
    subject = SubjectTokens((1,), (0, 2))
    return SharePlan(timeline_of(segments, GRID[0]), config, one_subject(subject), ((0, 1, 2, 3),))


@pytest.mark.parametrize("position", ["same", "gap", "matched", "frame", "centred"])
def test_masks_of_every_block_go_with_every_position(position: Any) -> None:
    model = FakeModel(threshold_plan(position), self_and_cross(4), GRID, text_tokens=5, head_dim=8, scheme=SCHEME)
    session = model.session()
    model.run_pass(session)
    assert session.shared_calls > 0
