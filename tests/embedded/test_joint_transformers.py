"""The lean transformers with joint attention that training uses against the host's own models of their layouts."""

import comfy.sd
import pytest
import torch

from kvshare_core.embedded.layouts import POOLED_DIM
from kvshare_core.embedded.model import JOINT_ATTENTION, ONE_STREAM_ATTENTION, EmbeddedKind
from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.embedded.training.denoiser import make_transformer
from kvshare_core.embedded.training.joint_transformer import JointShape, JointTransformer
from kvshare_core.embedded.training.one_stream_transformer import OneStreamShape
from kvshare_core.embedded.training.transformer import parameter_count
from tests.support.present import known

FILE_LIMIT = 7_500_000
"""Bytes of the half-precision file, which is part of the node pack."""


def randomised(lean: torch.nn.Module) -> torch.nn.Module:
    """The same with seeded weights everywhere."""
    torch.manual_seed(0)
    for name, parameter in lean.requires_grad_(False).named_parameters():
        unit = "norm" in name and parameter.ndim == 1 and not name.endswith("bias")
        parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1 if unit else 0))
    return lean


@pytest.mark.parametrize(
    ("shape", "attention", "host_name"),
    [
        (JointShape(), JOINT_ATTENTION, "HunyuanVideo"),
        (JointShape(dim=256, double_blocks=1, single_blocks=2, text_dim=64), JOINT_ATTENTION, "HunyuanVideo"),
        (OneStreamShape(), ONE_STREAM_ATTENTION, "CogVideoX_T2V"),
        (OneStreamShape(dim=192, layers=2, time_dim=96, text_dim=64), ONE_STREAM_ATTENTION, "CogVideoX_T2V"),
    ],
    ids=["joint", "joint, wider", "one-stream", "one-stream, wider"],
)
def test_lean_forward_equals_the_hosts(
    shape: JointShape | OneStreamShape, attention: EmbeddedKind, host_name: str
) -> None:
    known(attention)
    lean = randomised(make_transformer(shape))
    model = comfy.sd.load_diffusion_model_state_dict(lean.state_dict(), model_options={"dtype": torch.float32})
    assert type(model.model.model_config).__name__ == host_name
    latents = torch.randn(2, shape.channels, 3, 4, 6)
    timestep = torch.tensor([17.0, 850.0])
    text = torch.randn(2, 24, shape.text_dim)
    pooled = {"y": torch.randn(2, POOLED_DIM)} if isinstance(shape, JointShape) else {}
    with torch.inference_mode():
        expected = model.model.diffusion_model(latents, timestep, text, transformer_options={}, **pooled)
        torch.testing.assert_close(lean(latents, timestep, text, *pooled.values()), expected, atol=1e-4, rtol=1e-4)


def test_no_pooled_text_is_a_pooled_text_of_zeros() -> None:
    lean = randomised(JointTransformer(JointShape(double_blocks=1, single_blocks=1)))
    inputs = (torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 24, TEXT_WIDTH))
    with torch.inference_mode():
        assert torch.equal(lean(*inputs), lean(*inputs, torch.zeros(1, POOLED_DIM)))


@pytest.mark.parametrize("shape", [JointShape(), OneStreamShape()], ids=["joint", "one-stream"])
def test_fresh_transformer_predicts_nothing_and_fits_the_pack(shape: JointShape | OneStreamShape) -> None:
    lean = make_transformer(shape)
    with torch.inference_mode():
        assert lean(torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 24, TEXT_WIDTH)).abs().max() == 0
    assert 2 * parameter_count(lean) < FILE_LIMIT
