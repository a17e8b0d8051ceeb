"""CogVideoX transformers under the names that they are published with load as the host's own model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from safetensors.torch import save_file

from kvshare_core.host.loading import cogvideox_keys
from kvshare_core.host.loading.loading import load_model_files
from kvshare_core.host.loading.model_files import diffusion_model_names, find_model
from kvshare_core.host.loading.model_headers import facts_of, model_facts, tensor_names
from kvshare_core.host.loading.model_info import model_info
from tests.tiny.cogvideox import CHANNELS, TEXT_WIDTH, cogvideox_module
from tests.tiny.models import tiny_wan

BLOCKS = 2

MODELS: dict[str, dict[str, Any]] = {
    "2B": {"rotary": False, "heads": 3},
    "5B": {"heads": 2, "stretch": 1.0},
    "5B image-to-video": {"table": True, "heads": 6, "input_channels": 32, "stretch": 1.0},
    "1.5": {"heads": 2, "frame_patch": 2},
    "1.5 image-to-video": {"heads": 2, "frame_patch": 2, "input_channels": 32, "start_strength": True},
}
"""The released models, small. Which positions they have is in the configuration that diffusers reads; that rotations
count tokens is in its pipelines."""

BLOCK = {
    "norm1.linear": "norm1.linear",
    "norm1.norm": "norm1.norm",
    "attn1.norm_q": "norm_q",
    "attn1.norm_k": "norm_k",
    "attn1.to_q": "q",
    "attn1.to_k": "k",
    "attn1.to_v": "v",
    "attn1.to_out.0": "attn_out",
    "norm2.linear": "norm2.linear",
    "norm2.norm": "norm2.norm",
    "ff.net.0.proj": "ff_proj",
    "ff.net.2": "ff_out",
}
"""The layers of a block in diffusers, all with weight and bias, and in the host's class."""

REST = {
    "patch_embed.proj": "patch_embed.proj",
    "patch_embed.text_proj": "patch_embed.text_proj",
    "time_embedding.linear_1": "time_embedding_linear_1",
    "time_embedding.linear_2": "time_embedding_linear_2",
    "norm_final": "norm_final",
    "norm_out.linear": "norm_out.linear",
    "norm_out.norm": "norm_out.norm",
    "proj_out": "proj_out",
}
START_STRENGTH = {
    "ofs_embedding.linear_1": "ofs_embedding_linear_1",
    "ofs_embedding.linear_2": "ofs_embedding_linear_2",
}
TABLE = "patch_embed.pos_embedding"


def published_names(sizes: dict[str, Any]) -> dict[str, str]:
    """Every weight of a published model, and its name in the host's class."""
    layers = {
        f"transformer_blocks.{block}.{name}": f"blocks.{block}.{own}"
        for block in range(BLOCKS)
        for name, own in BLOCK.items()
    }
    layers |= REST | (START_STRENGTH if sizes.get("start_strength") else {})
    names = {f"{name}.{kind}": f"{own}.{kind}" for name, own in layers.items() for kind in ("weight", "bias")}
    return names | ({TABLE: TABLE} if sizes.get("table") else {})


def module_and_weights(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """The host's class, made with the model's configuration, and its weights as published."""
    try:
        module = cogvideox_module(**MODELS[name], layers=BLOCKS)
    except ModuleNotFoundError:
        pytest.skip("this host has no CogVideoX")
    state = module.state_dict()
    if TABLE in state:
        # What was learned is not the sines and cosines that it began with.
        state[TABLE] += torch.randn(state[TABLE].shape, generator=torch.Generator().manual_seed(7))
    names = published_names(MODELS[name])
    assert sorted(names.values()) == sorted(state)
    return module, {published: state[own] for published, own in names.items()}


@pytest.fixture(autouse=True)
def _small_2b(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 2B of as many heads as the one in MODELS."""
    monkeypatch.setattr(cogvideox_keys, "HEADS_OF_2B", MODELS["2B"]["heads"])


@pytest.fixture
def diffusers_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a model in the user's folder of models in the layout of diffusers."""
    extensions = folder_paths.folder_names_and_paths["diffusers"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tmp_path)], extensions))
    folder = tmp_path / "CogVideoX"
    (folder / "transformer").mkdir(parents=True)
    (folder / "model_index.json").write_text("{}", encoding="utf-8")
    yield folder
    folder_paths.filename_list_cache.pop("diffusers", None)


def save(folder: Path, weights: dict[str, torch.Tensor], shards: int) -> None:
    for number in range(shards):
        ending = f"-{number + 1:05}-of-{shards:05}" if shards > 1 else ""
        part = {name: weights[name] for name in list(weights)[number::shards]}
        save_file(part, folder / "transformer" / f"diffusion_pytorch_model{ending}.safetensors")


