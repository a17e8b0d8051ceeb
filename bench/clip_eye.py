"""CLIP as the eye of a benchmark, from the files of the user's own ComfyUI."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from devtools.environment import find_host
from devtools.inprocess import enter_host

from .real_scores import Eye

TEXT_NAMES = {768: "clip_l", 1280: "clip_g", 1024: "clip_h"}
"""How files of a CLIP's text half begin, by the width of its features."""
PROJECTION = "text_projection"
SEEN_AT_ONCE = 16


def find_eye(vision: Path | None, text: Path | None) -> Eye | None:
    """CLIP from the files named, or from the first of the ComfyUI's own; None when it has none. The text half belongs
    to the image half if their features have one width. Starts the host in this process. Raises ValueError for files
    that are no CLIP or do not belong together."""
    enter_host(find_host())
    import folder_paths

    if vision is None:
        names = folder_paths.get_filename_list("clip_vision")
        if not names:
            return None
        vision = Path(folder_paths.get_full_path_or_raise("clip_vision", names[0]))
    model = load_vision(vision)
    width = int(model.model.visual_projection.weight.shape[0])
    if text is None:
        listed = folder_paths.get_filename_list("text_encoders")
        begins = TEXT_NAMES.get(width)
        fitting = [name for name in listed if begins is not None and Path(name).name.startswith(begins)]
        paths = [Path(folder_paths.get_full_path_or_raise("text_encoders", name)) for name in fitting]
        text = next((path for path in paths if has_projection(path)), None)
    return clip_eye(vision.name, model, None if text is None else load_text(text))


def clip_eye(name: str, vision: Any, text: Any | None) -> Eye:
    """An eye of the host's CLIP vision model and, if there is one, its text half. Raises ValueError when their features
    have different widths."""

    @torch.inference_mode()
    def see(frames: torch.Tensor) -> torch.Tensor:
        parts = frames.movedim(1, -1).split(SEEN_AT_ONCE)
        return torch.cat([vision.encode_image(part)["image_embeds"].float().cpu() for part in parts])

    @torch.inference_mode()
    def read(prompts: Sequence[str]) -> torch.Tensor:
        pooled = [text.encode_from_tokens(text.tokenize(prompt), return_pooled=True)[1] for prompt in prompts]  # type: ignore[union-attr]
        return torch.cat([one[:1].float().cpu() for one in pooled])

    if text is None:
        return Eye(name, see, clip=True)
    widths = see(torch.zeros(1, 3, 32, 32)).shape[1], read(["a"]).shape[1]
    if widths[0] != widths[1]:
        raise ValueError(f"{name} has features of width {widths[0]}, its text half of {widths[1]}; they are two CLIPs")
    return Eye(name, see, read, clip=True)


def load_vision(file: Path) -> Any:
    """The host's CLIP vision model from a file. Raises ValueError for one that it does not know, or that is no CLIP."""
    import comfy.clip_vision

    model = comfy.clip_vision.load(str(file))
    if model is None or not hasattr(model.model, "visual_projection"):
        raise ValueError(f"{file.name} is no CLIP vision model")
    if not isinstance(model.model.visual_projection, torch.nn.Module):
        raise ValueError(f"{file.name} is not CLIP but an image encoder without a text half")
    return model


def load_text(file: Path) -> Any:
    """The host's CLIP text encoder from a file. Raises ValueError when it lacks the projection into CLIP's space."""
    import comfy.sd

    if not has_projection(file):
        raise ValueError(f"{file.name} has no {PROJECTION}, so its features are not in the space of CLIP's images")
    return comfy.sd.load_clip([str(file)], clip_type=comfy.sd.CLIPType.STABLE_DIFFUSION)


def has_projection(file: Path) -> bool:
    """Whether a text encoder's file projects into the space that it shares with images."""
    with safe_open(file, framework="pt") as opened:
        return any(name.split(".weight")[0].endswith(PROJECTION) for name in opened.keys())
