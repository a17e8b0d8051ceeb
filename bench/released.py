"""The released models that benchmarks count with, built without memory by the host's own classes, on torch's meta
device."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Any

import torch

from kvshare_core.families import Family, FamilyInfo, find_family

Numbers = tuple[int, int, int]


@dataclass(frozen=True)
class Reference:
    """What a model's published sizes give by hand (2 FLOP for a multiplication and an addition, batch 1, no guidance):
    tokens, TFLOP of attention and in total, MiB of one block's keys and values in bf16, GiB of all blocks'."""

    tokens: int
    attention: float
    total: float
    block_mib: float
    all_gib: float


@dataclass(frozen=True)
class Released:
    """A released model: `build` makes its module on the meta device.

    latent: (frames, height, width). text: tokens of its text, which take part in joint attention or are attended to.
    wide: width of its feed-forward layers, for gated ones that of ungated layers of the same cost.
    """

    name: str
    module: str
    build: Callable[[Any], torch.nn.Module]
    channels: int
    latent: Numbers
    text: int
    wide: int
    reference: Reference | None = None


def wan(**numbers: Any) -> Callable[[Any], torch.nn.Module]:
    """A Wan of these numbers."""

    def build(module: Any) -> torch.nn.Module:
        return module.WanModel(
            **{"model_type": "t2v", "in_dim": 16, "out_dim": 16, "text_dim": 4096, **numbers}, **META
        )

    return build


def hunyuan(**numbers: Any) -> Callable[[Any], torch.nn.Module]:
    """A HunyuanVideo of these numbers; what a host's class does not know is left out."""
    settings = {
        "in_channels": 16,
        "out_channels": 16,
        "vec_in_dim": 768,
        "context_in_dim": 4096,
        "mlp_ratio": 4.0,
        "axes_dim": [16, 56, 56],
        "theta": 256,
        "patch_size": [1, 2, 2],
        "qkv_bias": True,
        "guidance_embed": True,
        "byt5": False,
        "meanflow": False,
        "meanflow_sum": False,
        "use_cond_type_embedding": False,
        "vision_in_dim": None,
        **numbers,
    }

    def build(module: Any) -> torch.nn.Module:
        known = {field.name for field in fields(module.HunyuanVideoParams)}
        return module.HunyuanVideo(**{name: value for name, value in settings.items() if name in known}, **META)

    return build


def of_class(name: str, **numbers: Any) -> Callable[[Any], torch.nn.Module]:
    """The class `name` of the module with these numbers."""

    def build(module: Any) -> torch.nn.Module:
        return getattr(module, name)(**numbers, **META)

    return build


META: dict[str, Any] = {"device": "meta", "dtype": torch.bfloat16}

COSMOS = {
    "max_img_h": 240,
    "max_img_w": 240,
    "max_frames": 128,
    "in_channels": 16,
    "out_channels": 16,
    "patch_spatial": 2,
    "patch_temporal": 1,
    "concat_padding_mask": True,
    "pos_emb_cls": "rope3d",
    "pos_emb_interpolation": "crop",
    "use_adaln_lora": True,
    "adaln_lora_dim": 256,
}
MOCHI = {
    "patch_size": 2,
    "in_channels": 12,
    "hidden_size_x": 3072,
    "hidden_size_y": 1536,
    "depth": 48,
    "num_heads": 24,
    "mlp_ratio_x": 4.0,
    "mlp_ratio_y": 4.0,
    "learn_sigma": False,
    "use_t5": True,
    "qk_norm": True,
    "qkv_bias": False,
    "out_bias": True,
    "attn_drop": 0.0,
    "posenc_preserve_area": True,
    "timestep_scale": 1000.0,
}
SMALL_WAN = {"dim": 1536, "ffn_dim": 8960, "num_heads": 12, "num_layers": 30}
LARGE_WAN = {"dim": 5120, "ffn_dim": 13824, "num_heads": 40, "num_layers": 40}
LARGE_HUNYUAN = {"hidden_size": 3072, "num_heads": 24, "depth": 20, "depth_single_blocks": 40}
HUNYUAN_15: dict[str, Any] = {
    "hidden_size": 2048,
    "num_heads": 16,
    "depth": 54,
    "depth_single_blocks": 0,
    "in_channels": 65,
    "out_channels": 32,
    "vec_in_dim": None,
    "context_in_dim": 3584,
    "patch_size": [1, 1, 1],
    "guidance_embed": False,
    "byt5": True,
    "use_cond_type_embedding": True,
    "vision_in_dim": 1152,
}

