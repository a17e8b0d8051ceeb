"""Tiny models in native layouts with seeded random weights, loaded through the host's own loaders."""

from dataclasses import dataclass, fields
from typing import Any

import comfy.ops
import comfy.sample
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import comfy.text_encoders.genmo
import torch
from comfy.ldm.hunyuan_video.model import HunyuanVideo, HunyuanVideoParams
from comfy.ldm.wan.model import WanModel

CHANNELS = 16


def seeded_state_dict(module: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Every parameter of `module` drawn from a seeded normal distribution; norm weights are one."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, parameter in module.named_parameters():
        if "norm" in name and name.endswith("weight"):
            state[name] = torch.ones(parameter.shape)
        else:
            state[name] = torch.randn(parameter.shape, generator=generator) * 0.06
    return state


def tiny_wan(image_to_video: bool = False, layers: int = 3) -> Any:
    """A Wan MODEL of 128 channels; image-to-video takes 20 more input channels and a CLIP vision embedding."""
    module = WanModel(
        model_type="i2v" if image_to_video else "t2v",
        in_dim=CHANNELS + (20 if image_to_video else 0),
        dim=128,
        ffn_dim=256,
        freq_dim=256,
        text_dim=4096,
        out_dim=CHANNELS,
        num_heads=1,
        num_layers=layers,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
    )
    return comfy.sd.load_diffusion_model_state_dict(seeded_state_dict(module))


def sized_wan(heads: int, layers: int) -> Any:
    """A Wan MODEL of `heads` * 128 channels whose activations stay near 1."""
    module = WanModel(
        model_type="t2v",
        in_dim=CHANNELS,
        dim=128 * heads,
        ffn_dim=256 * heads,
        freq_dim=256,
        text_dim=4096,
        out_dim=CHANNELS,
        num_heads=heads,
        num_layers=layers,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
    )
    return comfy.sd.load_diffusion_model_state_dict(lively_state_dict(module))


def random_text(seed: int, tokens: int = 6) -> torch.Tensor:
    """A text embedding as Wan's encoder gives it."""
    return torch.randn(1, tokens, 4096, generator=torch.Generator().manual_seed(seed))


def one_prompt(seed: int = 99, tokens: int = 6, **extra: Any) -> list[Any]:
    """Conditioning of one seeded text for the whole video."""
    return [[random_text(seed, tokens), dict(extra)]]


@dataclass(frozen=True)
class Sampling:
    """Settings of one stock sampling run."""

    steps: int = 2
    cfg: float = 3.0
    sampler: str = "euler"
    scheduler: str = "simple"
    seed: int = 1

    def run(
        self,
        model: Any,
        positive: list[Any],
        negative: list[Any],
        shape: tuple[int, ...],
        noise: Any = None,
        latent: Any = None,
        **kwargs: Any,
    ) -> Any:
        """Samples a `latent`, zeros of `shape` unless given, with the host's stock sampler, from `noise` or from seeded
        noise."""
        if noise is None:
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(5))
        with torch.inference_mode():
            return comfy.sample.sample(
                model,
                noise,
                self.steps,
                self.cfg,
                self.sampler,
                self.scheduler,
                positive,
                negative,
                torch.zeros(shape) if latent is None else latent,
                disable_pbar=True,
                seed=self.seed,
                **kwargs,
            )


def tiny_text_encoder(kind: str) -> Any:
    """A CLIP with a tokenizer of the host that needs no download, `t5` or `clip_l`, and a transformer of 2 layers."""
    tokenizer, encoder, sizes = {
        "t5": (
            comfy.text_encoders.genmo.MochiT5Tokenizer,
            comfy.text_encoders.genmo.mochi_te(),
            {"t5xxl_model_config": {"d_ff": 64, "d_model": 32, "d_kv": 8, "num_heads": 4, "num_layers": 2}},
        ),
        "clip_l": (
            comfy.sd1_clip.SD1Tokenizer,
            comfy.sd1_clip.SD1ClipModel,
            {
                "clip_l_model_config": {
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_attention_heads": 2,
                    "num_hidden_layers": 2,
                    "projection_dim": 32,
                }
            },
        ),
    }[kind]
    target = comfy.supported_models_base.ClipTarget(tokenizer, encoder)
    clip = comfy.sd.CLIP(target, parameters=1, model_options=sizes)
    clip.cond_stage_model.load_state_dict(seeded_state_dict(clip.cond_stage_model), strict=False)
    return clip


JOINT_TEXT_WIDTH = 64
POOLED_WIDTH = 768


def tiny_hunyuan(double: int = 2, single: int = 2, heads: int = 1) -> Any:
    """A HunyuanVideo MODEL of `heads` * 128 channels whose video and text attend to each other in one call a block."""
    sizes: dict[str, Any] = {
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "vec_in_dim": POOLED_WIDTH,
        "context_in_dim": JOINT_TEXT_WIDTH,
        "hidden_size": heads * 128,
        "mlp_ratio": 4.0,
        "num_heads": heads,
        "depth": double,
        "depth_single_blocks": single,
        "axes_dim": [16, 56, 56],
        "theta": 256,
        "patch_size": [1, 2, 2],
        "qkv_bias": True,
        "guidance_embed": True,
        "byt5": False,
        "meanflow": False,
        "use_cond_type_embedding": False,
        "vision_in_dim": None,
        "meanflow_sum": False,
    }
    known = {field.name for field in fields(HunyuanVideoParams)}
    module = HunyuanVideo(
        image_model="hunyuan_video",
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
        **{name: size for name, size in sizes.items() if name in known},
    )
    return comfy.sd.load_diffusion_model_state_dict(lively_state_dict(module))


def lively_state_dict(module: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Seeded weights that keep activations near 1, so that attention is peaked and every input shows in the output."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, parameter in module.named_parameters():
        if name.endswith(("query_norm.scale", "query_norm.weight", "key_norm.scale", "key_norm.weight")):
            state[name] = torch.full(parameter.shape, 1.6)
        elif "norm" in name and name.endswith("weight"):
            state[name] = torch.ones(parameter.shape)
        else:
            spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            state[name] = torch.randn(parameter.shape, generator=generator) * spread
    return state


def joint_text(seed: int, tokens: int, real: int | None = None) -> tuple[torch.Tensor, dict[str, Any]]:
    """A text [1, tokens, 64] as HunyuanVideo's encoder gives it, with its pooled output.

    Where only `real` tokens are text, the extra dictionary has an attention mask with zeros for the padding after them.
    """
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(1, tokens, JOINT_TEXT_WIDTH, generator=generator)
    extra: dict[str, Any] = {"pooled_output": torch.randn(1, POOLED_WIDTH, generator=generator)}
    if real is not None and real < tokens:
        extra["attention_mask"] = (torch.arange(tokens) < real).long()[None]
    return tensor, extra
