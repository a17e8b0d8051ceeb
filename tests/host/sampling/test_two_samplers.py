"""Two samplers of one film, as the two experts of Wan 2.2 take turns, wired by nothing but latent and conditioning."""

from typing import Any

import pytest
import torch
from nodes import KSamplerAdvanced

from kvshare_core.config import KVShareConfig
from kvshare_core.host.loading.model_files import EMBEDDED
from tests.support.node_calls import run_node, segmenter_inputs

STEPS, SPLIT = 4, 2


@pytest.fixture(scope="module")
def film() -> tuple[Any, tuple[Any, ...]]:
    """The embedded model and what the segmenter makes for it."""
    model, clip, *_ = run_node(
        "LoadVideoDiT", diffusion_model=EMBEDDED, text_encoder=EMBEDDED, vae=EMBEDDED, weight_dtype="default"
    )
    return model, run_node("LongVideoSegmenter", **segmenter_inputs(model, clip, noise="plain"))


def sampled(film: tuple[Any, tuple[Any, ...]], model: Any, latent: Any, first: int, last: int) -> dict[str, Any]:
    """Steps [first, last) of STEPS, at guidance 1, as ComfyUI's own templates split them."""
    _, (_, positive, negative, *_) = film
    with torch.inference_mode():
        return KSamplerAdvanced().sample(
            model,
            "enable" if first == 0 else "disable",
            7,
            STEPS,
            1.0,
            "euler",
            "simple",
            positive,
            negative,
            latent,
            first,
            last,
            "enable" if last < STEPS else "disable",
        )[0]


def patched(film: tuple[Any, tuple[Any, ...]], **settings: Any) -> Any:
    """A MODEL of its own for each sampler, as the two experts are."""
    model, (timeline, *_) = film
    config = KVShareConfig(mode="replace", strength=1.0, **settings)
    return run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="circle", config=config)[0]


def test_two_samplers_in_turn_make_the_film_of_one(film: tuple[Any, tuple[Any, ...]]) -> None:
    _, (_, _, _, latent, _) = film
    whole = sampled(film, patched(film), latent, 0, STEPS)["samples"]
    half = sampled(film, patched(film), latent, 0, SPLIT)
    done = sampled(film, patched(film), half, SPLIT, STEPS)["samples"]
    torch.testing.assert_close(done, whole, rtol=1e-4, atol=1e-4)
    # The second sampler without the masks of the first makes another film.
    half["samples"] = half["samples"] + 1e-2
    assert (sampled(film, patched(film), half, SPLIT, STEPS)["samples"] - whole).abs().max() > 1e-3


def test_a_chain_over_two_samplers_keeps_the_first_segment_and_finishes_the_others(
    film: tuple[Any, tuple[Any, ...]],
) -> None:
    _, (timeline, _, _, latent, _) = film
    whole = sampled(film, patched(film, order="chain"), latent, 0, STEPS)["samples"]
    half = sampled(film, patched(film, order="chain"), latent, 0, SPLIT)
    done = sampled(film, patched(film, order="chain"), half, SPLIT, STEPS)["samples"]
    own = timeline.segments[0].shown_stop
    torch.testing.assert_close(done[:, :, :own], whole[:, :, :own], rtol=1e-4, atol=1e-4)
    assert done.isfinite().all()
    # Later segments go on from estimates while noise is left, and so come out a little different.
    assert done[:, :, own:].std() == pytest.approx(float(whole[:, :, own:].std()), rel=0.5)
