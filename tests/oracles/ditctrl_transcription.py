"""DiTCtrl's long-video sampling as its authors released it (TencentARC/DiTCtrl, f1348b5), duplicates included.

Written from a description of that code to judge a faster implementation: every score is in memory, in float64, and
nothing here uses the pack's sharing, blending or maps. It runs on the real host with models in HunyuanVideo layout, one
text and one negative, and samplers that call the model once a step.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from comfy.conds import CONDRegular
from comfy.context_windows import ContextHandlerABC

from tests.oracles.dense_reference import dense_attention

Text = tuple[torch.Tensor, dict[str, Any]]
"""Conditioning of one text: [1, tokens, width], and what its encoder says besides (pooled_output, attention_mask)."""

POSITIVE = 0
"""Place of the positive conditioning among the lists that a guider hands over."""

NORMALISING_EPS = 1e-6
HIDDEN = torch.finfo(torch.float32).min


def segment_texts(prompts: Sequence[Text], num_transition_blocks: int, longer_mid_segment: int) -> list[Text]:
    """Texts of all segments: one a prompt, more for middle prompts, and interpolated ones between two prompts."""
    texts: list[Text] = []
    for number, prompt in enumerate(prompts):
        is_middle = 0 < number < len(prompts) - 1
        texts += [prompt] * (1 + longer_mid_segment if is_middle else 1)
        if number + 1 < len(prompts):
            for block in range(num_transition_blocks):
                texts.append(_between(prompt, prompts[number + 1], (block + 1) / (num_transition_blocks + 1)))
    return texts


def _between(first: Text, second: Text, share: float) -> Text:
    """Element-wise for each token position, whatever the words there mean.

    DiTCtrl has neither a pooled output nor a text mask. The pooled output is interpolated like the tokens, and a
    position is text where either prompt has text.
    """
    if first[0].shape != second[0].shape:
        raise ValueError(f"texts of shape {tuple(first[0].shape)} and {tuple(second[0].shape)} cannot be interpolated")
    pooled = [text[1]["pooled_output"] for text in (first, second)]
    extra: dict[str, Any] = {"pooled_output": (1 - share) * pooled[0] + share * pooled[1]}
    masks = [text[1].get("attention_mask") for text in (first, second)]
    if all(mask is not None for mask in masks):
        extra["attention_mask"] = torch.maximum(*masks)
    return (1 - share) * first[0] + share * second[0], extra


def triangle(window: int) -> torch.Tensor:
    """Blending weights of the `window` latent frames of a segment, float64."""
    rising = 2 * (torch.arange(window, dtype=torch.float64) + 0.5) / window
    return torch.minimum(rising, 2 - rising)


def soft_mask(attention: torch.Tensor, tokens: Sequence[int], frames: int) -> torch.Tensor:
    """From video-to-text attention [rows, video tokens, text tokens] to masks [rows, video tokens] in 0 to 1.

    Every frame is stretched to the whole range by itself.
    """
    looks = attention[:, :, list(tokens)].sum(-1).unflatten(1, (frames, -1))
    low, high = looks.amin(-1, keepdim=True), looks.amax(-1, keepdim=True)
    return ((looks - low) / (high - low + NORMALISING_EPS)).flatten(1)


class TranscribedDiTCtrl(ContextHandlerABC):
    """Evaluates pairs of neighbouring segments: the first one plainly, the second one with the first one's K and V.

    segments: start in latent frames and text of every segment, at least two; window: latent frames of a segment;
    start_step, end_step, start_layer, end_layer: sharing takes place in these, ends excluded, unless step_idx or
        layer_idx lists steps or layers; layers count double blocks, then single blocks;
    use_mask: splits queries and keys by masks of ref_token_idx in the source's text and cur_token_idx in the target's,
        values from `thres` on being foreground. Token numbers count from the first text token.

    What happened is kept for tests, of all runs: `evaluations` has (step, segment, role) of every segment evaluation,
    `maps` the soft masks [rows, video tokens] by (step, segment, role, layer).
    """

    def __init__(
        self,
        segments: Sequence[tuple[int, Text]],
        window: int,
        *,
        start_step: int = 2,
        end_step: int = 25,
        start_layer: int = 25,
        end_layer: int = 30,
        step_idx: Sequence[int] | None = None,
        layer_idx: Sequence[int] | None = None,
        use_mask: bool = False,
        thres: float = 0.3,
        ref_token_idx: Sequence[int] | None = None,
        cur_token_idx: Sequence[int] | None = None,
    ):
        if len(segments) < 2:
            raise ValueError("segments: pairs of neighbours are evaluated, so at least two segments are needed")
        if use_mask and (not ref_token_idx or not cur_token_idx):
            raise ValueError("ref_token_idx, cur_token_idx: masks need at least one token each")
        self.segments = list(segments)
        self.window = window
        self.steps = list(range(start_step, end_step)) if step_idx is None else list(step_idx)
        self.layers = list(range(start_layer, end_layer)) if layer_idx is None else list(layer_idx)
        self.thres = thres
        self.tokens = {"source": list(ref_token_idx or ()), "target": list(cur_token_idx or ())} if use_mask else None
        self.evaluations: list[tuple[int, int, str]] = []
        self.maps: dict[tuple[int, int, str, int], torch.Tensor] = {}
        self.pair_masks: dict[tuple[str, int], torch.Tensor] = {}
        self.source_memory: dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "TranscribedDiTCtrl":
        return self

    def on(self, model: Any) -> Any:
        """A clone of `model` that samples this way."""
        clone = model.clone()
        clone.model_options["context_handler"] = self
        clone.model_options["transformer_options"]["optimized_attention_override"] = self.attend
        return clone

    def closest_to_threshold(self) -> float:
        """Smallest distance of a mask value that was used to `thres`: smaller rounding errors flip no token."""
        used = [mask for (step, _, _, layer), mask in self.maps.items() if step in self.steps and layer in self.layers]
        return min(((mask - self.thres).abs().min().item() for mask in used), default=math.inf)

    def should_use_context(self, *_: Any) -> bool:
        return True

    def get_resized_cond(self, cond_in: Any, x_in: torch.Tensor, window: Any, device: Any = None) -> Any:
        """The first entry of `cond_in` with the text `window`."""
        tensor, extra = window
        parts = {name: part for name, part in cond_in[0]["model_conds"].items() if name != "attention_mask"}
        parts["c_crossattn"] = CONDRegular(tensor.to(x_in))
        parts["y"] = CONDRegular(extra["pooled_output"].to(x_in))
        if "attention_mask" in extra:
            parts["attention_mask"] = CONDRegular(extra["attention_mask"].to(x_in.device))
        return [{**cond_in[0], "model_conds": parts}]

    def execute(
        self, calc_cond_batch: Any, model: Any, conds: Any, x_in: torch.Tensor, timestep: Any, model_options: Any
    ) -> Any:
        """Blends the denoised predictions of positive and negative, each by itself.

        DiTCtrl blends after guidance. Guidance is linear in the two and the weights are the same, so it is equal.
        """
        if self.segments[-1][0] + self.window != x_in.shape[2]:
            raise ValueError(
                f"the latent has {x_in.shape[2]} frames, the segments end at {self.segments[-1][0] + self.window}"
            )
        self.step = _step_of(timestep, model_options)
        totals = [torch.zeros_like(x_in, dtype=torch.float64) for _ in conds]
        weight = torch.zeros(x_in.shape[2], dtype=torch.float64)
        ramp = triangle(self.window)
        for pair in range(len(self.segments) - 1):
            self.source_memory.clear()
            self.pair_masks.clear()
            for role, segment in (("source", pair), ("target", pair + 1)):
                outputs = self._evaluate(
                    calc_cond_batch, model, conds, x_in, timestep, model_options, segment=segment, role=role
                )
                frames = slice(self.segments[segment][0], self.segments[segment][0] + self.window)
                weight[frames] += ramp
                for total, output in zip(totals, outputs, strict=True):
                    total[:, :, frames] += output * ramp[:, None, None]
        return [(total / weight[:, None, None]).to(x_in.dtype) for total in totals]

    def _evaluate(
        self,
        calc_cond_batch: Any,
        model: Any,
        conds: Any,
        x_in: torch.Tensor,
        timestep: Any,
        model_options: Any,
        *,
        segment: int,
        role: str,
    ) -> list[torch.Tensor]:
        """Positive first, because its masks serve the negative too; both are rows of one batch in DiTCtrl."""
        start, text = self.segments[segment]
        piece = x_in[:, :, start : start + self.window].clone()
        network = model.diffusion_model
        self.segment, self.role = segment, role
        self.video_tokens = math.prod(
            math.ceil(size / patch) for size, patch in zip(piece.shape[2:], network.patch_size, strict=True)
        )
        self.text_first = not getattr(network.double_blocks[0], "flipped_img_txt", False)
        self.evaluations.append((self.step, segment, role))
        outputs: list[torch.Tensor] = []
        for place, cond in enumerate(conds):
            if cond is None:
                outputs.append(torch.zeros_like(piece))
                continue
            if place == POSITIVE:
                cond = self.get_resized_cond(cond, x_in, text)
            alone = [cond if other == place else None for other in range(len(conds))]
            self.layer, self.attention_sum = 0, None
            outputs.append(calc_cond_batch(model, alone, piece, timestep, model_options)[place])
            blocks = len(network.double_blocks) + len(network.single_blocks)
            if self.layer != blocks:
                raise RuntimeError(
                    f"the model has {blocks} blocks, but its video attention was called {self.layer} times"
                )
        return outputs

    def attend(self, function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Attention override. The refiner of the text runs before any block and is left alone."""
        options = kwargs["transformer_options"]
        if "block_type" not in options:
            return function(*args, **kwargs)
        query, key, value = args[:3]
        (cond,) = options["cond_or_uncond"]
        key_bias = _key_bias(args[4] if len(args) > 4 else kwargs.get("mask"), key)
        layer = self.layer
        self.layer += 1
        if self.tokens is not None and cond == POSITIVE:
            self._save_map(query, key, key_bias, layer)
        if self.step not in self.steps or layer not in self.layers:
            return function(*args, **kwargs)
        if self.role == "source":
            self.source_memory[layer, cond] = key, value, key_bias
            return function(*args, **kwargs)
        key, value, key_bias = self.source_memory[layer, cond]
        if self.tokens is None:
            return dense_attention(query, key, value, query.shape[1], 2, key_bias).to(query.dtype)
        return self._attend_masked(query, key, value, key_bias, layer).to(query.dtype)

    def _spans(self, length: int) -> tuple[slice, slice]:
        """Where video and text stand in a sequence of `length` tokens."""
        text_tokens = length - self.video_tokens
        if self.text_first:
            return slice(text_tokens, length), slice(0, text_tokens)
        return slice(0, self.video_tokens), slice(self.video_tokens, length)

    def _save_map(self, query: torch.Tensor, key: torch.Tensor, key_bias: torch.Tensor, layer: int) -> None:
        """Soft mask of the mean over this forward's layers so far, each with its own q and k."""
        scores = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5 + key_bias
        attention = scores.softmax(-1).mean(1)
        video, text = self._spans(key.shape[2])
        own = attention[:, video, text]
        self.attention_sum = own if self.attention_sum is None else self.attention_sum + own
        mask = soft_mask(self.attention_sum / (layer + 1), self.tokens[self.role], self.window)
        self.pair_masks[self.role, layer] = mask
        self.maps[self.step, self.segment, self.role, layer] = mask

    def _attend_masked(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, key_bias: torch.Tensor, layer: int
    ) -> torch.Tensor:
        """A pass that hides the source's background from video queries, one that hides its foreground, and a merge."""
        source = self.pair_masks["source", layer] >= self.thres
        target = self.pair_masks["target", layer] >= self.thres
        video, text = self._spans(query.shape[2])
        tokens = torch.tensor(self.tokens["target"])
        passes = [
            dense_attention(query, key, value, query.shape[1], 2, key_bias + self._hide(~kept, query, key))
            for kept in (source, ~source)
        ]
        merge = torch.zeros(query.shape[0], query.shape[2], 1, dtype=torch.float64)
        merge[:, video, 0] = target.double()
        # Text queries see the same keys in both passes, so this part decides nothing. A negative may be shorter.
        merge[:, text.start + tokens[tokens < text.stop - text.start], 0] = 1.0
        return passes[0] * merge + passes[1] * (1 - merge)

    def _hide(self, hidden: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """Additive mask [rows, 1, queries, keys] that hides video keys [rows, video tokens] from video queries."""
        bias = torch.zeros(query.shape[0], 1, query.shape[2], key.shape[2], dtype=torch.float64)
        queries, keys = self._spans(query.shape[2])[0], self._spans(key.shape[2])[0]
        bias[:, :, queries, keys] = torch.where(hidden, HIDDEN, 0.0).double()[:, None, None, :]
        return bias


def _key_bias(mask: torch.Tensor | None, key: torch.Tensor) -> torch.Tensor:
    """The host's additive mask, one row of keys for all queries, as float64 [1, 1, 1, keys]."""
    if mask is None:
        return torch.zeros(1, 1, 1, key.shape[2], dtype=torch.float64)
    if mask.shape != (1, 1, key.shape[2]) or not mask.is_floating_point():
        raise ValueError(f"expected an additive mask (1, 1, {key.shape[2]}), got {mask.dtype} {tuple(mask.shape)}")
    return mask.double()[:, None]


def _step_of(timestep: torch.Tensor, model_options: dict[str, Any]) -> int:
    sigmas = model_options["transformer_options"]["sample_sigmas"]
    (places,) = torch.isclose(sigmas.double(), timestep[0].double(), rtol=1e-6).nonzero(as_tuple=True)
    if len(places) != 1:
        raise ValueError(f"sigma {timestep[0].item()} is not exactly one of the steps {sigmas.tolist()}; use euler")
    return int(places[0])
