"""The lean transformer that training uses against the host's own Wan model."""

import comfy.sd
import pytest
import torch

from kvshare_core.embedded.layouts import TEXT_DIM
from kvshare_core.embedded.text import TEXT_WIDTH
from kvshare_core.embedded.training.transformer import TransformerShape, WanTransformer, parameter_count


def random_transformer(shape: TransformerShape) -> WanTransformer:
    torch.manual_seed(0)
    lean = WanTransformer(shape).requires_grad_(False)
    for name, parameter in lean.named_parameters():
        parameter.copy_(torch.randn(parameter.shape) * 0.1 + (1 if "norm" in name and name.endswith("weight") else 0))
    return lean


@pytest.mark.parametrize("shape", [TransformerShape(layers=3), TransformerShape(dim=256, ffn_dim=320, layers=2)])
def test_lean_forward_equals_the_hosts(shape: TransformerShape) -> None:
    lean = random_transformer(shape)
    model = comfy.sd.load_diffusion_model_state_dict(lean.state_dict(), model_options={"dtype": torch.float32})
    host = model.model.diffusion_model
    latents = torch.randn(2, shape.channels, 3, 4, 6)
    timestep = torch.tensor([17.0, 850.0])
    text = torch.randn(2, 16, TEXT_DIM)
    with torch.inference_mode():
        expected = host(latents, timestep, text, transformer_options={})
        torch.testing.assert_close(lean(latents, timestep, text), expected, atol=1e-4, rtol=1e-4)


def test_narrow_text_stands_for_text_padded_with_zeros() -> None:
    lean = random_transformer(TransformerShape(layers=1))
    text = torch.randn(1, 16, TEXT_WIDTH)
    padded = torch.cat([text, torch.zeros(1, 16, TEXT_DIM - TEXT_WIDTH)], dim=-1)
    torch.testing.assert_close(lean.embed_text(text), lean.embed_text(padded), atol=1e-5, rtol=1e-5)


def test_fresh_transformer_predicts_nothing_and_counts_its_parameters() -> None:
    lean = WanTransformer(TransformerShape(layers=1))
    with torch.inference_mode():
        assert lean(torch.randn(1, 16, 1, 4, 4), torch.tensor([500.0]), torch.randn(1, 16, TEXT_WIDTH)).abs().max() == 0
    assert parameter_count(lean) == sum(parameter.numel() for parameter in lean.parameters())
