"""MiniMax H3: one sequence of text, pictures, audio and video; segments begin with a group of latent frames."""

import uuid
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from comfy.conds import CONDConstant, CONDRegular
from comfy.nested_tensor import NestedTensor
from comfy.patcher_extension import WrappersMP
from comfy.utils import pack_latents

from kvshare_core.attention.rope import grid_positions, position_offsets, rotate
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, CallSite, UnexpectedCallError
from kvshare_core.families.minimax_h3 import AUDIO as AUDIO_OF_H3
from kvshare_core.families.minimax_h3 import CYCLE, INPUTS, MiniMaxH3Family
from kvshare_core.host.conditioning.sequence import fit_sequence
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.sampling.packed_latent import latent_of
from kvshare_core.host.sampling.patch import apply
from kvshare_core.host.sampling.segment_handler import SegmentHandler
from kvshare_core.plan.making import make_plan
from kvshare_core.prompt_words import PromptWords
from kvshare_core.script.parsing import parse_script
from kvshare_core.session.sampling_run import SamplingRun
from kvshare_core.timeline.holding import redo_mask
from kvshare_core.timeline.planning import plan_timeline
from kvshare_core.timeline.timeline import Timeline
from tests.oracles.rope_reference import reference_positions
from tests.oracles.sources_oracle import Oracle
from tests.support.family_cases import CASES, model_of
from tests.support.present import present
from tests.support.segment_counts import counting_segments
from tests.support.windows import share, tiny_timeline
from tests.tiny.minimax_h3 import CHANNELS, HEAD_DIM, HEADS, SIDE, TEXT_WIDTH, pictures_before, sample_with_audio
from tests.tiny.models import Sampling

CASE = CASES["minimax h3"]
LAYERS, TEXT, AUDIO, VIDEO = 3, 6, 10, 63
SHARED = KVShareConfig(share_background=True)
SEQUENCE = ((0, TEXT, "text"), (TEXT, TEXT + AUDIO, "audio"), (TEXT + AUDIO, TEXT + AUDIO + VIDEO, "video"))
GRID = (7, 3, 3)


@pytest.fixture(scope="module")
def model() -> Any:
    return model_of(present("minimax h3").name)


def layout(*segments: tuple[int, int, str], origin: float = 6.0) -> Any:
    positions = torch.zeros(segments[-1][1], 3, dtype=torch.float64)
    positions[segments[-1][0] :, 0] = origin
    return SimpleNamespace(segments=list(segments), position_ids=positions)


def classify(
    model: Any, number: int, tokens: int, known: Any = None, tags: Any = None, refined: bool = True, **options: Any
) -> CallSite:
    """What the family says of one call over so many tokens."""
    tensor = torch.zeros(1, HEADS, tokens, HEAD_DIM)
    payload = {"layout": known or layout(*SEQUENCE), "text_token_tags": tags}
    width = HEADS * HEAD_DIM if refined else TEXT_WIDTH
    call = AttentionCall(
        tensor,
        tensor,
        tensor,
        inputs={"c_crossattn": ((1, TEXT, width),)},
        options={"minimax_payload": payload, **options},
    )
    return MiniMaxH3Family().classify(model.get_model_object("diffusion_model"), number, call, VIDEO, TEXT)


def test_its_numbers_are_read_off_the_model(model: Any) -> None:
    _, info = model_info(model)
    assert (info.family, info.blocks, info.heads, info.head_dim) == ("minimax_h3", LAYERS, HEADS, HEAD_DIM)
    assert (info.patch, info.compression, info.latent_channels) == ((1, 2, 2), (4, 16, 16), CHANNELS)
    assert info.joint and info.frame_cycle == CYCLE and CYCLE.fits(info.native_frames)


def test_a_call_is_one_block_over_the_whole_sequence(model: Any) -> None:
    whole = TEXT + AUDIO + VIDEO
    for block in range(LAYERS):
        assert classify(model, block, whole) == CallSite(block, "joint", TEXT + AUDIO, 0, TEXT, 6.0)
    for tokens in (whole - 1, whole + 1, VIDEO, VIDEO + TEXT):
        with pytest.raises(UnexpectedCallError):
            classify(model, 0, tokens)
    with pytest.raises(UnexpectedCallError, match="no block"):
        classify(model, LAYERS, whole)
    shifted = ((0, TEXT + 1, "text"), (TEXT + 1, TEXT + AUDIO, "audio"), SEQUENCE[2])
    with pytest.raises(UnexpectedCallError, match="7 tokens of text instead of 6"):
        classify(model, 0, whole, layout(*shifted))


