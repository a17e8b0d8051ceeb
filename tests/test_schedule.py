"""Sampler steps are told from sigmas alone, for every scheduler of the host and for samplers that call the model in
between."""

import comfy.samplers
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvshare_core.config import KVShareConfig
from kvshare_core.schedule import shares_block, shares_step, step_of
from tests.tiny_models import tiny_wan

FALLING = st.lists(st.integers(1, 10_000), min_size=1, max_size=12, unique=True).map(
    lambda numbers: [*sorted((number / 1000 for number in numbers), reverse=True), 0.0]
)


@given(FALLING, st.data())
def test_a_sigma_belongs_to_the_step_it_lies_in(sigmas: list[float], data: st.DataObject) -> None:
    step = data.draw(st.integers(0, len(sigmas) - 2))
    between = data.draw(st.floats(0.01, 1.0))
    assert step_of(sigmas[step], sigmas) == step
    assert step_of(sigmas[step + 1] + between * (sigmas[step] - sigmas[step + 1]), sigmas) == step


@given(FALLING, st.floats(1.0, 100.0))
def test_a_sigma_above_the_first_belongs_to_the_first_step(sigmas: list[float], factor: float) -> None:
    assert step_of(sigmas[0] * factor, sigmas) == 0


@pytest.fixture(scope="module")
def model_sampling() -> object:
    return tiny_wan(layers=1).get_model_object("model_sampling")


@pytest.mark.parametrize("scheduler", comfy.samplers.SCHEDULER_NAMES)
@pytest.mark.parametrize("steps", [1, 4, 20])
def test_every_scheduler_of_the_host_gives_its_steps(model_sampling: object, scheduler: str, steps: int) -> None:
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, scheduler, steps)
    strictly_falling = bool((sigmas.diff() < 0).all())
    steps_found = [step_of(float(sigma), sigmas.tolist()) for sigma in sigmas[:-1]]
    if strictly_falling:
        assert steps_found == list(range(len(sigmas) - 1))
    else:
        # A repeated sigma is one step for the model: the numbers still never fall.
        assert steps_found == sorted(steps_found)


def test_sigmas_keep_their_step_in_half_precision() -> None:
    sigmas = torch.linspace(1, 0, 21)
    assert [step_of(float(sigma), sigmas.tolist()) for sigma in sigmas[:-1].float()] == list(range(20))


@given(
    st.integers(0, 9),
    st.integers(-1, 12).filter(lambda end: end != 0),
    st.sets(st.integers(0, 12)),
    st.integers(0, 12),
)
def test_ranges_and_explicit_numbers_choose_steps_and_blocks(
    start: int, end: int, chosen: set[int], index: int
) -> None:
    if end != -1 and end <= start:
        return
    numbers = tuple(sorted(chosen))
    expected = index in chosen if chosen else index in range(start, 13 if end == -1 else end)
    assert shares_step(KVShareConfig(start_step=start, end_step=end, step_idx=numbers), index) == expected
    assert shares_block(KVShareConfig(start_layer=start, end_layer=end, layer_idx=numbers), index) == expected


@pytest.mark.parametrize("config", [KVShareConfig(mode="off"), KVShareConfig(strength=0.0)])
def test_no_step_shares_when_sharing_is_off(config: KVShareConfig) -> None:
    assert not any(shares_step(config, step) for step in range(20))
