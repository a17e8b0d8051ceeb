"""The lean one-stream transformer that training uses against the host's own CogVideoX model."""

import comfy.sd
import pytest
import torch

from kvshare_core.embedded.one_stream_transformer import OneStreamShape, OneStreamTransformer
from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.embedded.transformer import parameter_count

FILE_LIMIT = 7_000_000
"""Bytes of the half-precision file, which is part of the node pack."""


@pytest.mark.parametrize(
    "shape", [OneStreamShape(), OneStreamShape(dim=192, layers=2, time_dim=96, text_dim=64)], ids=["own", "wider"]
)
def test_lean_forward_equals_the_hosts(shape: OneStreamShape) -> None:
    pytest.importorskip("comfy.ldm.cogvideo", reason="this host has no CogVideoX")
    torch.manual_seed(0)
    lean = OneStreamTransformer(shape).requires_grad_(False)
    for name, parameter in lean.named_parameters():
        unit = "norm" in name and "linear" not in name and name.endswith("weight")
        parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1 if unit else 0))
    model = comfy.sd.load_diffusion_model_state_dict(lean.state_dict(), model_options={"dtype": torch.float32})
    assert type(model.model.model_config).__name__ == "CogVideoX_T2V"
    host = model.model.diffusion_model
    latents = torch.randn(2, shape.channels, 3, 4, 6)
    timestep = torch.tensor([17.0, 850.0])
    text = torch.randn(2, 24, shape.text_dim)
    with torch.inference_mode():
        expected = host(latents, timestep, text, transformer_options={})
        torch.testing.assert_close(lean(latents, timestep, text), expected, atol=1e-4, rtol=1e-4)


def test_fresh_transformer_predicts_nothing_and_fits_the_pack() -> None:
    lean = OneStreamTransformer(OneStreamShape())
    with torch.inference_mode():
        assert lean(torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 24, TEXT_WIDTH)).abs().max() == 0
    assert 2 * parameter_count(lean) < FILE_LIMIT
