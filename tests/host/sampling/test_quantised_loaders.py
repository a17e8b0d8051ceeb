"""MODELs with quantised weights, as loaders of GGUF files make them: their operations dequantise weights on use, and a
ModelPatcher subclass patches them only then."""

from collections.abc import Iterator
from typing import Any

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.sd
import pytest
import torch

from kvshare_core.host.loading.loading import model_report
from tests.support.family_cases import CASES, FamilyCase
from tests.support.family_contracts import CONTRACTS, SHARED, sample
from tests.support.windows import share, tiny_timeline
from tests.tiny.models import random_text, tiny_wan

State = dict[str, torch.Tensor]

NAME = "wan t2v in int8"
LORA_KEY = "diffusion_model.blocks.1.self_attn.k.weight"


class Int8Operations(comfy.ops.manual_cast):
    """Layers whose matrices lie in int8 with a scale for each row and are made anew in every forward."""

    class Linear(comfy.ops.manual_cast.Linear):
        scale: torch.Tensor | None = None
        patches: tuple[Any, ...] = ()

        def _load_from_state_dict(self, state_dict: State, prefix: str, *args: Any) -> None:
            self.weight = torch.nn.Parameter(state_dict[prefix + "weight"], requires_grad=False)
            if prefix + "bias" in state_dict:
                self.bias = torch.nn.Parameter(state_dict[prefix + "bias"], requires_grad=False)
            self.scale = state_dict.get(prefix + "scale")

        def forward(self, input: torch.Tensor) -> torch.Tensor:
            weight = self.weight if self.scale is None else self.weight * self.scale.to(input.device)
            if self.patches:
                weight = comfy.lora.calculate_weight(list(self.patches), weight.clone(), LORA_KEY)
            bias = None if self.bias is None else self.bias.to(input)
            return torch.nn.functional.linear(input, weight.to(input), bias)


class Int8Patcher(comfy.model_patcher.ModelPatcher):
    """Leaves quantised weights as they are and hands their patches to the layers; `loader` is an attribute of its
    own."""

    loader = ""

    def patch_weight_to_device(self, key: str, *args: Any, **kwargs: Any) -> Any:
        layer = self.model.get_submodule(key.rpartition(".")[0])
        if getattr(layer, "scale", None) is None or not key.endswith("weight"):
            return super().patch_weight_to_device(key, *args, **kwargs)
        layer.patches = tuple(self.patches.get(key, ()))
        return None

    def unpatch_model(self, *args: Any, **kwargs: Any) -> Any:
        for layer in self.model.modules():
            if getattr(layer, "scale", None) is not None:
                layer.patches = ()
        return super().unpatch_model(*args, **kwargs)

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        copy = super().clone(*args, **kwargs)
        copy.loader = self.loader
        return copy


def quantised(weights: State) -> State:
    """The weights with their matrices in int8 and a scale for each row."""
    state: State = {}
    for name, weight in weights.items():
        if name.endswith(".weight") and weight.ndim == 2:
            scale = weight.abs().amax(1, keepdim=True) / 127
            state[name] = (weight / scale).round().to(torch.int8)
            state[name.removesuffix("weight") + "scale"] = scale
        else:
            state[name] = weight
    return state


def restored(weights: State) -> State:
    """The matrices that the layers make of quantised weights."""
    return {
        name: weight * weights[name.removesuffix("weight") + "scale"] if weight.dtype == torch.int8 else weight
        for name, weight in weights.items()
        if not name.endswith("scale")
    }


def load_int8(weights: State) -> Any:
    """What such a loader node gives."""
    loaded = comfy.sd.load_diffusion_model_state_dict(
        dict(weights), model_options={"custom_operations": Int8Operations}
    )
    patcher = Int8Patcher(loaded.model, loaded.load_device, loaded.offload_device)
    patcher.loader = "int8"
    return patcher


@pytest.fixture(scope="module")
def weights() -> State:
    return quantised(tiny_wan().model.diffusion_model.state_dict())


@pytest.fixture(scope="module")
def case(weights: State) -> Iterator[FamilyCase]:
    """The contracts' case of a quantised Wan."""
    CASES[NAME] = FamilyCase(
        NAME, "wan", lambda: load_int8(weights), lambda seed, tokens: (random_text(seed, tokens), {})
    )
    yield CASES[NAME]
    del CASES[NAME]


@pytest.fixture
def model(weights: State) -> Any:
    return load_int8(weights)


@pytest.mark.parametrize(
    "contract",
    [
        "one_segment_is_the_stock_model",
        "off_is_off",
        "sharing_changes_later_segments_only",
        "a_rerun_is_equal",
        "nothing_stays_after_a_run",
        "the_subject_is_followed",
    ],
)
def test_contracts_hold_for_quantised_weights(case: FamilyCase, contract: str) -> None:
    CONTRACTS[contract](case)


def shared_video(case: FamilyCase, model: Any) -> torch.Tensor:
    timeline = tiny_timeline(2)
    return sample(case, share(model, timeline, SHARED)[0], timeline)


def test_a_quantised_model_shares_as_the_model_with_the_same_numbers(
    case: FamilyCase, model: Any, weights: State
) -> None:
    plain = comfy.sd.load_diffusion_model_state_dict(restored(weights))
    assert torch.equal(shared_video(case, model), shared_video(case, plain))
    layer = model.model.diffusion_model.blocks[1].self_attn.k
    assert layer.weight.dtype == torch.int8


def test_the_patched_model_is_one_of_the_loader_s_own_kind(case: FamilyCase, model: Any) -> None:
    patched = share(model, tiny_timeline(2), SHARED)[0]
    for patcher in (patched, patched.clone()):
        assert type(patcher) is Int8Patcher
        assert patcher.loader == "int8"
    assert patched.model is model.model


def test_patches_of_quantised_weights_are_made_where_these_are_used(case: FamilyCase, weights: State) -> None:
    generator = torch.Generator().manual_seed(3)
    patch = {LORA_KEY: ("diff", (torch.randn(128, 128, generator=generator) * 0.2,))}
    plain = comfy.sd.load_diffusion_model_state_dict(restored(weights))
    without = shared_video(case, plain)
    for first, second in ((plain, load_int8(weights)), (load_int8(weights), plain)):
        patched = [model.clone() for model in (first, second)]
        for model in patched:
            assert model.add_patches(patch) == [LORA_KEY]
        one, other = (shared_video(case, model) for model in patched)
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        assert (one - without).abs().max() > 1e-3
    assert torch.equal(shared_video(case, plain), without)


def test_the_report_names_int8_weights(model: Any) -> None:
    (line,) = (line for line in model_report(model).splitlines() if line.startswith("weight dtype"))
    assert "int8" in line
