"""Films whose segments are finished one after the other, against the stock model on one window after the other."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy.patcher_extension import WrappersMP

from kvshare_core.config import KVShareConfig
from kvshare_core.host import BEAT_TAG
from kvshare_core.timeline.timeline import FRAME_DIM, Timeline
from tests.support.family_cases import CASES, FamilyCase, model_of
from tests.support.present import present
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import Sampling

CHAIN = KVShareConfig(mode="off", order="chain")
MODELS = ["wan t2v", "wan ti2v 5b", "ltxv", "hunyuan video", "cogvideox", "mochi"]
"""Some get held frames with the noise of the step, some without."""


def noise_of(case: FamilyCase, timeline: Timeline) -> torch.Tensor:
    return torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(5))


def film(case: FamilyCase, timeline: Timeline, config: KVShareConfig, **kwargs: Any) -> torch.Tensor:
    """The film as the pack samples it."""
    noise = noise_of(case, timeline)
    model = share(model_of(case.name), timeline, config)[0]
    positive, negative = case.positive(timeline), case.negative(timeline)
    return case.run(Sampling(steps=3), model, positive, negative, case.shape(timeline), noise=noise, **kwargs)


def one_window_after_the_other(case: FamilyCase, timeline: Timeline) -> torch.Tensor:
    """The same by the stock model: every window alone, with what is finished of it held by a noise mask."""
    noise, latent = noise_of(case, timeline), torch.zeros(case.shape(timeline))
    finished = torch.zeros(timeline.latent_frames, dtype=torch.bool)
    for segment in timeline.segments:
        window = slice(segment.start, segment.stop)
        text = [entry for entry in case.positive(timeline) if entry[1][BEAT_TAG] == segment.beat]
        mask = (~finished[window]).float().reshape(1, 1, -1, 1, 1).expand(1, 1, segment.length, *latent.shape[3:])
        latent[:, :, window] = case.run(
            Sampling(steps=3),
            model_of(case.name),
            text,
            case.negative(timeline),
            tuple(noise[:, :, window].shape),
            noise=noise[:, :, window],
            latent=latent[:, :, window],
            noise_mask=mask,
        )
        finished[window] = True
    return latent


@pytest.mark.parametrize("name", MODELS)
def test_every_segment_goes_on_from_the_finished_frames_of_the_one_before(name: str) -> None:
    # Without conditioning for the video as a whole, which the stock model would have to be given cut.
    case, timeline = replace(present(name), per_video=lambda _: {}), tiny_timeline(3)
    expected = one_window_after_the_other(case, timeline)
    torch.testing.assert_close(film(case, timeline, CHAIN), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["wan t2v", "ltxv"])
def test_segments_of_a_chain_attend_to_the_finished_source(name: str) -> None:
    case, timeline = CASES[name], tiny_timeline(3)
    plain, shared = (film(case, timeline, replace(CHAIN, mode=mode, strength=1.0)) for mode in ("off", "extend"))
    torch.testing.assert_close(shared[:, :, :3], plain[:, :, :3], rtol=1e-4, atol=1e-4)
    assert (shared[:, :, 3:] - plain[:, :, 3:]).abs().max() > 1e-3 * plain.abs().max()


def test_what_the_user_holds_stays_held() -> None:
    case, timeline = CASES["wan t2v"], tiny_timeline(3)
    existing = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7))
    mask = torch.ones(1, 1, *existing.shape[2:])
    mask[:, :, 2:4] = 0
    output = film(case, timeline, CHAIN, latent=existing, noise_mask=mask)
    assert torch.equal(output[:, :, 2:4], existing[:, :, 2:4])
    assert not torch.equal(output[:, :, 0], existing[:, :, 0]) and not torch.equal(output[:, :, 5], existing[:, :, 5])


def test_a_run_that_leaves_noise_goes_on_from_what_the_model_predicts() -> None:
    """The latent keeps its noise for the next sampler, which makes another chain of it."""
    case, timeline, steps = CASES["wan t2v"], tiny_timeline(2), 4
    model = share(model_of(case.name), timeline, CHAIN)[0]
    positive, negative, noise = case.positive(timeline), case.negative(timeline), noise_of(case, timeline)
    sampling, shape = Sampling(steps=steps), case.shape(timeline)
    left = sampling.run(model, positive, negative, shape, noise=noise, last_step=2, force_full_denoise=False)
    # The first segment is the stock model's first half; of the second, what is held was no part of the noise.
    alone = sampling.run(
        model_of(case.name),
        [positive[0]],
        negative,
        tuple(noise[:, :, :3].shape),
        noise=noise[:, :, :3],
        last_step=2,
        force_full_denoise=False,
    )
    torch.testing.assert_close(left[:, :, :3], alone, rtol=1e-4, atol=1e-4)
    done = sampling.run(
        model, positive, negative, shape, noise=0 * noise, latent=left, start_step=2, disable_noise=True
    )
    rest = sampling.run(
        model_of(case.name),
        [positive[0]],
        negative,
        tuple(noise[:, :, :3].shape),
        noise=0 * noise[:, :, :3],
        latent=alone,
        start_step=2,
        disable_noise=True,
    )
    torch.testing.assert_close(done[:, :, :3], rest, rtol=1e-4, atol=1e-4)
    assert done.isfinite().all() and done[:, :, 3:].std() < 3 * done[:, :, :3].std()


def test_progress_counts_through_the_segments() -> None:
    case, timeline, counted = CASES["wan t2v"], tiny_timeline(3), []
    film(case, timeline, CHAIN, callback=lambda step, denoised, latent, steps: counted.append((step, steps)))
    assert counted == [(step, 9) for step in range(9)]


def test_drift_control_is_refused_in_a_chain() -> None:
    with pytest.raises(ValueError, match="drift_control compares segments that are denoised together"):
        replace(CHAIN, drift_control=0.5)


def test_an_image_model_is_given_the_finished_frames() -> None:
    case, timeline = CASES["wan first and last frame"], tiny_timeline(2)
    seen: list[torch.Tensor] = []

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(args[2])
        return executor(*args, **kwargs)

    model = model_of(case.name).clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", look)
    positive = [[text, {**extra, **image_of(timeline, extra[BEAT_TAG])}] for text, extra in case.positive(timeline)]
    chained = share(model, timeline, CHAIN, carry_image=True)[0]
    output = Sampling(steps=2, cfg=1.0).run(
        chained, positive, case.negative(timeline), case.shape(timeline), noise=noise_of(case, timeline)
    )
    finished = model.model.process_latent_in(output)[:, :, 2:3]
    last = seen[-1]
    assert last.shape[FRAME_DIM] == 3
    torch.testing.assert_close(last[:1, 4:, :1], finished, rtol=1e-4, atol=1e-4)
    assert last[:, :4, 0].eq(1).all() and last[:, :4, 1:].eq(0).all()


def test_an_image_model_is_given_frames_that_the_user_holds_in_a_segment_to_come() -> None:
    case, timeline = CASES["wan first and last frame"], tiny_timeline(2)
    seen: dict[int, torch.Tensor] = {}

    def look(executor: Any, *args: Any, **kwargs: Any) -> Any:
        seen[args[5]["context_window"].segment.index] = args[2]
        return executor(*args, **kwargs)

    model = model_of(case.name).clone()
    model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "test", look)
    positive = [[text, {**extra, **image_of(timeline, extra[BEAT_TAG])}] for text, extra in case.positive(timeline)]
    existing = torch.randn(case.shape(timeline), generator=torch.Generator().manual_seed(7))
    held = torch.ones(1, 1, *existing.shape[2:])
    held[:, :, 4] = 0
    chained = share(model, timeline, CHAIN, carry_image=True)[0]
    options: dict[str, Any] = {"noise": noise_of(case, timeline), "latent": existing, "noise_mask": held}
    run = Sampling(steps=2, cfg=1.0).run
    output = run(chained, positive, case.negative(timeline), case.shape(timeline), **options)
    expected = model.model.process_latent_in(output)[:, :, [2, 4]]
    assert [segment.start for segment in timeline.segments] == [0, 2]
    torch.testing.assert_close(seen[1][:1, 4:, [0, 2]], expected, rtol=1e-4, atol=1e-4)
    assert seen[1][:, :4].amax((0, 1, 3, 4)).tolist() == [1, 0, 1]


def image_of(timeline: Timeline, beat: int) -> dict[str, torch.Tensor]:
    """An image in the first latent frame of the first beat, none in the others."""
    image = torch.randn(1, 16, timeline.latent_frames, 6, 6, generator=torch.Generator().manual_seed(beat))
    mask = torch.ones(1, 4, timeline.latent_frames, 6, 6)
    mask[:, :, 0] = float(beat > 0)
    return {"concat_latent_image": image, "concat_mask": mask}
