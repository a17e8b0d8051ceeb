"""A model family without a model: attention calls with seeded tensors, in the order and batches a test asks for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from kvshare_core.attention.rope import RopeScheme
from kvshare_core.bank.bank import Chunk
from kvshare_core.families.base import AttentionCall, BlockName, CallSite, FamilyInfo, UnexpectedCallError
from kvshare_core.forward.forward import Batch, Forward, PromptText
from kvshare_core.forward.view import View
from kvshare_core.plan.model_fit import fit_plan
from kvshare_core.plan.schedule import Evaluation
from kvshare_core.plan.share_plan import SharePlan
from kvshare_core.script.film import Duration, Script, ScriptBeat
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.session.settings import RunSettings
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline

COND, UNCOND = (0, 0), (1, 0)
SIGMAS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Four steps."""

Outputs = dict[tuple[Chunk, int], list[torch.Tensor]]
"""For every latent of every chunk the outputs [1 or frames, heads, tokens, head_dim] of a forward's attention calls."""


class FakeFamily:
    """Knows its attention calls by their place in `sites`; `scheme` is how it rotates its keys."""

    name = "fake"

    def __init__(self, sites: Sequence[CallSite], scheme: RopeScheme | None = None):
        self.sites = sites
        self.scheme = scheme

    def describe(self, diffusion_model: torch.nn.Module, latent_channels: int) -> FamilyInfo:
        blocks = 1 + max(site.block for site in self.sites)
        routes_text = all(site.kind != "joint" for site in self.sites)
        info = FamilyInfo(self.name, blocks, 2, 4, True, (1, 1, 1), (4, 8, 8), latent_channels, 21, routes_text)
        return replace(info, frames_as_rows=any(site.frames_as_rows for site in self.sites))

    def classify(
        self,
        diffusion_model: torch.nn.Module,
        call_index: int,
        call: AttentionCall,
        video_tokens: int,
        text_tokens: int,
    ) -> CallSite:
        if call_index >= len(self.sites):
            raise UnexpectedCallError("no block to belong to")
        return self.sites[call_index]

    def calls_of_block(self, diffusion_model: torch.nn.Module, call: AttentionCall, block: BlockName) -> range:
        numbers = [number for number, site in enumerate(self.sites) if site.block == block.index]
        return range(numbers[0], numbers[-1] + 1) if numbers else range(0)

    def rope_scheme(self, diffusion_model: torch.nn.Module, rope_options: Mapping[str, float]) -> RopeScheme | None:
        return self.scheme


def self_only(blocks: int) -> list[CallSite]:
    return [CallSite(block, "self") for block in range(blocks)]


def joint(blocks: int, video_start: int, text_start: int) -> list[CallSite]:
    return [CallSite(block, "joint", video_start, text_start) for block in range(blocks)]


def self_and_cross(blocks: int) -> list[CallSite]:
    return [CallSite(block, kind) for block in range(blocks) for kind in ("self", "cross")]


def timeline_of(segments: int, frames: int, overlap: int = 1, beats: int = 1) -> Timeline:
    """`segments` segments of `frames` latent frames, in one beat or in several of one segment each."""
    said = tuple(ScriptBeat(f"prompt {beat}") for beat in range(beats))
    if beats == 1:
        length = (segments - 1) * (frames - overlap) + frames
        said = (ScriptBeat("prompt", Duration(length, "latent frames")),)
    timeline = plan_timeline(Script(said), frames, overlap, 16, 4)
    assert len(timeline.segments) == segments
    return timeline


