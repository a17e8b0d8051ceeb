"""Where the embedded model's weights lie, and how their files are called."""

from pathlib import Path

WEIGHTS = Path(__file__).resolve().parent / "weights"
TRANSFORMER_FILE = "transformer.safetensors"
TEXT_ENCODER_FILE = "text_encoder.safetensors"
JOINT_TRANSFORMER_FILE = "joint_transformer.safetensors"
JOINT_TEXT_ENCODER_FILE = "joint_text_encoder.safetensors"
IMAGE_TRANSFORMER_FILE = "image_transformer.safetensors"
ONE_STREAM_TRANSFORMER_FILE = "one_stream_transformer.safetensors"
ONE_STREAM_TEXT_ENCODER_FILE = "one_stream_text_encoder.safetensors"
FEW_STEPS_FILE = "few_steps.safetensors"
IMAGE_FEW_STEPS_FILE = "image_few_steps.safetensors"
JOINT_FEW_STEPS_FILE = "joint_few_steps.safetensors"
ONE_STREAM_FEW_STEPS_FILE = "one_stream_few_steps.safetensors"
VAE_FILE = "vae.safetensors"
VIT3D_FILE = "vit3d.safetensors"
RESULTS_FILE = "results.json"


def weight_file(weights: Path, name: str) -> Path:
    """The path of one weights file. Raises FileNotFoundError, saying how to make it, when it is missing."""
    file = weights / name
    if not file.is_file():
        raise FileNotFoundError(
            f"The embedded KV Share model lacks {file}. The file is part of the node pack: install the pack again, or "
            "train the model anew in a clone of the repository with: python3 dev.py train"
        )
    return file
