"""Loads a video model with its text encoder and VAE through the host's own loaders."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import comfy.sd
import comfy.utils
import folder_paths
import torch

from ...choices import wrong_choice
from ...embedded.model import NATIVE_FRAMES, load_embedded
from ...embedded.vit3d_file import read_vit3d
from ...embedded.vit3d_model import load_vit3d, load_vit3d_clip, pixel_vae
from ...families import UnsupportedModelError
from ...families.base import FamilyInfo
from ...families.block_presets import preset_lines
from ..host_errors import host_errors
from . import cogvideox_keys
from .model_files import EMBEDDED, EMBEDDED_MODELS, ModelFiles, find_file, find_model, is_shard
from .model_headers import tensor_names
from .model_info import NATIVE_FRAMES_ATTACHMENT, SOURCE_ATTACHMENT, ModelSource, model_info
from .text_encoders import NO_FILE, check_text_encoders, load_text_encoders, text_encoder_files

FROM_CHECKPOINT = "from checkpoint"
"""Choice of the text encoder or VAE in the same file as the model."""

WEIGHT_DTYPES: dict[str, dict[str, Any]] = {
    "default": {},
    "fp8_e4m3fn": {"dtype": torch.float8_e4m3fn},
    "fp8_e5m2": {"dtype": torch.float8_e5m2},
    "fp8_e4m3fn_fast": {"dtype": torch.float8_e4m3fn, "fp8_optimizations": True},
    "bf16": {"dtype": torch.bfloat16},
    "fp16": {"dtype": torch.float16},
}
"""Options of the host's loader for each choice; `default` keeps the file's dtype, or lets the host choose."""


def text_encoder_names() -> list[str]:
    """The embedded model's own text encoder, the checkpoint's, and the user's files."""
    return [EMBEDDED, FROM_CHECKPOINT, *text_encoder_files()]


def second_text_encoder_names() -> list[str]:
    """None, and the user's text encoders."""
    return [NO_FILE, *text_encoder_files()]


def vae_names() -> list[str]:
    """The embedded model's own VAE, the checkpoint's, and the user's files."""
    return [EMBEDDED, FROM_CHECKPOINT, *folder_paths.get_filename_list("vae")]


