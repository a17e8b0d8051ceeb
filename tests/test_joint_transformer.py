"""The lean joint-attention transformer that training uses against the host's own HunyuanVideo model."""

import comfy.sd
import pytest
import torch

from kvshare_core.embedded.joint_transformer import POOLED_DIM, JointShape, JointTransformer
from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.embedded.transformer import parameter_count

FILE_LIMIT = 7_000_000
"""Bytes of the half-precision file, which is part of the node pack."""


def random_transformer(shape: JointShape) -> JointTransformer:
    torch.manual_seed(0)
    lean = JointTransformer(shape).requires_grad_(False)
    for name, parameter in lean.named_parameters():
        unit = "norm" in name and not name.endswith("bias")
        parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1 if unit else 0))
    return lean


@pytest.mark.parametrize(
    "shape", [JointShape(), JointShape(dim=256, double_blocks=1, single_blocks=2, text_dim=64)], ids=["own", "wider"]
)
def test_lean_forward_equals_the_hosts(shape: JointShape) -> None:
    lean = random_transformer(shape)
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


def test_no_pooled_text_is_a_pooled_text_of_zeros() -> None:
    lean = random_transformer(JointShape(double_blocks=1, single_blocks=1))
    inputs = (torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 24, TEXT_WIDTH))
    with torch.inference_mode():
        assert torch.equal(lean(*inputs), lean(*inputs, torch.zeros(1, POOLED_DIM)))


def test_fresh_transformer_predicts_nothing_and_fits_the_pack() -> None:
    lean = JointTransformer(JointShape())
    with torch.inference_mode():
        assert lean(torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 24, TEXT_WIDTH)).abs().max() == 0
    assert 2 * parameter_count(lean) < FILE_LIMIT