RELEASED = (
    Released(
        "CogVideoX-2B 480x720x49",
        "cogvideo.model",
        of_class("CogVideoXTransformer3DModel"),
        16,
        (13, 60, 90),
        226,
        7680,
        Reference(17776, 72.8, 120.0, 128.5, 3.8),
    ),
    Released(
        "CogVideoX-5B 480x720x49",
        "cogvideo.model",
        of_class(
            "CogVideoXTransformer3DModel",
            num_attention_heads=48,
            num_layers=42,
            use_rotary_positional_embeddings=True,
        ),
        16,
        (13, 60, 90),
        226,
        12288,
        Reference(17776, 163.1, 332.2, 205.7, 8.4),
    ),
    Released(
        "Wan 2.1-1.3B 480p 81 frames",
        "wan.model",
        wan(**SMALL_WAN),
        16,
        (21, 60, 104),
        512,
        8960,
        Reference(32760, 197.8, 283.0, 192.0, 5.6),
    ),
    Released(
        "Wan 2.1-1.3B 720p 81 frames",
        "wan.model",
        wan(**SMALL_WAN),
        16,
        (21, 90, 160),
        512,
        8960,
        Reference(75600, 1053.5, 1249.8, 443.0, 13.0),
    ),
    Released(
        "Wan 2.1-14B 480p 81 frames",
        "wan.model",
        wan(**LARGE_WAN),
        16,
        (21, 60, 104),
        512,
        13824,
        Reference(32760, 879.2, 1678.3, 639.8, 25.0),
    ),
    Released(
        "Wan 2.1-14B 720p 81 frames",
        "wan.model",
        wan(**LARGE_WAN),
        16,
        (21, 90, 160),
        512,
        13824,
        Reference(75600, 4682.0, 6523.3, 1476.6, 57.7),
    ),
    Released(
        "Wan 2.2-A14B, one expert, 640x640 81 frames", "wan.model", wan(**LARGE_WAN), 16, (21, 80, 80), 512, 13824
    ),
    Released("Wan 2.2-A14B, one expert, 480p", "wan.model", wan(**LARGE_WAN), 16, (21, 60, 104), 512, 13824),
    Released(
        "Wan 2.2-5B 704x1280 121 frames",
        "wan.model",
        wan(dim=3072, ffn_dim=14336, num_heads=24, num_layers=30, in_dim=48, out_dim=48),
        48,
        (31, 44, 80),
        512,
        14336,
    ),
    Released(
        "HunyuanVideo 720p 129 frames",
        "hunyuan_video.model",
        hunyuan(**LARGE_HUNYUAN),
        16,
        (33, 90, 160),
        256,
        12288,
        Reference(119056, 10450.5, 12068.4, 1392.2, 81.6),
    ),
    Released(
        "HunyuanVideo 544x960 129 frames",
        "hunyuan_video.model",
        hunyuan(**LARGE_HUNYUAN),
        16,
        (33, 68, 120),
        256,
        12288,
        Reference(67576, 3366.8, 4285.1, 788.9, 46.2),
    ),
    Released(
        "HunyuanVideo 1.5 480x848 121 frames",
        "hunyuan_video.model",
        hunyuan(**HUNYUAN_15),
        32,
        (31, 30, 53),
        1000,
        8192,
    ),
    Released(
        "HunyuanVideo 1.5 720x1280 121 frames",
        "hunyuan_video.model",
        hunyuan(**HUNYUAN_15),
        32,
        (31, 45, 80),
        1000,
        8192,
    ),
    Released(
        "LTX-Video 2B 704x1216 121 frames",
        "lightricks.model",
        of_class("LTXVModel"),
        128,
        (16, 22, 38),
        128,
        8192,
        Reference(13376, 41.0, 85.5, 104.5, 2.9),
    ),
    Released(
        "LTX-Video 13B 704x1216 121 frames",
        "lightricks.model",
        of_class("LTXVModel", attention_head_dim=128, num_layers=48, cross_attention_dim=4096),
        128,
        (16, 22, 38),
        128,
        16384,
    ),
    # Its released dimensions are the defaults of the host's class; the audio's tokens are too few to count.
    Released(
        "LTX-2 704x1216 121 frames",
        "lightricks.av_model",
        of_class("LTXAVModel"),
        128,
        (16, 22, 38),
        1024,
        16384,
    ),
    # Wider gates and modulation, but the same attention; the template's size.
    Released(
        "LTX-2.3 704x1280 121 frames",
        "lightricks.av_model",
        of_class("LTXAVModel", apply_gated_attention=True, cross_attention_adaln=True),
        128,
        (16, 22, 40),
        1024,
        16384,
    ),
    # The defaults of the host's class. What is counted as text is text and audio; its stream is narrower than its heads
    # together, and the feed-forward is as wide here as makes up for that.
    Released(
        "MiniMax H3 768x1344 124 frames",
        "minimax.model",
        of_class("MiniMaxH3Model"),
        32,
        (37, 48, 84),
        512 + 2 * 207,
        12543,
        Reference(38222, 2094.4, 3567.3, 1045.1, 51.0),
    ),
    Released(
        "MiniMax H3 768x1344 362 frames",
        "minimax.model",
        of_class("MiniMaxH3Model"),
        32,
        (107, 48, 84),
        512 + 2 * 603,
        12543,
    ),
    Released(
        "Mochi 1 480x848 163 frames",
        "genmo.joint_model.asymm_models_joint",
        of_class("AsymmDiTJoint", **MOCHI),
        12,
        (28, 60, 106),
        256,
        12288,
        Reference(44776, 1182.5, 1669.3, 521.7, 24.5),
    ),
    Released(
        "Cosmos 1 7B 704x1280 121 frames",
        "cosmos.model",
        of_class(
            "GeneralDIT",
            **COSMOS,
            block_config="FA-CA-MLP",
            block_x_format="THWBD",
            model_channels=4096,
            num_blocks=28,
            num_heads=32,
            affline_emb_norm=True,
            crossattn_emb_channels=1024,
        ),
        16,
        (16, 88, 160),
        512,
        16384,
    ),
    Released(
        "Cosmos Predict2 2B 720p 93 frames",
        "cosmos.predict2",
        of_class(
            "MiniTrainDIT", **COSMOS, model_channels=2048, num_blocks=28, num_heads=16, crossattn_emb_channels=1024
        ),
        16,
        (24, 88, 160),
        512,
        8192,
    ),
)


def released_module(released: Released) -> torch.nn.Module:
    """A released model without its weights. Raises ModuleNotFoundError where the host lacks its class."""
    import comfy.ops

    return released.build(_WithOperations(import_module(f"comfy.ldm.{released.module}"), comfy.ops.disable_weight_init))


def released_model(released: Released) -> tuple[torch.nn.Module, Family, FamilyInfo]:
    """The same, and what the pack says of it."""
    module = released_module(released)
    return module, *find_family(module, released.channels)


def released_info(released: Released) -> FamilyInfo:
    """What the pack says of a released model. Raises as `released_model`."""
    return released_model(released)[2]


class _WithOperations:
    """A module of the host whose classes are called with the host's plain operations."""

    def __init__(self, module: Any, operations: Any):
        self._module = module
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        if isinstance(found, type) and issubclass(found, torch.nn.Module):
            return lambda **numbers: found(operations=self._operations, **numbers)
        return found
