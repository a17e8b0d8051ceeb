"""The transcription of DiTCtrl behaves as the released code is described to, on the real host."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from tests.oracles.ditctrl_transcription import Text, TranscribedDiTCtrl, segment_texts, soft_mask, triangle
from tests.tiny.models import CHANNELS, Sampling, joint_text, tiny_hunyuan

WINDOW, STRIDE, TOKENS = 3, 2, 7
LAYERS = 4
EVERYTHING = {"start_step": 0, "end_step": 99, "start_layer": 0, "end_layer": LAYERS}
MASKED = {**EVERYTHING, "use_mask": True, "ref_token_idx": [0, 2], "cur_token_idx": [1]}
NEGATIVE = joint_text(99, 5)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_hunyuan()


@pytest.fixture(scope="module")
def wide_model() -> Any:
    """Two heads."""
    return tiny_hunyuan(heads=2)


def texts(count: int, real: int | None = None) -> list[Text]:
    return [joint_text(10 + number, TOKENS, real) for number in range(count)]


def noise_of(segments: int, stride: int = STRIDE) -> torch.Tensor:
    shape = (1, CHANNELS, WINDOW + stride * (segments - 1), 6, 6)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


def conditioning(text: Text) -> list[Any]:
    return [[text[0], dict(text[1])]]


def stock(model: Any, noise: torch.Tensor, text: Text, negative: Text = NEGATIVE, steps: int = 1) -> torch.Tensor:
    """The host's own sampling of `noise` as one video."""
    return Sampling(steps=steps).run(model, conditioning(text), conditioning(negative), noise.shape, noise)


def transcribed(
    model: Any,
    noise: torch.Tensor,
    chosen: Sequence[Text],
    steps: int = 1,
    stride: int = STRIDE,
    negative: Text = NEGATIVE,
    **settings: Any,
) -> tuple[torch.Tensor, TranscribedDiTCtrl]:
    handler = TranscribedDiTCtrl(
        [(place * stride, text) for place, text in enumerate(chosen)], WINDOW, **{**EVERYTHING, **settings}
    )
    return stock(handler.on(model), noise, chosen[0], negative, steps), handler