@dataclass
class FakeModel:
    """Runs passes of a session as a host does, with tensors that depend only on what they belong to.

    outside: tokens of the sequence outside the video, text_tokens of them text. masks: per chunk the call's own mask
    [tokens] for joint and self calls, additive. skip: forwards that a step cache leaves out, as (segment, chunk).
    """

    plan: SharePlan
    sites: Sequence[CallSite]
    grid: tuple[int, int, int]
    rows: int = 1
    outside: int = 0
    text_tokens: int = 0
    chunks: tuple[Chunk, ...] = (COND, UNCOND)
    prompts: int | None = 0
    heads: tuple[int, int] = (2, 2)
    head_dim: int = 4
    dtype: torch.dtype = torch.float64
    masks: Mapping[Chunk, torch.Tensor] = field(default_factory=dict)
    skip: frozenset[tuple[int, Chunk]] = frozenset()
    scheme: RopeScheme | None = None
    warnings: list[str] = field(default_factory=list)
    backend_calls: list[tuple[int, int]] = field(default_factory=list)
    """Rows and keys of every call that went through the user's attention by way of the session."""
    device: str = "cpu"
    overridden: bool = False
    step: int = 0

    def session(self, **options: Any) -> SamplingRun:
        family = FakeFamily(self.sites, self.scheme)
        module = torch.nn.Module()
        fitted = fit_plan(self.plan, family.describe(module, 16))
        settings = RunSettings(fitted, family, module, **options)
        return SamplingRun(settings, self.warnings.append)

    @property
    def video_tokens(self) -> int:
        frames, height, width = self.grid
        return frames * height * width

    def view(self, call: int) -> View:
        """How a call has the video."""
        site = self.sites[call]
        return View(self.grid, site.grid or self.grid, site.frames_as_rows)

    def tensors(self, segment: int, role: str, call: int, chunk: Chunk, row: int) -> tuple[torch.Tensor, ...]:
        """Query, key and value [1, heads, tokens, head_dim] of one latent in one call; where its frames are rows,
        [frames, heads, tokens, head_dim]."""
        site, view = self.sites[call], self.view(call)
        length = view.tokens + self.outside
        keys = self.text_tokens if site.kind == "cross" else length
        queries = view.tokens if site.kind == "cross" else length
        seed = hash((self.step, segment, ("plain", "both", "source", "target").index(role), call, *chunk, row))
        generator = torch.Generator().manual_seed(seed % 2**31)
        return tuple(
            torch.randn(view.rows, heads, tokens, self.head_dim, generator=generator, dtype=torch.float64).to(
                self.device, self.dtype
            )
            for heads, tokens in ((self.heads[0], queries), (self.heads[1], keys), (self.heads[1], keys))
        )

    def backend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        self.backend_calls.append((query.shape[0], key.shape[2]))
        return scaled_dot_product_attention(query, key, value, enable_gqa=True)

    def open_forward(
        self,
        session: SamplingRun,
        evaluation: Evaluation,
        chunks: tuple[Chunk, ...] | None = None,
        hides: int | None = None,
        **text: Any,
    ) -> Forward | None:
        """A forward of the batch `chunks` as the host layer opens it; text: fields of PromptText."""
        if not session.takes_part(evaluation, hides):
            return None
        batch = Batch(chunks or self.chunks, self.prompts, self.rows)
        prompt = PromptText(self.text_tokens, hidden_subject=hides, **text)
        return session.open_forward(evaluation, batch, prompt, self.grid)

    def forward(
        self, session: SamplingRun, evaluation: Evaluation, chunks: tuple[Chunk, ...], hides: int | None = None
    ) -> Outputs:
        """One forward of the batch `chunks`; hides: the subject whose words nothing sees."""
        forward = self.open_forward(session, evaluation, chunks, hides)
        batch = [(chunk, row) for chunk in chunks for row in range(self.rows)]
        outputs: Outputs = {place: [] for place in batch}
        # One mask tensor per forward, as hosts have it.
        mask = None
        if self.masks:
            mask = torch.stack([self.masks[chunk] for chunk, _ in batch])[:, None, None].to(self.dtype)
        for number, site in enumerate(self.sites):
            drawn = [self.tensors(evaluation.segment.index, evaluation.role, number, *place) for place in batch]
            query, key, value = (torch.cat(tensors) for tensors in zip(*drawn, strict=True))
            own_mask = None if site.kind == "cross" else mask
            call = AttentionCall(query, key, value, own_mask, overridden=self.overridden)
            output = None
            if forward is not None:
                output = session.attend(forward, call, self.backend)
            if output is None:
                output = scaled_dot_product_attention(query, key, value, own_mask, enable_gqa=True)
            for place, piece in zip(batch, output.split(self.view(number).rows), strict=True):
                outputs[place].append(piece)
        return outputs

    def run_pass(
        self, session: SamplingRun, batches: Sequence[tuple[Chunk, ...]] | None = None, step: int = 0
    ) -> list[tuple[Evaluation, Outputs]]:
        """A model call on the long latent; `batches` are the forwards that each evaluation is split into."""
        self.step = step
        results: list[tuple[Evaluation, Outputs]] = []
        for evaluation in session.begin_pass(SIGMAS[step], SIGMAS):
            session.begin_evaluation(evaluation)
            outputs: Outputs = {}
            for batch in batches or (self.chunks,):
                wanted = tuple(chunk for chunk in batch if (evaluation.segment.index, chunk) not in self.skip)
                if wanted:
                    outputs |= self.forward(session, evaluation, wanted)
            results.append((evaluation, outputs))
        session.end_pass()
        return results

    def run_stages(self, session: SamplingRun) -> None:
        """A model call for every stage of the session's plan."""
        for number in range(len(session.stages.all)):
            if number > 0:
                session.next_stage()
            self.run_pass(session)
