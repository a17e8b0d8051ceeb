"""The lean transformers with joint attention that training uses against the host's own models of their layouts."""

import comfy.sd
import pytest
import torch

from kvshare_core.embedded.joint_transformer import POOLED_DIM, JointShape, JointTransformer
from kvshare_core.embedded.model import ONE_STREAM_ATTENTION, is_available
from kvshare_core.embedded.one_stream_transformer import OneStreamShape, OneStreamTransformer
from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.embedded.training.denoiser import make_transformer
from kvshare_core.embedded.transformer import parameter_count

FILE_LIMIT = 7_000_000
"""Bytes of the half-precision file, which is part of the node pack."""


def randomised(lean: torch.nn.Module) -> torch.nn.Module:
    """The same with seeded weights everywhere."""
    torch.manual_seed(0)
    for name, parameter in lean.requires_grad_(False).named_parameters():
        unit = "norm" in name and parameter.ndim == 1 and not name.endswith("bias")
        parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1 if unit else 0))
    return lean


@pytest.mark.parametrize(
    "shape", [JointShape(), JointShape(dim=256, double_blocks=1, single_blocks=2, text_dim=64)], ids=["own", "wider"]
)
def test_lean_forward_equals_hunyuan_video(shape: JointShape) -> None:
    lean = randomised(JointTransformer(shape))
    model = comfy.sd.load_diffusion_model_state_dict(lean.state_dict(), model_options={"dtype": torch.float32})
    assert type(model.model.model_config).__name__ == "HunyuanVideo"
    host = model.model.diffusion_model
    latents = torch.randn(2, shape.channels, 3, 4, 6)
    timestep = torch.tensor([17.0, 850.0])
    text = torch.randn(2, 24, shape.text_dim)
    pooled = torch.randn(2, POOLED_DIM)
    with torch.inference_mode():
        expected = host(latents, timestep, text, y=pooled, transformer_options={})
        torch.testing.assert_close(lean(latents, timestep, text, pooled), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(not is_available(ONE_STREAM_ATTENTION), reason="this host does not know the layout")
@pytest.mark.parametrize(
    "shape", [OneStreamShape(), OneStreamShape(dim=192, layers=2, time_dim=96, text_dim=64)], ids=["own", "wider"]
)
def test_lean_forward_equals_cogvideox(shape: OneStreamShape) -> None:
    lean = randomised(OneStreamTransformer(shape))
    model = comfy.sd.load_diffusion_model_state_dict(lean.state_dict(), model_options={"dtype": torch.float32})
    assert type(model.model.model_config).__name__ == "CogVideoX_T2V"
    host = model.model.diffusion_model
    latents = torch.randn(2, shape.channels, 3, 4, 6)
    timestep = torch.tensor([17.0, 850.0])
    text = torch.randn(2, 24, shape.text_dim)
    with torch.inference_mode():
        expected = host(latents, timestep, text, transformer_options={})
        torch.testing.assert_close(lean(latents, timestep, text), expected, atol=1e-4, rtol=1e-4)


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