def prediction(module: Any, channels: int) -> torch.Tensor:
    """What a model makes of a video of five latent frames, not of the size that it was trained on."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(1, channels, 5, 6, 10, generator=generator)
    text = torch.randn(1, 7, TEXT_WIDTH, generator=generator)
    with torch.inference_mode():
        return module(video, torch.tensor([500.0]), text, ofs=torch.tensor([2.0]))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_published_weights_give_the_hosts_own_model_bit_for_bit(diffusers_folder: Path, name: str, shards: int) -> None:
    module, weights = module_and_weights(name)
    save(diffusers_folder, weights, shards)
    assert "diffusers folder: CogVideoX" in diffusion_model_names()
    loaded = load_model_files(find_model("diffusers folder: CogVideoX").paths, {"dtype": torch.float32})
    channels = MODELS[name].get("input_channels", CHANNELS)
    expected = prediction(module, channels)
    assert float(expected.std()) > 0.1
    assert torch.equal(prediction(loaded.get_model_object("diffusion_model"), channels), expected)
    # How newer hosts load the model again, for another GPU.
    load_again, arguments = loaded.cached_patcher_init
    again = load_again(*arguments)
    assert torch.equal(prediction(again.get_model_object("diffusion_model"), channels), expected)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_the_header_of_published_files_tells_what_the_loaded_model_is(
    diffusers_folder: Path, name: str, shards: int
) -> None:
    _, weights = module_and_weights(name)
    save(diffusers_folder, {key: weight.half() for key, weight in weights.items()}, shards)
    facts = facts_of("diffusers folder: CogVideoX")
    loaded = load_model_files(find_model("diffusers folder: CogVideoX").paths, {})
    family, info = model_info(loaded)
    assert facts is not None
    assert (facts.info, info.family, info.blocks) == (info, "cogvideox", BLOCKS)
    scheme = family.rope_scheme(loaded.get_model_object("diffusion_model"), {})
    if not MODELS[name].get("rotary", True):
        assert scheme is None
    else:
        assert scheme is not None and [axis[0] for axis in scheme.frequencies] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", MODELS)
def test_only_names_change(name: str) -> None:
    _, weights = module_and_weights(name)
    found = cogvideox_keys.with_host_names(weights)
    assert all(found[own] is weights[published] for published, own in published_names(MODELS[name]).items())
    assert len(found) == len(weights)
    assert cogvideox_keys.is_published(weights)
    assert not cogvideox_keys.is_published(found)


def test_other_models_are_not_taken_for_a_published_cogvideox(tmp_path: Path) -> None:
    assert not cogvideox_keys.is_published(tiny_wan(layers=1).model.diffusion_model.state_dict())
    # Other models of diffusers have one of both.
    for name in cogvideox_keys.PUBLISHED:
        assert not cogvideox_keys.is_published({name})
    other = tmp_path / "weights.pt"
    torch.save({name: torch.zeros(1) for name in cogvideox_keys.PUBLISHED}, other)
    assert tensor_names(str(other)) == frozenset()
    assert model_facts((str(other),)) is None


def published_vae_layers() -> set[str]:
    """The layers of diffusers' `AutoencoderKLCogVideoX` as released, all with weight and bias."""
    convolutions = {"conv1.conv", "conv2.conv"}
    norms = {"norm1", "norm2"}
    spatial_norm = {"norm_layer", "conv_y.conv", "conv_b.conv"}
    in_encoder = convolutions | norms
    in_decoder = convolutions | {f"{norm}.{part}" for norm in norms for part in spatial_norm}
    layers = {"encoder.conv_in.conv", "encoder.norm_out", "encoder.conv_out.conv"}
    layers |= {"decoder.conv_in.conv", "decoder.conv_out.conv"} | {f"decoder.norm_out.{part}" for part in spatial_norm}
    for half, blocks, own, count in (("encoder", "down", in_encoder, 3), ("decoder", "up", in_decoder, 4)):
        layers |= {f"{half}.mid_block.resnets.{number}.{part}" for number in range(2) for part in own}
        for block in range(4):
            place = f"{half}.{blocks}_blocks.{block}"
            layers |= {f"{place}.resnets.{number}.{part}" for number in range(count) for part in own}
            # 128, 256, 256 and 512 channels.
            layers |= {f"{place}.resnets.0.conv_shortcut"} if block in (1, 3) else set()
            layers |= {f"{place}.{blocks}samplers.0.conv"} if block < 3 else set()
    return layers


def test_the_published_vae_has_the_hosts_own_names() -> None:
    """So that the host loads its file as it is."""
    module = pytest.importorskip("comfy.ldm.cogvideo.vae", reason="this host has no CogVideoX")
    with torch.device("meta"):
        vae = module.AutoencoderKLCogVideoX(latent_channels=16)
    layers = published_vae_layers()
    assert set(vae.state_dict()) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