def test_the_refiner_is_no_block(model: Any) -> None:
    whole = TEXT + AUDIO + VIDEO
    assert [classify(model, number, TEXT, refined=False).kind for number in (0, 1)] == ["other", "other"]
    assert classify(model, 2, whole, refined=False).block == 0
    assert classify(model, 0, whole).block == 0


def test_newer_hosts_tell_the_layout(model: Any) -> None:
    further = (
        (0, TEXT, "text"),
        (TEXT, TEXT + 9, "cond"),
        (TEXT + 9, TEXT + 18, "cond"),
        (TEXT + 18, TEXT + 18 + AUDIO, "audio"),
        (TEXT + 18 + AUDIO, TEXT + 18 + AUDIO + VIDEO, "video"),
    )
    options = {"minimax_h3_layout": layout(*further, origin=9.5)}
    found = classify(model, 2, TEXT + 18 + AUDIO + VIDEO, **options)
    assert found == CallSite(2, "joint", TEXT + 18 + AUDIO, 0, TEXT, 9.5)


def test_the_prompt_stands_behind_the_pictures_that_the_encoder_sees(model: Any) -> None:
    found = classify(model, 0, TEXT + AUDIO + VIDEO, tags=torch.tensor([1, 0, 0, 0, 1, 1]))
    assert (found.text_start, found.text_tokens) == (4, 2)


# Positions.


class KeysSeenError(Exception):
    """Ends a forward once the first block's keys are seen."""


