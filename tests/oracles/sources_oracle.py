"""What every shared attention call of a run should give, written down once more from the script alone.

Sits in front of `SamplingRun.attend` of any model, real or not, keeps each segment's keys and recomputes each call with
one dense matrix of biases. The masks are the run's own; how they are found is tested elsewhere.
"""

from collections.abc import Callable
from typing import Any

import torch

from kvshare_core.attention.rope import RopeScheme, grid_positions
from kvshare_core.attention.token_split import TokenSplit
from kvshare_core.families.base import AttentionCall, CallSite
from kvshare_core.forward.forward import Forward
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.session.sampling_run import SamplingRun
from tests.oracles.dense_reference import Tokens, dense_attention, heads_together, joint_sharing_bias
from tests.oracles.rope_reference import reference_positions, rotated_reference


def resolved(plan: SharePlan, rule: Any, target: int) -> set[int]:
    """The segments before `target` that a rule of the script names."""
    beats = [segment.beat for segment in plan.timeline.segments]
    names = {"first": 0, "previous": target - 1}
    found = {names[source] if isinstance(source, str) else beats.index(source) for source in rule}
    return {source for source in found if 0 <= source < target}


def seen_by(plan: SharePlan, target: int, subject: int) -> set[int]:
    """The segments in which a subject of `target` sees itself; -1 is the background."""
    if subject >= 0 and not plan.config.share_subject:
        return set()
    beat = plan.timeline.segments[target].beat
    rule = plan.timeline.beats[beat].script.sources
    if rule is None:
        rule = plan.config.sources.split(" and ")
    if subject >= 0 and plan.cast and plan.cast[subject].sources_in(beat) is not None:
        rule = plan.cast[subject].sources_in(beat)
    return resolved(plan, rule, target)


def seers_of(plan: SharePlan, source: int, target: int) -> frozenset[int]:
    """The subjects of `target` that see `source`, in which they are too; -1 for the background."""

    def is_in(subject: int, segment: int) -> bool:
        if subject == -1:
            return plan.guided and plan.config.share_background
        tokens = plan.cast[subject].tokens if plan.cast else ()
        return not tokens or tokens[plan.timeline.segments[segment].beat] is not None

    return frozenset(
        subject
        for subject in range(-1, max(1, len(plan.names)))
        if source in seen_by(plan, target, subject) and is_in(subject, source) and is_in(subject, target)
    )


def gap_between(plan: SharePlan, source: int, target: int) -> int:
    """The largest gap of the cuts between two segments."""
    first, last = (plan.timeline.segments[index].beat for index in (source, target))
    return max([beat.gap for number, beat in enumerate(plan.timeline.beats) if first < number <= last], default=0)


