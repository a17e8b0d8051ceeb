"""Tiny models with self-attention, then cross-attention in each block: LTX-Video, Cosmos and Kandinsky 5."""

import json
from typing import Any

import comfy.model_detection
import comfy.ops
import comfy.sd
import torch
from comfy.ldm.cosmos.model import GeneralDIT
from comfy.ldm.cosmos.predict2 import MiniTrainDIT
from comfy.ldm.lightricks.model import LTXVModel
from comfy.model_patcher import ModelPatcher

BUILD: dict[str, Any] = {"operations": comfy.ops.disable_weight_init, "dtype": torch.float32, "device": "cpu"}

QUERY_AND_KEY_NORMS = tuple(
    f"{name}.weight" for name in ("q_norm", "k_norm", "query_norm", "key_norm", "to_q.1", "to_k.1")
)


def lively_state_dict(module: torch.nn.Module, gain: float = 1.6) -> dict[str, torch.Tensor]:
    """Seeded weights that keep activations near 1; `gain` of the query and key norms makes attention peaked."""
    generator = torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, parameter in module.named_parameters():
        if name.endswith(QUERY_AND_KEY_NORMS):
            state[name] = torch.full(parameter.shape, gain)
        elif "norm" in name and name.endswith("weight") and parameter.ndim == 1:
            state[name] = torch.ones(parameter.shape)
        else:
            spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            state[name] = torch.randn(parameter.shape, generator=generator) * spread
    return state


def load_with(state: dict[str, torch.Tensor], **sizes: Any) -> Any:
    """A MODEL from a checkpoint whose `sizes` the host would take for those of the published models."""
    config = comfy.model_detection.model_config_from_unet_config(
        {**comfy.model_detection.detect_unet_config(state, ""), **sizes}
    )
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model(state, "")
    model.diffusion_model.load_state_dict(state)
    return ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


LTXV_CHANNELS = 128
LTXV_TEXT_WIDTH = 64


def tiny_ltxv(layers: int = 3, heads: int = 4) -> Any:
    """An LTX-Video MODEL with heads of 32 channels, its sizes in a checkpoint's metadata."""
    sizes = {
        "num_attention_heads": heads,
        "attention_head_dim": 32,
        "cross_attention_dim": heads * 32,
        "caption_channels": LTXV_TEXT_WIDTH,
        "causal_temporal_positioning": True,
    }
    module = LTXVModel(in_channels=LTXV_CHANNELS, num_layers=layers, **sizes, **BUILD)
    metadata = {"config": json.dumps({"transformer": sizes})}
    return comfy.sd.load_diffusion_model_state_dict(lively_state_dict(module), metadata=metadata)


def masked_text(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as LTX-Video's encoder gives it: a whole-number mask hides the padding, here the last token."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, LTXV_TEXT_WIDTH, generator=generator)
    return tensor, {"attention_mask": (torch.arange(tokens) < tokens - 1).long()[None]}


COSMOS_CHANNELS = 16
PREDICT2_TEXT_WIDTH = 1024


def tiny_predict2(layers: int = 2) -> Any:
    """A Cosmos Predict2 video-to-world MODEL of 256 channels, its positions stretched as in the published ones."""
    module = MiniTrainDIT(
        max_img_h=240,
        max_img_w=240,
        max_frames=128,
        in_channels=COSMOS_CHANNELS + 1,
        out_channels=COSMOS_CHANNELS,
        patch_spatial=2,
        patch_temporal=1,
        model_channels=256,
        num_blocks=layers,
        num_heads=16,
        crossattn_emb_channels=PREDICT2_TEXT_WIDTH,
        pos_emb_cls="rope3d",
        use_adaln_lora=True,
        adaln_lora_dim=256,
        **BUILD,
    )
    return load_with(
        lively_state_dict(module),
        num_blocks=layers,
        rope_h_extrapolation_ratio=3.0,
        rope_w_extrapolation_ratio=3.0,
        rope_t_extrapolation_ratio=0.8,
    )


COSMOS_TEXT_WIDTH = 1024


def tiny_cosmos(layers: int = 2, heads: int = 4) -> Any:
    """A Cosmos 1 text-to-video MODEL of 128 channels; the hosts know the published numbers of blocks only."""
    module = GeneralDIT(
        max_img_h=240,
        max_img_w=240,
        max_frames=128,
        in_channels=COSMOS_CHANNELS,
        out_channels=COSMOS_CHANNELS,
        patch_spatial=2,
        patch_temporal=1,
        model_channels=128,
        num_blocks=layers,
        num_heads=heads,
        block_x_format="THWBD",
        crossattn_emb_channels=COSMOS_TEXT_WIDTH,
        pos_emb_cls="rope3d",
        affline_emb_norm=True,
        use_adaln_lora=True,
        adaln_lora_dim=32,
        extra_per_block_abs_pos_emb=True,
        extra_per_block_abs_pos_emb_type="learnable",
        **BUILD,
    )
    return load_with(lively_state_dict(module), num_blocks=layers, num_heads=heads, adaln_lora_dim=32)


KANDINSKY5_TEXT_WIDTH = 3584


def tiny_kandinsky5(layers: int = 2, text_layers: int = 2) -> Any:
    """A Kandinsky 5 MODEL of 128 channels in 2 heads. Raises ModuleNotFoundError on a host without the family."""
    from comfy.ldm.kandinsky5.model import Kandinsky5

    module = Kandinsky5(
        visual_embed_dim=132,
        model_dim=128,
        time_dim=32,
        ff_dim=128,
        num_text_blocks=text_layers,
        num_visual_blocks=layers,
        **BUILD,
    )
    return comfy.sd.load_diffusion_model_state_dict(lively_state_dict(module))


def pooled_text(seed: int, tokens: int) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text as Kandinsky 5's encoders give it, with the pooled output of the second."""
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, KANDINSKY5_TEXT_WIDTH, generator=generator)
    return tensor, {"pooled_output": torch.randn(1, 768, generator=generator)}