def load_video_model(
    diffusion_model: str, text_encoder: str, vae: str, weight_dtype: str, text_encoder_2: str = NO_FILE
) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the named files.

    Small files are checked before large ones are loaded. Raises ValueError, naming the input, for names that do not fit
    together, and for files that are missing, that the host cannot load or that do not fit the model;
    families.UnsupportedModelError when the model is not a video diffusion transformer; FileNotFoundError when a file of
    an embedded model is missing.
    """
    if weight_dtype not in WEIGHT_DTYPES:
        raise ValueError(wrong_choice("weight_dtype", weight_dtype, tuple(WEIGHT_DTYPES)))
    _check_together(diffusion_model, text_encoder, vae, text_encoder_2)
    if diffusion_model in EMBEDDED_MODELS:
        kind = EMBEDDED_MODELS[diffusion_model]
        embedded = load_embedded(kind, model_options=WEIGHT_DTYPES[weight_dtype])
        embedded.model.set_attachments(NATIVE_FRAMES_ATTACHMENT, NATIVE_FRAMES.get(kind))
        return (_from_here(embedded.model, diffusion_model, weight_dtype), *embedded[1:])
    files = find_model(diffusion_model)
    if _is_whole(diffusion_model, files):
        return _load_whole(diffusion_model, files, text_encoder, vae, weight_dtype)
    _check_checkpoint(files, diffusion_model, text_encoder, vae)
    model, info = _load_diffusion_model(diffusion_model, files, weight_dtype)
    model = _from_here(model, diffusion_model, weight_dtype)
    model_file = files.paths[0] if len(files.paths) == 1 else None
    if text_encoder != FROM_CHECKPOINT:
        check_text_encoders(info, text_encoder, text_encoder_2, model_file)
    decoder = (
        _checkpoint_vae(diffusion_model, files)
        if vae == FROM_CHECKPOINT
        else _load_vae(find_file("vae", "vae", vae), vae)
    )
    _check_vae(decoder, vae, diffusion_model, info)
    if text_encoder == FROM_CHECKPOINT:
        return model, _checkpoint_clip(diffusion_model, files), decoder
    return model, load_text_encoders(info, text_encoder, text_encoder_2, model_file), decoder


def load_model(diffusion_model: str, weight_dtype: str) -> Any:
    """The MODEL of `load_video_model` alone. Raises the same."""
    if diffusion_model in EMBEDDED_MODELS:
        return load_video_model(diffusion_model, EMBEDDED, EMBEDDED, weight_dtype)[0]
    model = _load_diffusion_model(diffusion_model, find_model(diffusion_model), weight_dtype)[0]
    return _from_here(model, diffusion_model, weight_dtype)


def _from_here(model: Any, name: str, weight_dtype: str) -> Any:
    """`model`, which tells where it was loaded from."""
    model.set_attachments(SOURCE_ATTACHMENT, ModelSource("Load Video DiT", name, (("weight_dtype", weight_dtype),)))
    return model


def model_report(model: Any) -> str:
    """The properties of a MODEL, one per line. Raises families.UnsupportedModelError."""
    info = model_info(model)[1]
    cycle = info.frame_cycle
    pictures = (info.native_frames - 1) * info.compression[0] + 1 if cycle is None else cycle.before(info.native_frames)
    dtypes: Counter[str] = Counter()
    for parameter in model.get_model_object("diffusion_model").parameters():
        # Quantised weights report the dtype that they were quantised from.
        held = getattr(parameter, "_qdata", parameter)
        dtypes[str(held.dtype).removeprefix("torch.")] += parameter.numel()
    lines = {
        "family": info.family,
        "blocks": info.blocks,
        "heads": info.heads,
        "head size": info.head_dim,
        "patch (frames x height x width)": " x ".join(map(str, info.patch)),
        "compression (frames x height x width)": " x ".join(map(str, info.compression)),
        "latent channels": info.latent_channels,
        "native length": f"{info.native_frames} latent frames, {pictures} frames",
        "weight dtype": ", ".join(_shares(dtypes)),
        "parameters": _readable_count(dtypes.total()),
        **preset_lines(info.presets, info.blocks),
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items())


def load_model_files(paths: tuple[str, ...], model_options: Mapping[str, Any], disable_dynamic: bool = False) -> Any:
    """The MODEL of a file, or of all shards of one; also of a CogVideoX transformer as published.

    Newer hosts call this again for a further GPU, or to get the model without dynamic loading. Raises what the host's
    loader raises, RuntimeError when it does not know the model.
    """
    options: dict[str, Any] = {"disable_dynamic": True} if disable_dynamic else {}
    if len(paths) == 1 and not cogvideox_keys.is_published(tensor_names(paths[0])):
        return comfy.sd.load_diffusion_model(paths[0], model_options=dict(model_options), **options)
    weights: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for path in paths:
        part: Any = comfy.utils.load_torch_file(path, return_metadata=True)
        weights.update(part[0])
        metadata.update(part[1] or {})
    published_cogvideox = cogvideox_keys.is_published(weights)
    if published_cogvideox:
        weights = cogvideox_keys.with_host_names(weights)
    model = comfy.sd.load_diffusion_model_state_dict(
        weights, model_options=dict(model_options), metadata=metadata, **options
    )
    if model is None:
        raise RuntimeError(f"ComfyUI knows no model with the weights of these {len(paths)} files.")
    if published_cogvideox:
        cogvideox_keys.set_positions(model.get_model_object("diffusion_model"))
    vars(model)["cached_patcher_init"] = (load_model_files, (paths, model_options))
    return model


def _check_together(diffusion_model: str, text_encoder: str, vae: str, text_encoder_2: str) -> None:
    chosen = {"diffusion_model": diffusion_model, "text_encoder": text_encoder, "vae": vae}
    embedded = [name for name, value in chosen.items() if value in EMBEDDED_MODELS]
    if embedded and len(embedded) < len(chosen):
        others = ", ".join(name for name in chosen if name not in embedded)
        raise ValueError(
            f"{', '.join(embedded)} is '{chosen[embedded[0]]}' but {others} is a file of yours. The embedded model, "
            "text encoder and VAE only fit each other: choose it for all three, or files for all three."
        )
    if text_encoder in (EMBEDDED, FROM_CHECKPOINT) and text_encoder_2 != NO_FILE:
        raise ValueError(
            f"text_encoder_2 is '{text_encoder_2}', but text_encoder is '{text_encoder}', which is complete. Set "
            f"text_encoder_2 to '{NO_FILE}'."
        )


def _is_whole(name: str, files: ModelFiles) -> bool:
    """Whether a file is a model of pixels with its text encoder, as the pack's own training writes it."""
    try:
        return len(files.paths) == 1 and read_vit3d(files.paths[0]) is not None
    except ValueError as error:
        raise ValueError(f"diffusion_model '{name}' cannot be used: {error}.") from error


def _load_whole(name: str, files: ModelFiles, text_encoder: str, vae: str, weight_dtype: str) -> tuple[Any, Any, Any]:
    others = {"text_encoder": text_encoder, "vae": vae}
    wrong = [f"{input_name} is '{value}'" for input_name, value in others.items() if value != FROM_CHECKPOINT]
    if wrong:
        raise ValueError(
            f"{' and '.join(wrong)}, but diffusion_model '{name}' has a text encoder of its own and makes pixels. Set "
            f"text_encoder and vae to '{FROM_CHECKPOINT}'."
        )
    with host_errors(f"diffusion_model '{name}' is not a model that the pack's training has written"):
        model = load_vit3d(files.paths[0], WEIGHT_DTYPES[weight_dtype])
        return model, load_vit3d_clip(files.paths[0]), pixel_vae()