def keys_of_a_forward(model: Any, tokens: int, moved: torch.Tensor | None = None) -> torch.Tensor:
    """Keys of the video in the first block of a forward with a text of so many tokens, with the positions that the
    host's layout has or, in token steps, `moved` ones [tokens, 3]."""
    from comfy.ldm.minimax.model import PackedLayout

    seen: list[torch.Tensor] = []

    def look(attention: Any, query: Any, key: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.append(key.clone())
        raise KeysSeenError

    generator = torch.Generator().manual_seed(3)
    latent = torch.randn(1, CHANNELS, 7, SIDE, SIDE, generator=generator)
    audio = torch.randn(1, 32, 2, AUDIO // 2, generator=generator)
    text = torch.randn(1, tokens, HEADS * HEAD_DIM, generator=generator)
    plan = PackedLayout(tokens, 7, SIDE, SIDE, AUDIO // 2)
    if moved is not None:
        # The host's rule for its own frames and rows, at others.
        start, side = plan.segments[-1][0], 32 / SIDE * 2
        times = [tokens + 5 / 3 * pictures_before(int(frame)) for frame in moved[:, 0]]
        plan.position_ids[start:, 0] = torch.tensor(times, dtype=torch.float64)
        plan.position_ids[start:, 1:] = moved[:, 1:].double() * side
    options = {"optimized_attention_override": look}
    with torch.inference_mode(), pytest.raises(KeysSeenError):
        model.get_model_object("diffusion_model")(
            [latent, audio],
            torch.tensor([500.0]),
            text,
            transformer_options=options,
            minimax_payload={"layout": plan},
        )
    return seen[0][:, :, -VIDEO:]


@pytest.mark.parametrize("offset", [(0, 0, 0), (5, 0, 0), (3, 0, 0), (0, 2, 0), (1, 1, 4)])
def test_rotated_keys_equal_those_of_a_forward_at_the_new_place(model: Any, offset: tuple[int, int, int]) -> None:
    """Latent frames are 1 and 4 pictures apart in time, wherever the video begins."""
    scheme = MiniMaxH3Family().rope_scheme(model.get_model_object("diffusion_model"), {})
    places = grid_positions(torch.arange(VIDEO), GRID)
    here = keys_of_a_forward(model, TEXT)
    if offset == (0, 0, 0):
        assert torch.equal(here, keys_of_a_forward(model, TEXT, places))
    later = keys_of_a_forward(model, TEXT + 7, places + torch.tensor(offset))
    assert (later - here).abs().max() > 0.1
    steps = position_offsets(scheme, torch.tensor(offset), torch.arange(VIDEO), GRID)
    moved = rotate(here, scheme, steps + torch.tensor([7.0, 0, 0]))
    torch.testing.assert_close(moved, later, rtol=0, atol=2e-4)


def test_positions_follow_the_oracles_also_before_the_first_frame(model: Any) -> None:
    scheme = MiniMaxH3Family().rope_scheme(model.get_model_object("diffusion_model"), {})
    places = grid_positions(torch.arange(VIDEO), GRID)
    for offset in ([-9, 0, 0], [4, 1, -2], [-3, 0.5, 0]):
        steps = torch.tensor(offset, dtype=torch.float64)
        found = position_offsets(scheme, steps, torch.arange(VIDEO), GRID)
        here, there = (reference_positions(one.double(), scheme, GRID) for one in (places, places + steps))
        torch.testing.assert_close(found, there - here, rtol=0, atol=1e-9)


# Runs.


def film(script: str, window: int = 7, overlap: int = 2) -> Timeline:
    """Prompts whose words stand at tokens 0, 1 and 2."""
    timeline = plan_timeline(parse_script(script), window, overlap, 24, 4, frame_cycle=CYCLE)
    words = PromptWords(("fox", "runs"), ((0, 1), (2,)))
    return replace(timeline, beats=tuple(replace(beat, words=words) for beat in timeline.beats))


def prompts(timeline: Timeline, *tokens: int) -> list[Any]:
    """Texts of different lengths."""
    entries = [CASE.positive(timeline, count)[number] for number, count in enumerate(tokens)]
    assert len(entries) == len(timeline.beats)
    return entries


CONFIGS = {
    "same": KVShareConfig(share_background=True, position="same"),
    "centred": SHARED,
    "gap": KVShareConfig(share_background=True, position="gap", position_gap=4),
    "frame": KVShareConfig(share_background=True, position="frame"),
    "swap": KVShareConfig(share_background=True, mode="swap", strength=0.7),
    "previous": KVShareConfig(sources="first and previous"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_every_call_equals_the_dense_reference_whatever_the_texts_lengths(
    model: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = film("fox runs\nfox runs\nfox runs" if name == "previous" else "fox runs\nfox runs")
    plan = make_plan(timeline, CONFIGS[name], "fox", None)
    scheme = MiniMaxH3Family().rope_scheme(model.get_model_object("diffusion_model"), {})
    oracle = Oracle(plan, scheme)
    monkeypatch.setattr(SamplingRun, "attend", oracle.attend(SamplingRun.attend))
    positive = prompts(timeline, *(4, 9, 6)[: len(timeline.beats)])
    found = sample_with_audio(
        Sampling(), apply(model, plan)[0], positive, CASE.negative(timeline), CASE.shape(timeline)
    )
    assert torch.isfinite(found).all()
    assert set(oracle.checked) == set(range(1, len(timeline.segments)))


def spied(model: Any, timeline: Timeline, seen: list[Any]) -> Any:
    """The patched model; `seen` collects of every forward the number of its list and what it is told."""

    def spy(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((args[5]["context_window"].segment.index, kwargs["latent_shapes"], kwargs["minimax_payload"]))
        return executor(*args, **kwargs)

    patched, _ = share(model, timeline, SHARED, subject="")
    patched.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "spy", spy)
    return patched


def test_segments_have_the_audio_and_the_layout_of_their_own_pictures(model: Any) -> None:
    timeline = film("[2s] fox runs")
    assert [segment.start for segment in timeline.segments] == [0, 5, 10]
    seen: list[Any] = []
    sample_with_audio(
        Sampling(steps=1, cfg=1.0), spied(model, timeline, seen), CASE.positive(timeline), [], CASE.shape(timeline)
    )
    for _, shapes, payload in seen:
        # 22 pictures from picture 0, 17 and 34 on, at 40 steps for 24 pictures.
        steps = 37
        assert [tuple(shape) for shape in shapes] == [(1, CHANNELS, 7, SIDE, SIDE), (1, 32, 2, steps)]
        assert payload["layout"].signature == (6, 7, SIDE, SIDE, steps)


def test_first_and_last_pictures_go_to_the_segments_that_have_their_frames(model: Any) -> None:
    case = CASES["minimax h3 i2v"]
    timeline = film("[2s] fox runs\n[1s] fox runs")
    seen: list[Any] = []
    sample_with_audio(
        Sampling(steps=1, cfg=1.0), spied(model, timeline, seen), case.positive(timeline), [], case.shape(timeline)
    )
    assert [index for index, *_ in seen] == [segment.index for segment in timeline.segments]
    for index, _, payload in seen:
        found = [keyframe["resolved_frame_index"] for keyframe in payload["keyframes"]]
        assert found == ([0] if index == 0 else [21] if index == len(seen) - 1 else [])
        assert len(payload["cond_video_latents"]) == len(found)
        kinds = [kind for *_, kind in payload["layout"].segments]
        assert kinds == ["text", *["cond"] * len(found), "audio", "video"]


def entry_with(layout: Any, *keyframes: dict[str, Any]) -> dict[str, Any]:
    """A conditioning as the host processes it, with pictures and one reference."""
    reference = {"kind": "image", "latent_h": 4, "latent_w": 4, "latent": torch.full((1, CHANNELS, 1, 4, 4), 9.0)}
    told = {"layout": layout, "keyframes": list(keyframes), "refs": [reference], "seed": 3}
    return {
        "model_conds": {
            "c_crossattn": CONDRegular(torch.zeros(1, TEXT, 8)),
            "minimax_payload": CONDConstant(told),
        }
    }


def keyframe_at(picture: int, frames: int = 1) -> dict[str, Any]:
    return {"resolved_frame_index": picture, "latent": torch.full((1, CHANNELS, frames, SIDE, SIDE), float(picture))}


def test_newer_hosts_take_pictures_at_any_frame_of_a_segment(model: Any) -> None:
    """Their layouts have no parameter for the number of pictures, and count from the video's first frame."""
    from comfy.ldm.minimax.model import PackedLayout

    class NewerLayout(PackedLayout):
        def __init__(
            self,
            text_len: int,
            latent_t: int,
            latent_h: int,
            latent_w: int,
            audio_t: int,
            keyframes: Any = None,
            refs: Any = None,
        ) -> None:
            super().__init__(text_len, latent_t, latent_h, latent_w, audio_t, refs=refs)
            self.frames = [one["resolved_frame_index"] for one in keyframes or ()]

    timeline = film("[2s] fox runs")
    pictures = (keyframe_at(0), keyframe_at(20), keyframe_at(30, 2), keyframe_at(55))
    shapes = ((1, CHANNELS, 7, SIDE, SIDE), (1, 32, 2, 37))
    expected = ([0, 20], [3, 13], [21])
    for kind, ends_only in ((NewerLayout, False), (PackedLayout, True)):
        entry = entry_with(kind(TEXT, 17, SIDE, SIDE, 93), *pictures)
        for segment, places in zip(timeline.segments, expected, strict=True):
            fitted = fit_sequence(entry, ["minimax_payload"], shapes, segment, timeline)
            told = fitted["model_conds"]["minimax_payload"].cond
            wanted = [place for place in places if not ends_only or place in (0, 21)]
            assert [one["resolved_frame_index"] for one in told["keyframes"]] == wanted
            assert told["layout"].signature == (TEXT, 7, SIDE, SIDE, 37) and told["seed"] == 3
            if not ends_only:
                assert told["layout"].frames == wanted
            start = timeline.picture_range(0, segment.start)[1]
            *given, reference = (float(latent.mean()) for latent in told["cond_video_latents"])
            assert [value - start for value in given] == wanted and reference == 9
        assert entry["model_conds"]["minimax_payload"].cond["keyframes"] == list(pictures)


def test_sound_at_a_frame_is_refused(model: Any) -> None:
    timeline = film("[2s] fox runs")
    entry = entry_with(None, {**keyframe_at(0), "audio_latent": torch.zeros(1, 32, 2, 4)})
    with pytest.raises(ValueError, match=r"^Mask-Guided KV Share: the conditioning has sound at a frame"):
        fit_sequence(entry, ["minimax_payload"], (), timeline.segments[0], timeline)


def test_inputs_of_the_audio_are_cut_with_it(model: Any) -> None:
    """Newer hosts give the model a noise mask of the audio of its own."""
    timeline = film("[2s] fox runs")
    parts, shapes = pack_latents([torch.zeros(1, CHANNELS, 17, SIDE, SIDE), torch.zeros(1, 32, 2, 93)])
    mask = torch.arange(93.0).expand(1, 1, 2, 93)
    conds = {"latent_shapes": CONDConstant(shapes), "audio_denoise_mask": CONDRegular(mask)}
    entry = {"model_conds": conds, "uuid": uuid.uuid4()}
    latent = latent_of(parts, [[entry]], timeline, AUDIO_OF_H3)
    handler = SegmentHandler(timeline, INPUTS, audio=AUDIO_OF_H3)
    for segment, start in zip(timeline.segments, (0, 28, 56), strict=True):
        (fitted,) = latent.conditioning([entry], segment.index, handler.inputs("audio")) or []
        assert torch.equal(fitted["model_conds"]["audio_denoise_mask"].cond, mask[..., start : start + 37])


def test_a_transition_between_texts_of_different_lengths_has_a_tag_for_every_row(model: Any) -> None:
    timeline = plan_timeline(
        parse_script("fox runs\nfox runs"), 7, 2, 24, 4, num_transition_blocks=1, frame_cycle=CYCLE
    )
    seen: list[Any] = []
    found = sample_with_audio(
        Sampling(steps=1, cfg=1.0), spied(model, timeline, seen), prompts(timeline, 4, 9), [], CASE.shape(timeline)
    )
    assert torch.isfinite(found).all()
    assert [(index, len(payload["text_token_tags"])) for index, _, payload in seen] == [(0, 4), (1, 9), (2, 9)]


def test_audio_of_another_length_is_refused_with_what_fits(model: Any) -> None:
    timeline = film("fox runs\nfox runs")
    with pytest.raises(ValueError, match=r"60 steps of audio, but 39 pictures at 24 a second last 65\. Connect"):
        sample_with_audio(
            Sampling(), share(model, timeline)[0], CASE.positive(timeline), [], CASE.shape(timeline), steps=60
        )


def test_a_timeline_of_another_model_is_refused(model: Any) -> None:
    with pytest.raises(ValueError, match=r"^timeline: it was planned for another model"):
        share(model, tiny_timeline(2))


def test_held_frames_and_their_sound_come_out_bit_for_bit(model: Any) -> None:
    timeline = film("fox runs\nfox runs\nfox runs")
    shape = CASE.shape(timeline)
    steps = round(timeline.frames / 24 * 40)
    generator = torch.Generator().manual_seed(7)
    video, audio = (torch.randn(size, generator=generator) for size in (shape, (1, 32, 2, steps)))
    masks = [redo_mask(timeline, video, 2), torch.zeros(1, 1, 2, steps)]
    # From the first to the last picture that beat 2 counts in.
    pictures = timeline.picture_range(timeline.beats[0].stop - 2, timeline.beats[1].stop)
    first, stop = (round(picture * steps / timeline.frames) for picture in pictures)
    masks[1][..., first:stop] = 1
    forwards = Counter[int]()
    patched, _ = share(counting_segments(model, forwards), timeline, KVShareConfig(mode="off"), subject="")
    found = Sampling(cfg=1.0).run(
        patched,
        CASE.positive(timeline),
        [],
        shape,
        noise=NestedTensor([torch.randn(part.shape, generator=generator) for part in (video, audio)]),
        latent=NestedTensor([video, audio]),
        noise_mask=NestedTensor(masks),
    )
    for part, before, mask in zip(found.unbind(), (video, audio), masks, strict=True):
        held = mask.expand(before.shape) == 0
        assert torch.equal(part[held], before[held]) and not torch.equal(part[~held], before[~held])
    assert set(forwards) == {0, 1, 2}