def video_first(model: Any) -> bool:
    """Whether the host puts video tokens before text tokens, as older ones do."""
    return hasattr(model.model.diffusion_model.double_blocks[0], "flipped_img_txt")


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference, relative to `other`."""
    return float((one - other).norm() / other.norm())


def test_the_model_listens_to_text_and_attention(model: Any) -> None:
    noise, text = noise_of(1), joint_text(1, TOKENS)
    expected = stock(model, noise, text)
    other_words = (joint_text(2, TOKENS)[0], text[1])
    assert distance(stock(model, noise, other_words), expected) > 0.1

    def everything_alike(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        if "block_type" not in kwargs["transformer_options"]:
            return function(*args, **kwargs)
        value = args[2]
        return value.mean(2, keepdim=True).expand_as(value).transpose(1, 2).flatten(2)

    uniform = model.clone()
    uniform.model_options["transformer_options"]["optimized_attention_override"] = everything_alike
    assert distance(stock(uniform, noise, text), expected) > 0.1


def test_texts_between_prompts_are_interpolated_for_each_position() -> None:
    first, second, third = texts(3)
    result = segment_texts([first, second, third], num_transition_blocks=2, longer_mid_segment=1)
    assert len(result) == 3 + 2 * 2 + 1
    assert [place for place, text in enumerate(result) if text is first or text is second or text is third] == [
        0,
        3,
        4,
        7,
    ]
    for place, share in ((1, 1 / 3), (2, 2 / 3)):
        assert torch.allclose(result[place][0], (1 - share) * first[0] + share * second[0])
        pooled = [text[1]["pooled_output"] for text in (first, second)]
        assert torch.allclose(result[place][1]["pooled_output"], (1 - share) * pooled[0] + share * pooled[1])
    assert torch.allclose(result[5][0], (2 * second[0] + third[0]) / 3)
    assert len(segment_texts([first, second], 1, 5)) == 3


def test_a_text_between_prompts_is_text_where_either_is() -> None:
    between = segment_texts([joint_text(1, TOKENS, 4), joint_text(2, TOKENS, 6)], 1, 0)[1]
    assert between[1]["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1, 0]]
    assert "attention_mask" not in segment_texts([joint_text(1, TOKENS, 4), joint_text(2, TOKENS)], 1, 0)[1][1]
    with pytest.raises(ValueError, match="cannot be interpolated"):
        segment_texts([joint_text(1, 6), joint_text(2, 7)], 1, 0)


def test_blending_weights_are_a_triangle() -> None:
    assert triangle(4).tolist() == [0.25, 0.75, 0.75, 0.25]
    assert torch.allclose(triangle(13)[[0, 1, 6, 12]], torch.tensor([1, 3, 13, 1], dtype=torch.float64) / 13)


def test_a_mask_stretches_every_frame_by_itself() -> None:
    looks = torch.tensor([[0.1, 0.1, 0.3, 0.2, 7.0, 7.0]], dtype=torch.float64)[..., None].expand(1, 6, 3)
    mask = soft_mask(looks / 2, [0, 2], frames=3)
    assert torch.allclose(mask, torch.tensor([[0, 0, 1, 0, 0, 0]], dtype=torch.float64), atol=2e-5)
    assert mask[0, 2] < 1


def test_without_sharing_inner_segments_count_twice(model: Any) -> None:
    chosen, noise = texts(4), noise_of(4)
    total, weight = torch.zeros_like(noise), torch.zeros(noise.shape[2])
    for place, (text, times) in enumerate(zip(chosen, [1, 2, 2, 1], strict=True)):
        frames = slice(place * STRIDE, place * STRIDE + WINDOW)
        ramp = torch.tensor([1 / 3, 1.0, 1 / 3]) * times
        total[:, :, frames] += stock(model, noise[:, :, frames], text) * ramp[:, None, None]
        weight[frames] += ramp
    for settings in ({"step_idx": []}, {"layer_idx": []}, {"start_step": 1}):
        found, _ = transcribed(model, noise, chosen, **settings)
        assert distance(found, total / weight[:, None, None]) < 1e-5


def test_both_segments_of_every_pair_are_evaluated_in_every_step(model: Any) -> None:
    chosen, noise = texts(4), noise_of(4)
    handler = TranscribedDiTCtrl([(place * STRIDE, text) for place, text in enumerate(chosen)], WINDOW, step_idx=[1])
    patched = handler.on(model)
    lists: Counter[tuple[int, ...]] = Counter()

    def count(executor: Any, *args: Any, **kwargs: Any) -> Any:
        lists[tuple(args[5]["cond_or_uncond"])] += 1
        return executor(*args, **kwargs)

    patched.add_wrapper(WrappersMP.APPLY_MODEL, count)
    stock(patched, noise, chosen[0], steps=3)
    pairs = [(0, "source"), (1, "target"), (1, "source"), (2, "target"), (2, "source"), (3, "target")]
    assert handler.evaluations == [(step, *pair) for step in range(3) for pair in pairs]
    assert lists == {(0,): 18, (1,): 18}


@pytest.mark.parametrize("settings", [EVERYTHING, MASKED], ids=["unmasked", "masked"])
def test_only_frames_of_later_segments_change_by_sharing(model: Any, settings: dict[str, Any]) -> None:
    chosen, noise = texts(3), noise_of(3)
    alone, _ = transcribed(model, noise, chosen, step_idx=[])
    shared, _ = transcribed(model, noise, chosen, **settings)
    assert torch.equal(shared[:, :, :STRIDE], alone[:, :, :STRIDE])
    for frame in range(STRIDE, noise.shape[2]):
        assert distance(shared[:, :, frame], alone[:, :, frame]) > 0.02
    assert shared.isfinite().all()


@pytest.mark.parametrize("settings", [EVERYTHING, MASKED], ids=["unmasked", "masked"])
def test_sources_are_unshared_and_inner_segments_half_shared(model: Any, settings: dict[str, Any]) -> None:
    chosen, noise = texts(3), noise_of(3)
    shared, _ = transcribed(model, noise, chosen, **settings)
    first_pair, _ = transcribed(model, noise[:, :, :5], chosen[:2], **settings)
    last_pair, _ = transcribed(model, noise[:, :, 2:], chosen[1:], **settings)
    # Frame 3 belongs to segment 1 only: target of the first pair, source of the last one.
    assert distance(shared[:, :, 3], (first_pair[:, :, 3] + last_pair[:, :, 1]) / 2) < 1e-5
    assert distance(first_pair[:, :, 3], last_pair[:, :, 1]) > 0.02
    assert distance(shared[:, :, 5:], last_pair[:, :, 3:]) < 1e-5


def test_sharing_between_equal_segments_changes_nothing(model: Any) -> None:
    noise = noise_of(1).repeat(1, 1, 2, 1, 1)
    text = joint_text(1, TOKENS)
    shared, _ = transcribed(model, noise, [text, text], stride=WINDOW)
    assert distance(shared, stock(model, noise[:, :, :WINDOW], text).repeat(1, 1, 2, 1, 1)) < 1e-5


@pytest.mark.parametrize("settings", [EVERYTHING, MASKED], ids=["unmasked", "masked"])
def test_the_target_attends_to_keys_of_the_source_only(wide_model: Any, settings: dict[str, Any]) -> None:
    """For positive and negative, in every layer; masks here choose the keys of two groups of queries."""
    segments = [(place * STRIDE, text) for place, text in enumerate(texts(2))]
    handler = TranscribedDiTCtrl(segments, WINDOW, **{**settings, "layer_idx": [1, 3]})
    patched = handler.on(wide_model)
    calls: list[tuple[torch.Tensor, ...]] = []

    def look(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        output = handler.attend(function, *args, **kwargs)
        if "block_type" in kwargs["transformer_options"]:
            calls.append((*args[:3], output))
        return output

    patched.model_options["transformer_options"]["optimized_attention_override"] = look
    stock(patched, noise_of(2), segments[0][1])
    by_role = torch.tensor(range(len(calls))).reshape(2, 2, LAYERS).tolist()
    assert len(calls) == 4 * LAYERS
    for layer in range(LAYERS):
        for cond, text_tokens in enumerate((TOKENS, 5)):
            _, source_key, source_value, _ = calls[by_role[0][cond][layer]]
            query, key, value, output = calls[by_role[1][cond][layer]]
            if layer not in (1, 3):
                source_key, source_value = key, value
            groups = [(torch.ones(27, dtype=torch.bool),) * 2]
            if "use_mask" in settings and layer in (1, 3):
                mine, theirs = (
                    handler.maps[0, segment, role, layer][0] >= 0.3 for segment, role in ((1, "target"), (0, "source"))
                )
                groups = [(mine, theirs), (~mine, ~theirs)]
            video = torch.arange(27) + (0 if video_first(wide_model) else text_tokens)
            text = torch.arange(text_tokens) + (27 if video_first(wide_model) else 0)
            expected = torch.zeros_like(output).unflatten(2, (2, 128)).transpose(1, 2)
            for rows, columns in [(text, video), *((video[mine], video[theirs]) for mine, theirs in groups)]:
                seen = torch.cat([text, columns])
                expected[:, :, rows] = torch.nn.functional.scaled_dot_product_attention(
                    query[:, :, rows], source_key[:, :, seen], source_value[:, :, seen]
                )
            assert distance(output, expected.transpose(1, 2).flatten(2)) < 1e-5


@pytest.mark.parametrize("thres", [0.0, 1.5])
def test_a_mask_that_splits_nothing_shares_everything(wide_model: Any, thres: float) -> None:
    chosen, noise = texts(3), noise_of(3)
    unmasked, _ = transcribed(wide_model, noise, chosen)
    masked, _ = transcribed(wide_model, noise, chosen, **{**MASKED, "thres": thres})
    assert distance(masked, unmasked) < 1e-5


def test_a_mask_that_splits_changes_the_result(wide_model: Any) -> None:
    chosen, noise = texts(3), noise_of(3)
    unmasked, _ = transcribed(wide_model, noise, chosen)
    masked, handler = transcribed(wide_model, noise, chosen, **MASKED)
    assert distance(masked, unmasked) > 0.02
    assert masked.isfinite().all()
    assert 0 < handler.closest_to_threshold() < 0.3
    assert all(0 < (mask >= 0.3).double().mean() < 1 for mask in handler.maps.values())


def test_masks_are_those_of_the_layers_so_far(wide_model: Any) -> None:
    """Checked against queries and keys of a stock run of each segment; shared layers of a target are its own too."""
    chosen, noise = texts(2), noise_of(2)
    _, handler = transcribed(wide_model, noise, chosen, **{**MASKED, "layer_idx": [LAYERS - 1]})
    for segment, role, tokens in ((0, "source", [0, 2]), (1, "target", [1])):
        seen: list[torch.Tensor] = []

        def look(function: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
            options = kwargs["transformer_options"]
            if "block_type" in options and 0 in options["cond_or_uncond"]:
                row = options["cond_or_uncond"].index(0)
                query, key = args[0][row].double(), args[1][row].double()
                seen.append(torch.softmax(query @ key.transpose(1, 2) / 128**0.5, -1).mean(0))  # noqa: B023
            return function(*args, **kwargs)

        patched = wide_model.clone()
        patched.model_options["transformer_options"]["optimized_attention_override"] = look
        stock(patched, noise[:, :, segment * STRIDE : segment * STRIDE + WINDOW], chosen[segment])
        assert len(seen) == LAYERS
        for layer in range(LAYERS):
            mean = torch.stack(seen[: layer + 1]).mean(0)
            rows = mean[:27] if video_first(wide_model) else mean[TOKENS:]
            columns = rows[:, 27:] if video_first(wide_model) else rows[:, :TOKENS]
            look_sum = sum(columns[:, token] for token in tokens).reshape(WINDOW, 9)
            low, high = look_sum.min(1, keepdim=True).values, look_sum.max(1, keepdim=True).values
            expected = ((look_sum - low) / (high - low + 1e-6)).flatten()
            assert torch.allclose(handler.maps[0, segment, role, layer][0], expected, atol=1e-4)


def test_lists_of_steps_and_layers_equal_ranges(model: Any) -> None:
    chosen, noise = texts(2), noise_of(2)
    ranges = {"start_step": 0, "end_step": 2, "start_layer": 1, "end_layer": 3}
    by_range, _ = transcribed(model, noise, chosen, steps=3, **ranges)
    lists = {"step_idx": [0, 1], "layer_idx": [1, 2]}
    by_list, _ = transcribed(model, noise, chosen, steps=3, **lists)
    assert torch.equal(by_range, by_list)
    for other in ({"step_idx": [0]}, {"step_idx": [1]}, {"layer_idx": [1]}, {"layer_idx": [2]}):
        changed, _ = transcribed(model, noise, chosen, steps=3, **{**lists, **other})
        assert distance(changed, by_range) > 1e-3


@pytest.mark.parametrize("settings", [EVERYTHING, MASKED], ids=["unmasked", "masked"])
def test_no_query_attends_to_the_padding_of_a_text(model: Any, settings: dict[str, Any]) -> None:
    """The model averages all tokens for its modulation; padding equal to the average leaves that as it is."""
    noise, short = noise_of(2), [joint_text(seed, 5) for seed in (20, 21)]
    padded: list[Text] = []
    for tensor, extra in short:
        padding = tensor.mean(1, keepdim=True).expand(-1, 2, -1)
        mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
        padded.append((torch.cat([tensor, padding], 1), {**extra, "attention_mask": mask}))
    expected, _ = transcribed(model, noise, short, steps=2, **settings)
    found, _ = transcribed(model, noise, padded, steps=2, **settings)
    assert distance(found, expected) < 1e-4
    without_mask = [(tensor, {"pooled_output": extra["pooled_output"]}) for tensor, extra in padded]
    assert distance(transcribed(model, noise, without_mask, steps=2, **settings)[0], expected) > 1e-3


def test_a_hidden_token_has_no_map(model: Any) -> None:
    _, handler = transcribed(model, noise_of(2), texts(2, real=4), **{**MASKED, "cur_token_idx": [5, 6]})
    for (_, _, role, _), mask in handler.maps.items():
        assert bool((mask == 0).all()) is (role == "target")


def test_negative_may_be_masked_too(model: Any) -> None:
    """Positive and negative are separate calls here: the host cannot batch two texts that are both masked."""
    found, _ = transcribed(model, noise_of(2), texts(2, real=4), negative=joint_text(99, TOKENS, 3), steps=2, **MASKED)
    assert found.isfinite().all()


def test_what_cannot_be_transcribed_is_refused(model: Any) -> None:
    first, second = texts(2)
    with pytest.raises(ValueError, match="at least two segments"):
        TranscribedDiTCtrl([(0, first)], WINDOW)
    with pytest.raises(ValueError, match="cur_token_idx"):
        TranscribedDiTCtrl([(0, first), (2, second)], WINDOW, use_mask=True, ref_token_idx=[0])
    with pytest.raises(ValueError, match="the latent has 7 frames"):
        transcribed(model, noise_of(3), [first, second])