def _check_checkpoint(files: ModelFiles, diffusion_model: str, text_encoder: str, vae: str) -> None:
    inputs = {"text_encoder": text_encoder, "vae": vae}
    wanted = " and ".join(name for name, value in inputs.items() if value == FROM_CHECKPOINT)
    if wanted and not files.checkpoint:
        raise ValueError(
            f"{wanted}: '{FROM_CHECKPOINT}' needs a diffusion_model of models/checkpoints, but '{diffusion_model}' is "
            f"not one. Choose a file for {wanted}, or move the checkpoint there."
        )
    if wanted and len(files.paths) > 1:
        raise ValueError(
            f"{wanted}: '{FROM_CHECKPOINT}' needs a checkpoint in one file, but '{diffusion_model}' has "
            f"{len(files.paths)}. Choose a file for {wanted}."
        )


def _load_diffusion_model(name: str, files: ModelFiles, weight_dtype: str) -> tuple[Any, FamilyInfo]:
    options = WEIGHT_DTYPES[weight_dtype]
    with host_errors(
        f"diffusion_model '{name}' is not a diffusion model that ComfyUI can load (of video models in the layout of "
        "diffusers, only CogVideoX can be loaded; for others, download the single file made for ComfyUI)"
    ):
        # As in the host's UNETLoader, for checkpoints too: keeps every dtype, and what loading on a second GPU needs.
        model = load_model_files(files.paths, options)
    try:
        info = model_info(model)[1]
    except UnsupportedModelError as reason:
        raise UnsupportedModelError(f"diffusion_model '{name}' cannot be used: {reason}") from None
    computes_in = model.model.model_config.supported_inference_dtypes
    if options.get("dtype") == torch.float16 and torch.float16 not in computes_in:
        raise ValueError(
            f"weight_dtype is '{weight_dtype}', but ComfyUI does not compute {info.family} models in that precision. "
            "Choose bf16 or default."
        )
    return model, info


def _load_vae(path: str, name: str) -> Any:
    if is_shard(name):
        raise ValueError(f"vae '{name}' is one part of several. Download the single file made for ComfyUI.")
    with host_errors(f"vae '{name}' is not a VAE that ComfyUI can load"):
        loaded: Any = comfy.utils.load_torch_file(path, return_metadata=True)
        vae = comfy.sd.VAE(sd=loaded[0], metadata=loaded[1])
        vae.throw_exception_if_invalid()
    reload = getattr(comfy.sd, "load_vae_patcher", None)
    if reload is not None:
        vars(vae.patcher)["cached_patcher_init"] = (reload, (path, loaded[1], None))
    return vae


def _check_vae(vae: Any, name: str, model_name: str, info: FamilyInfo) -> None:
    """Raises ValueError, naming both, unless the VAE makes latents like those of the model."""
    compression = (vae.temporal_compression_decode() or 1, *(vae.spacial_compression_encode(),) * 2)
    wanted = info.compression
    if info.frame_cycle is not None:
        # The host tells the rounded mean of a long video's latent frames.
        wanted = (round(sum(info.frame_cycle.pictures) / info.frame_cycle.period), *wanted[1:])
    made = f"{vae.latent_channels} channels, {' x '.join(map(str, compression))} pixels for each value"
    needed = f"{info.latent_channels} channels, {' x '.join(map(str, wanted))} pixels"
    dims, what = (2, "latents of pictures") if info.frames_in_batch else (3, "video latents")
    if (vae.latent_dim, vae.latent_channels, compression) != (dims, info.latent_channels, wanted):
        raise ValueError(
            f"vae '{name}' makes latents of {made}, but diffusion_model '{model_name}' ({info.family}) needs {what} "
            f"of {needed}. Choose the VAE that belongs to the model."
        )


def _checkpoint_vae(name: str, files: ModelFiles) -> Any:
    with host_errors(f"vae is '{FROM_CHECKPOINT}', but '{name}' has no VAE that ComfyUI can load; choose a file"):
        loaded: Any = comfy.sd.load_checkpoint_guess_config(files.paths[0], output_clip=False, output_model=False)
        vae = loaded[2]
        vae.throw_exception_if_invalid()
    return vae


def _checkpoint_clip(name: str, files: ModelFiles) -> Any:
    complaint = f"text_encoder is '{FROM_CHECKPOINT}', but '{name}' has none that ComfyUI can load"
    with host_errors(complaint):
        clip = comfy.sd.load_checkpoint_guess_config(
            files.paths[0],
            output_vae=False,
            output_model=False,
            embedding_directory=folder_paths.get_folder_paths("embeddings"),
        )[1]
    if clip is None:
        raise ValueError(f"{complaint}. Choose a file of models/text_encoders.")
    return clip


def _shares(dtypes: Counter[str]) -> list[str]:
    if len(dtypes) == 1:
        return list(dtypes)
    percent = {name: 100 * count // dtypes.total() for name, count in dtypes.most_common()}
    return [f"{name} ({share or 'under 1'} %)" for name, share in percent.items()]


def _readable_count(count: int) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:.2f} {word}"
    return str(count)