class Oracle:
    """Checks every call; `checked` counts those that saw something foreign. tolerance: largest absolute error."""

    def __init__(self, plan: SharePlan, scheme: RopeScheme | None = None, tolerance: float = 1e-4):
        self.plan = plan
        self.scheme = scheme
        self.tolerance = tolerance
        self.checked: list[int] = []
        """The segments whose calls saw something foreign."""
        self.biases: dict[Any, torch.Tensor] = {}
        self.kept: dict[Any, tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float, int]] = {}

    def attend(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """A method in place of `SamplingRun.attend`."""

        def attend(session: SamplingRun, forward: Forward, call: AttentionCall, backend: Any) -> torch.Tensor | None:
            number = forward.cache.calls
            output = original(session, forward, call, backend)
            self._check(session, forward, call, number, output)
            return output

        return attend

    def _check(
        self, session: SamplingRun, forward: Forward, call: AttentionCall, number: int, output: torch.Tensor | None
    ) -> None:
        site = session.settings.family.classify(
            session.settings.diffusion_model, number, call, forward.video_tokens, forward.text.tokens
        )
        if site.kind not in ("self", "joint") or site.block not in session.settings.blocks or not forward.shares:
            return
        splits: Any = [None] * forward.batch.latents
        if self.plan.guided:
            splits = session.tracker.splits(forward, site.block, call.key.device)
        if splits is None:
            assert output is None
            return
        for index in range(call.query.shape[0]):
            batch = forward.batch
            chunk, row = batch.chunks[index // batch.latents], index % batch.latents
            own = tuple(tensor[index : index + 1] for tensor in (call.query, call.key, call.value))
            found = None if output is None else output[index : index + 1]
            self._check_row(forward, site, (site.block, chunk, row), own, splits[row], found)

    def _check_row(
        self,
        forward: Forward,
        site: CallSite,
        place: Any,
        own: tuple[torch.Tensor, ...],
        split: TokenSplit | None,
        found: torch.Tensor | None,
    ) -> None:
        query, key, value = own
        target = forward.segment.index
        owners = None if split is None else owners_of(split, forward.video_tokens)
        self.kept[(target, *place)] = key.clone(), value.clone(), owners, site.origin, site.video_start
        video = range(site.video_start, site.video_start + forward.video_tokens)
        strength = self._strength(target)
        sources = [source for source in range(target) if strength > 0 and seers_of(self.plan, source, target)]
        sources = [source for source in sources if (source, *place) in self.kept]
        stored = [_in_a_sequence_like(key, video, self.kept[(source, *place)]) for source in sources]
        name = target, place[2], key.shape[2], tuple(sources), None if owners is None else tuple(owners.tolist())
        if name not in self.biases:
            self.biases[name] = joint_sharing_bias(
                self.plan.config,
                strength,
                Tokens(key.shape[2], video, owners),
                [Tokens(key.shape[2], video, theirs[2]) for theirs in stored],
                forward.grid[1] * forward.grid[2],
                [seers_of(self.plan, source, target) for source in sources],
            )
        bias = self.biases[name]
        if bias[:, key.shape[2] :].isneginf().all():
            assert found is None or torch.allclose(
                heads_together(found).double(), dense_attention(query, key, value), rtol=0, atol=self.tolerance
            )
            return
        self.checked.append(target)
        keys = [
            key,
            *(
                self._contrasted(
                    self._moved(forward, theirs[0], video, source, (owners, theirs[2]), site.origin - theirs[3]),
                    video,
                    theirs[2],
                )
                for source, theirs in zip(sources, stored, strict=True)
            ),
        ]
        values = torch.cat([value, *(pair[1] for pair in stored)], 2)
        assert found is not None
        expected = dense_attention(query, torch.cat([part.double() for part in keys], 2), values, bias=bias)
        torch.testing.assert_close(heads_together(found).double(), expected, rtol=0, atol=self.tolerance)

    def _strength(self, target: int) -> float:
        said = self.plan.timeline.beats[self.plan.timeline.segments[target].beat].script.strength
        return self.plan.config.strength if said is None else said

    def _contrasted(self, key: torch.Tensor, video: range, owners: torch.Tensor | None) -> torch.Tensor:
        """The keys of every subject of `owners`, -1 the background, further from their mean; None for one subject."""
        if owners is None:
            owners = torch.zeros(len(video), dtype=torch.long)
        key = key.double().clone()
        for subject in range(int(owners.max()) + 1):
            places = (owners == subject).nonzero().squeeze(1) + video.start
            if len(places):
                mean = key[:, :, places].mean(2, keepdim=True)
                key[:, :, places] = mean + self.plan.config.key_contrast * (key[:, :, places] - mean)
        return key

    def _moved(
        self,
        forward: Forward,
        key: torch.Tensor,
        video: range,
        source: int,
        owners: tuple[torch.Tensor | None, torch.Tensor | None],
        later: float,
    ) -> torch.Tensor:
        """The keys as the model would have computed them with the source's video that much earlier, and each subject
        around its centre in the target; owners: of the target's tokens and of the source's; later: how much further in
        time the target's video begins."""
        gap = gap_between(self.plan, source, forward.segment.index)
        if self.plan.config.position == "gap":
            gap += self.plan.config.position_gap
        places = grid_positions(torch.arange(len(video)), forward.grid).double()
        there = places - torch.tensor([gap, 0, 0])
        target, theirs = owners
        if self.plan.config.position == "centred" and target is not None and theirs is not None:
            there += ways_between_centres(places, theirs, target)
        if torch.equal(there, places) and later == 0:
            return key
        assert self.scheme is not None
        key = key.double().clone()
        here, there = (reference_positions(one, self.scheme, forward.grid) for one in (places, there))
        there[:, 0] += later
        raw = rotated_reference(key[:, :, video.start : video.stop], self.scheme, -here)
        key[:, :, video.start : video.stop] = rotated_reference(raw, self.scheme, there)
        return key


def _in_a_sequence_like(
    key: torch.Tensor, video: range, kept: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float, int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, float]:
    """What was kept of a source, whose video then stands where it does in the sequence of `key`; only the video of a
    source whose sequence was another."""
    theirs, values, owners, origin, start = kept
    if theirs.shape[2] == key.shape[2] and start == video.start:
        return theirs, values, owners, origin
    parts = (torch.zeros_like(key), torch.zeros_like(key))
    for part, whole in zip(parts, (theirs, values), strict=True):
        part[:, :, video.start : video.stop] = whole[:, :, start : start + len(video)]
    return (*parts, owners, origin)


def ways_between_centres(places: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far each token of a source [tokens, 3] is from where its subject, carried to the target's centre of the same
    frame, has it; in frames where the target does not show it, by the way between the centres of all frames."""
    ways = torch.zeros_like(places)
    for subject in range(int(max(source.max(), target.max())) + 1):
        here, there = source == subject, target == subject
        if not here.any() or not there.any():
            continue
        for frame in places[:, 0].unique():
            now = places[:, 0] == frame
            seen = now if bool((there & now).any()) else torch.ones_like(now)
            if bool((here & now).any()):
                ways[here & now] = places[there & seen].mean(0) - places[here & seen].mean(0)
    ways[:, 0] = 0
    return ways


def owners_of(split: TokenSplit, tokens: int) -> torch.Tensor:
    """The number of each token's subject, -1 for the background."""
    owners = torch.full((tokens,), -1)
    for number, places in enumerate(subject.on_cpu for subject in split.subjects):
        assert bool((owners[places] == -1).all())
        owners[places] = number
    assert (owners == -1).nonzero().squeeze(1).tolist() == split.background.on_cpu.tolist()
    return owners
