"""LoadVideoDiT with real files of a user, all of them tiny, and MODELs of other loaders in MaskGuidedKVShare."""

import inspect
import io as bytes_io
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.ops
import comfy.sd
import folder_paths
import nodes as host_nodes
import pytest
import safetensors.torch
import sentencepiece
import torch
from comfy.ldm.hunyuan_video.model import HunyuanVideo, HunyuanVideoParams
from comfy.ldm.wan.model import WanModel
from comfy.taesd.taesd import TAESD
from comfy.text_encoders import lt

from kv_share.nodes.load_video_dit import LoadVideoDiT
from kvshare_core.embedded.files import VAE_FILE, WEIGHTS
from kvshare_core.embedded.model import is_available
from kvshare_core.families import FAMILIES, hunyuan
from kvshare_core.families.base import FamilyInfo
from kvshare_core.families.block_presets import preset_lines
from kvshare_core.host.loading.loading import _check_vae, load_video_model, model_report
from kvshare_core.host.loading.model_files import EMBEDDED_MODELS, diffusion_model_names
from kvshare_core.host.loading.model_headers import facts_of
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.loading.text_encoders import check_text_encoders, load_text_encoders
from tests.support.family_cases import CASES
from tests.support.windows import share, tiny_timeline
from tests.tiny.ltx2 import ltx2_weights
from tests.tiny.minimax_h3 import minimax_h3_weights
from tests.tiny.models import Sampling, seeded_state_dict, tiny_hunyuan

KINDS = ("diffusion_models", "checkpoints", "text_encoders", "vae", "diffusers")
T5_WEIGHT = "encoder.block.23.layer.1.DenseReluDense.wi_1.weight"
UMT5_BIAS = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"

State = dict[str, torch.Tensor]

TEXT_PROJECTION: State = {"text_embedding_projection.aggregate_embed.weight": torch.full((8, 3840 * 49), 0.5)}
"""LTX-2's layer over the states of all layers of Gemma, to a few numbers only."""

allocates_lazily = pytest.mark.skipif(
    sys.platform != "linux", reason="text encoders are loaded at full size, which costs nothing only on Linux"
)


def wan_weights(channels: int = 16) -> State:
    """A Wan text-to-video transformer of 128 channels and 2 blocks."""
    module = WanModel(
        model_type="t2v",
        in_dim=channels,
        dim=128,
        ffn_dim=256,
        freq_dim=256,
        text_dim=4096,
        out_dim=channels,
        num_heads=1,
        num_layers=2,
        operations=comfy.ops.disable_weight_init,
        dtype=torch.float32,
        device="cpu",
    )
    return seeded_state_dict(module)


def image_model_weights() -> State:
    """A tiny transformer for single pictures, of a class that also exists for videos."""
    sizes: dict[str, Any] = {
        "in_channels": 64,
        "out_channels": 64,
        "vec_in_dim": None,
        "context_in_dim": 64,
        "hidden_size": 128,
        "mlp_ratio": 4.0,
        "num_heads": 1,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [64, 64],
        "theta": 256,
        "patch_size": [1, 1],
        "qkv_bias": True,
        "guidance_embed": False,
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
    return seeded_state_dict(module)


def scaled_fp8(weights: Mapping[str, torch.Tensor]) -> State:
    """The weights as quantised files hold them: matrices in fp8, each with a scale of its own."""
    quantised: State = {"scaled_fp8": torch.zeros(1, dtype=torch.float8_e4m3fn)}
    for name, weight in weights.items():
        if name.endswith(".weight") and weight.ndim == 2:
            scale = weight.abs().max() / 448
            quantised[name] = (weight / scale).to(torch.float8_e4m3fn)
            quantised[name.replace(".weight", ".scale_weight")] = scale
        else:
            quantised[name] = weight
    return quantised


def sentencepiece_model() -> torch.Tensor:
    """A tokenizer as umT5 files carry it, bytes as numbers."""
    model = bytes_io.BytesIO()
    sentences = ["a red fox runs over grass", "the quick brown fox jumps over lazy dogs"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=40, hard_vocab_limit=False, minloglevel=2
    )
    return torch.tensor(list(model.getvalue()), dtype=torch.uint8)


def text_encoder_weights() -> dict[str, State]:
    """Of each kind of text encoder the weights that tell it from others; the host leaves the rest as it is."""
    t5 = torch.zeros(10240, 4096, dtype=torch.float8_e4m3fn)
    umt5 = {T5_WEIGHT: t5, UMT5_BIAS: torch.zeros(32, 64)}
    return {
        "umt5": {**umt5, "spiece_model": sentencepiece_model()},
        "umt5_without_tokenizer": umt5,
        "t5": {T5_WEIGHT: t5},
        "old_t5": {
            "encoder.block.23.layer.1.DenseReluDense.wi.weight": torch.zeros(65536, 1024, dtype=torch.float8_e4m3fn)
        },
        "llama": {"model.layers.0.post_attention_layernorm.weight": torch.ones(4096)},
        "qwen": {"model.layers.0.self_attn.k_proj.bias": torch.zeros(512)},
        "clip_l": {
            "text_model.encoder.layers.0.mlp.fc1.weight": torch.zeros(3072, 768),
            "text_model.encoder.layers.1.mlp.fc1.weight": torch.zeros(3072, 768),
        },
        "byt5": {"encoder.block.0.layer.0.SelfAttention.k.weight": torch.zeros(384, 1472)},
        "gemma": {
            "model.layers.0.post_feedforward_layernorm.weight": torch.ones(3840),
            "model.layers.0.self_attn.q_norm.weight": torch.ones(256),
            "model.layers.47.self_attn.q_norm.weight": torch.ones(256),
            "model.layers.5.self_attn.v_proj.weight": torch.zeros(2048, 3840, dtype=torch.float8_e4m3fn),
            "spiece_model": sentencepiece_model(),
        },
        "projection": TEXT_PROJECTION,
        "qwen3vl": {
            "visual.deepstack_merger_list.0.norm.weight": torch.ones(4608),
            "model.layers.49.self_attn.q_proj.weight": torch.zeros(8, 8),
        },
    }


def prefixed(prefix: str, weights: Mapping[str, torch.Tensor]) -> State:
    return {prefix + name: weight for name, weight in weights.items()}


def save(file: Path, weights: Mapping[str, torch.Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(dict(weights), str(file))


def save_shards(folder: Path, stem: str, weights: Mapping[str, torch.Tensor], count: int = 3) -> None:
    names = list(weights)
    for number in range(count):
        part = {name: weights[name] for name in names[number::count]}
        save(folder / f"{stem}-{number + 1:05}-of-{count:05}.safetensors", part)


def enter_folders(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Makes `root` the user's models folder."""
    for kind in KINDS:
        (root / kind).mkdir()
        extensions = folder_paths.folder_names_and_paths[kind][1]
        patch.setitem(folder_paths.folder_names_and_paths, kind, ([str(root / kind)], extensions))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's models folder with one file of everything."""
    root = tmp_path_factory.mktemp("models")
    wan = wan_weights()
    vae = safetensors.torch.load_file(str(WEIGHTS / VAE_FILE))
    encoders = text_encoder_weights()
    with pytest.MonkeyPatch.context() as patch:
        enter_folders(root, patch)
        save(root / "diffusion_models" / "wan.safetensors", wan)
        save(root / "diffusion_models" / "wan_48.safetensors", wan_weights(48))
        save(root / "diffusion_models" / "wan_scaled.safetensors", scaled_fp8(wan))
        save(root / "diffusion_models" / "hunyuan.safetensors", tiny_hunyuan().model.diffusion_model.state_dict())
        save(root / "diffusion_models" / "picture.safetensors", image_model_weights())
        save(root / "diffusion_models" / "vae.safetensors", vae)
        (root / "diffusion_models" / "broken.safetensors").write_bytes(b"not a model at all")
        save_shards(root / "diffusion_models" / "parts", "wan", wan)
        save_shards(root / "diffusion_models" / "gap", "wan", wan)
        (root / "diffusion_models" / "gap" / "wan-00002-of-00003.safetensors").unlink()
        everything = {
            **prefixed("model.diffusion_model.", wan),
            **prefixed("vae.", vae),
            **prefixed("text_encoders.umt5xxl.transformer.", encoders["umt5_without_tokenizer"]),
            "text_encoders.spiece_model": encoders["umt5"]["spiece_model"],
        }
        save(root / "checkpoints" / "everything.safetensors", everything)
        save(root / "checkpoints" / "wan.safetensors", prefixed("model.diffusion_model.", wan))
        save_shards(root / "checkpoints", "parts", prefixed("model.diffusion_model.", wan))
        save_shards(root / "diffusers" / "shards" / "transformer", "diffusion_pytorch_model", wan)
        save(root / "diffusers" / "single" / "transformer" / "diffusion_pytorch_model.safetensors", wan)
        (root / "diffusers" / "empty" / "transformer").mkdir(parents=True)
        for folder in ("shards", "single", "empty"):
            (root / "diffusers" / folder / "model_index.json").write_text("{}", encoding="utf-8")
        for name, weights in encoders.items():
            save(root / "text_encoders" / f"{name}.safetensors", weights)
        save(root / "text_encoders" / "vae.safetensors", vae)
        (root / "text_encoders" / "parts-00001-of-00002.safetensors").touch()
        shutil.copy(WEIGHTS / VAE_FILE, root / "vae" / "wan.safetensors")
        save(root / "vae" / "transformer.safetensors", wan)
        (root / "vae" / "parts-00001-of-00002.safetensors").touch()
        pictures = TAESD(latent_channels=16)
        save(root / "vae" / "pictures.safetensors", pictures.state_dict())
        (root / "vae" / "broken.safetensors").write_bytes(b"not a model at all")
        yield root
    for kind in KINDS:
        folder_paths.filename_list_cache.pop(kind, None)
    shutil.rmtree(root)


OWN = {
    "diffusion_model": "wan.safetensors",
    "text_encoder": "umt5.safetensors",
    "vae": "wan.safetensors",
    "weight_dtype": "default",
}
CHECKPOINT = {
    "diffusion_model": "checkpoint: everything.safetensors",
    "text_encoder": "from checkpoint",
    "vae": "from checkpoint",
    "weight_dtype": "default",
}


def run(**inputs: str) -> tuple[Any, ...]:
    """What LoadVideoDiT gives when the host executes it."""
    return LoadVideoDiT.EXECUTE_NORMALIZED(**inputs).result


def load(name: str, weight_dtype: str = "default") -> Any:
    """The MODEL alone, with whatever goes with it."""
    return load_video_model(**{**OWN, "diffusion_model": name, "weight_dtype": weight_dtype})[0]


def shared_video(model: Any) -> torch.Tensor:
    """A latent that the stock sampler makes of a MODEL behind MaskGuidedKVShare."""
    case, timeline = CASES["wan t2v"], tiny_timeline(2)
    patched, _ = share(model, timeline)
    return Sampling().run(patched, case.positive(timeline), case.negative(timeline), case.shape(timeline))


@pytest.fixture(autouse=True)
def inference_mode() -> Iterator[None]:
    """The mode in which the host runs every node."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def expected(models: Path) -> torch.Tensor:
    """The latent of the model that UNETLoader loads."""
    with torch.inference_mode():
        latent = shared_video(host_nodes.UNETLoader().load_unet("wan.safetensors", "default")[0])
    assert torch.isfinite(latent).all()
    return latent


def is_nearly(latent: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether a latent is another one but for the rounding of weights, and not that one itself."""
    error = (latent - expected).square().mean() / expected.square().mean()
    return 0 < float(error) < 0.03


# What loads.


@allocates_lazily
@pytest.mark.parametrize("inputs", [OWN, CHECKPOINT], ids=["files", "checkpoint"])
def test_model_text_encoder_and_vae_are_those_of_the_files(
    models: Path, expected: torch.Tensor, inputs: dict[str, str]
) -> None:
    model, clip, vae, info = run(**inputs)
    assert torch.equal(shared_video(model), expected)
    assert list(clip.tokenize("a red fox")) == ["umt5xxl"]
    stored = safetensors.torch.load_file(str(models / "vae" / "wan.safetensors"))
    assert torch.equal(vae.first_stage_model.decoder.conv1.weight, stored["decoder.conv1.weight"].float())
    assert info == model_report(model)


@allocates_lazily
@pytest.mark.parametrize(
    "name",
    [
        "checkpoint: everything.safetensors",
        "checkpoint: wan.safetensors",
        "checkpoint: parts-00001-of-00003.safetensors",
        "parts/wan-00001-of-00003.safetensors",
        "parts/wan-00003-of-00003.safetensors",
        "diffusers folder: single",
        "diffusers folder: shards",
    ],
)
def test_the_same_weights_load_from_every_place(models: Path, expected: torch.Tensor, name: str) -> None:
    assert torch.equal(shared_video(load(name)), expected)


@allocates_lazily
@pytest.mark.parametrize(
    ("weight_dtype", "dtype"),
    [
        ("fp8_e4m3fn", torch.float8_e4m3fn),
        ("fp8_e4m3fn_fast", torch.float8_e4m3fn),
        ("fp8_e5m2", torch.float8_e5m2),
        ("bf16", torch.bfloat16),
        ("fp16", torch.float16),
    ],
)
@pytest.mark.parametrize(
    "name", ["wan.safetensors", "checkpoint: wan.safetensors", "parts/wan-00001-of-00003.safetensors"]
)
def test_weights_are_kept_as_chosen(
    models: Path, expected: torch.Tensor, name: str, weight_dtype: str, dtype: Any
) -> None:
    model = load(name, weight_dtype)
    assert model.model.diffusion_model.blocks[0].self_attn.q.weight.dtype == dtype
    assert model.model.model_config.optimizations.get("fp8", False) == (weight_dtype == "fp8_e4m3fn_fast")
    assert is_nearly(shared_video(model), expected)
    assert f"weight dtype: {str(dtype).removeprefix('torch.')}" in model_report(model)


def test_the_embedded_model_takes_a_weight_dtype_too() -> None:
    inputs = dict.fromkeys(("diffusion_model", "text_encoder", "vae"), "embedded")
    model, _, _, info = run(**inputs, weight_dtype="fp8_e4m3fn")
    assert model.model.diffusion_model.blocks[0].self_attn.q.weight.dtype == torch.float8_e4m3fn
    assert "\nweight dtype: float8_e4m3fn (" in info


@allocates_lazily
def test_quantised_weights_stay_quantised(models: Path, expected: torch.Tensor) -> None:
    model = load("wan_scaled.safetensors")
    assert is_nearly(shared_video(model), expected)
    (line,) = (line for line in model_report(model).splitlines() if line.startswith("weight dtype"))
    assert re.fullmatch(r"weight dtype: float8_e4m3fn \(9\d %\), float32 \(.* %\)", line)


@allocates_lazily
@pytest.mark.skipif(
    not hasattr(comfy.model_patcher.ModelPatcher, "deepclone_multigpu"), reason="this host uses one GPU for a model"
)
@pytest.mark.parametrize(
    "inputs", [OWN, CHECKPOINT, {**OWN, "diffusion_model": "parts/wan-00001-of-00003.safetensors"}]
)
def test_everything_can_be_loaded_again_for_a_second_gpu(
    models: Path, expected: torch.Tensor, inputs: dict[str, str]
) -> None:
    model, clip, vae, _ = run(**inputs)
    for patcher in (model, clip.patcher, vae.patcher):
        second = patcher.deepclone_multigpu(new_load_device=torch.device("cpu"))
        assert second.model is not patcher.model
    assert torch.equal(shared_video(model.deepclone_multigpu(new_load_device=torch.device("cpu"))), expected)


def test_the_report_has_the_numbers_of_the_model() -> None:
    model = comfy.sd.load_diffusion_model_state_dict(wan_weights())
    assert model_report(model).splitlines() == [
        "family: wan",
        "blocks: 2",
        "heads: 1",
        "head size: 128",
        "patch (frames x height x width): 1 x 2 x 2",
        "compression (frames x height x width): 4 x 8 x 8",
        "latent channels: 16",
        "native length: 21 latent frames, 81 frames",
        "weight dtype: float32",
        "parameters: 1.11 million",
        *(f"{name}: {value}" for name, value in preset_lines((), 2).items()),
    ]


# MODELs of other loaders.


def test_models_of_the_hosts_checkpoint_loader_are_shared_alike(models: Path, expected: torch.Tensor) -> None:
    model, *_ = host_nodes.CheckpointLoaderSimple().load_checkpoint("wan.safetensors")
    assert torch.equal(shared_video(model), expected)


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"])
def test_models_of_unet_loader_are_shared_in_every_weight_dtype(
    models: Path, expected: torch.Tensor, weight_dtype: str
) -> None:
    model = host_nodes.UNETLoader().load_unet("wan.safetensors", weight_dtype)[0]
    assert is_nearly(shared_video(model), expected)


def test_quantised_models_of_unet_loader_are_shared(models: Path, expected: torch.Tensor) -> None:
    model = host_nodes.UNETLoader().load_unet("wan_scaled.safetensors", "default")[0]
    assert is_nearly(shared_video(model), expected)


# The lists.


def options(name: str) -> list[str]:
    """What a list of the node offers."""
    (listed,) = [item for item in LoadVideoDiT.define_schema().inputs if item.id == name]
    return list(listed.options)


def test_files_of_the_user_are_listed_behind_what_is_always_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter_folders(tmp_path, monkeypatch)
    for kind in ("diffusion_models", "checkpoints", "text_encoders", "vae"):
        (tmp_path / kind / "mine.safetensors").touch()
    embedded = [name for name, attention in EMBEDDED_MODELS.items() if is_available(attention)]
    assert embedded[:2] == ["embedded", "embedded (joint attention)"]
    assert options("diffusion_model") == [*embedded, "mine.safetensors", "checkpoint: mine.safetensors"]
    assert options("text_encoder") == ["embedded", "from checkpoint", "mine.safetensors"]
    assert options("text_encoder_2") == ["none", "mine.safetensors"]
    assert options("vae") == ["embedded", "from checkpoint", "mine.safetensors"]


def test_models_in_parts_and_folders_are_listed_once(models: Path) -> None:
    names = [name.replace("\\", "/") for name in diffusion_model_names()]
    assert [name for name in names if "-of-" in name] == [
        "gap/wan-00001-of-00003.safetensors",
        "parts/wan-00001-of-00003.safetensors",
        "checkpoint: parts-00001-of-00003.safetensors",
    ]
    assert [name for name in names if name.startswith("diffusers")] == [
        "diffusers folder: empty",
        "diffusers folder: shards",
        "diffusers folder: single",
    ]


# Text encoders of the families.

TEXT_ENCODERS = {
    "wan": ("umt5", "none", "WanT5Tokenizer"),
    "hunyuan": ("llama", "clip_l", "HunyuanVideoTokenizer"),
    "hunyuan 1.5": ("qwen", "byt5", "HunyuanVideo15Tokenizer"),
    "ltxv": ("t5", "none", "LTXVT5Tokenizer"),
    "mochi": ("t5", "none", "MochiT5Tokenizer"),
    "cosmos": ("old_t5", "none", "CosmosT5Tokenizer"),
    "cosmos_predict2": ("old_t5", "none", "CosmosT5Tokenizer"),
    "cogvideox": ("t5", "none", "CogVideoXTokenizer"),
    "kandinsky5": ("qwen", "clip_l", "Kandinsky5Tokenizer"),
    "ltx2": ("gemma", "projection", "LTXAVGemmaTokenizer"),
}
NEWER = {"cogvideox": (comfy.sd.CLIPType, "COGVIDEOX"), "kandinsky5": (comfy.sd.CLIPType, "KANDINSKY5")}
NEWER["ltx2"] = (comfy.sd.TEModel, "GEMMA_3_12B")
"""What hosts without a family's text encoder lack."""

has_ltx2 = pytest.mark.skipif(not hasattr(*NEWER["ltx2"]), reason="this host has no LTX-2")
has_h3 = pytest.mark.skipif(not hasattr(comfy.sd.TEModel, "QWEN3VL_32B"), reason="this host has no MiniMax H3")


@pytest.fixture
def small_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives LTX-2's text projection as few numbers as TEXT_PROJECTION on hosts that know the released size only."""
    encoder: Any = getattr(lt, "LTXAVTEModel", None)
    if encoder is None or "video_projection_dim" in inspect.signature(encoder).parameters:
        return
    make = encoder.__init__

    def make_small(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        whole = self.text_embedding_projection
        rows = len(*TEXT_PROJECTION.values())
        self.text_embedding_projection = self.gemma3_12b.operations.Linear(
            whole.in_features, rows, bias=False, dtype=whole.weight.dtype, device=whole.weight.device
        )

    monkeypatch.setattr(encoder, "__init__", make_small)


def info_of(family: str) -> FamilyInfo:
    """Numbers of a model of that family; those that do not matter here are Wan's."""
    info = model_info(comfy.sd.load_diffusion_model_state_dict(wan_weights()))[1]
    if family == "hunyuan 1.5":
        return replace(info, family="hunyuan", text_encoders=hunyuan.QWEN_AND_BYT5)
    encoders = next((found.text_encoders[0] for found in FAMILIES if found.name == family), None)
    return replace(info, family=family, text_encoders=encoders)


@allocates_lazily
@pytest.mark.usefixtures("small_projection")
@pytest.mark.parametrize(
    ("family", "order"),
    [(family, 1) for family in TEXT_ENCODERS]
    + [(family, -1) for family, (_, second, _) in TEXT_ENCODERS.items() if second != "none"],
)
def test_a_family_gets_its_own_kind_of_text_encoder(models: Path, family: str, order: int) -> None:
    *files, tokenizer = TEXT_ENCODERS[family]
    first, second = (name if name == "none" else f"{name}.safetensors" for name in files[::order])
    if not hasattr(*NEWER.get(family, (comfy.sd.CLIPType, "WAN"))):
        with pytest.raises(ValueError, match=f"^text_encoder: this ComfyUI .* {family} models. Update ComfyUI"):
            check_text_encoders(info_of(family), first, second)
        return
    check_text_encoders(info_of(family), first, second)
    tokenizer_of_llama = Path(comfy.sd.__file__).parent / "text_encoders" / "llama_tokenizer" / "tokenizer.json"
    if family == "hunyuan" and not tokenizer_of_llama.is_file():
        pytest.skip("this copy of the host lacks the tokenizer of LLaMA")
    clip = load_text_encoders(info_of(family), first, second)
    assert type(clip.tokenizer).__name__ == tokenizer


@has_h3
@pytest.mark.usefixtures("models")
def test_the_text_encoder_of_minimax_h3_is_known_by_its_file() -> None:
    check_text_encoders(info_of("minimax_h3"), "qwen3vl.safetensors", "none")
    with pytest.raises(ValueError, match=r"^text_encoder 'qwen\.safetensors' .* needs Qwen3-VL 32B of MiniMax H3"):
        check_text_encoders(info_of("minimax_h3"), "qwen.safetensors", "none")


@has_h3
def test_a_minimax_h3_is_loaded_with_its_own_kind_of_vae(models: Path) -> None:
    save(models / "diffusion_models" / "h3.safetensors", minimax_h3_weights())
    model = comfy.sd.load_diffusion_model(str(models / "diffusion_models" / "h3.safetensors"))
    info = model_info(model)[1]
    assert "native length: 37 latent frames, 124 frames" in model_report(model)
    facts = facts_of("h3.safetensors")
    assert facts is not None and facts.info == info
    # What the host tells of the VAE of 17 pictures in 5 latent frames, 24 channels and 16 pixels a side.
    of_h3 = SimpleNamespace(
        latent_dim=3,
        latent_channels=24,
        temporal_compression_decode=lambda: round(((8192 - 2) // 5 * 17 + 5) / 8192),
        spacial_compression_encode=lambda: 16,
    )
    _check_vae(of_h3, "h3", "h3", info)
    with pytest.raises(ValueError, match=r"needs video latents of 24 channels, 3 x 16 x 16 pixels"):
        _check_vae(SimpleNamespace(**{**vars(of_h3), "latent_channels": 16}), "wan", "h3", info)


@has_ltx2
@allocates_lazily
@pytest.mark.usefixtures("small_projection")
def test_the_checkpoint_of_ltx_2_completes_its_text_encoder(models: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "ltx2.safetensors"
    save(checkpoint, {**prefixed("model.diffusion_model.", wan_weights()), **TEXT_PROJECTION})
    check_text_encoders(info_of("ltx2"), "gemma.safetensors", "none", str(checkpoint))
    clip = load_text_encoders(info_of("ltx2"), "gemma.safetensors", "none", str(checkpoint))
    (projection,) = TEXT_PROJECTION.values()
    assert torch.equal(clip.cond_stage_model.text_embedding_projection.weight.float(), projection)
    assert type(clip.tokenizer).__name__ == "LTXAVGemmaTokenizer"


@has_ltx2
@pytest.mark.parametrize("own_file", [True, False])
def test_a_text_projection_that_is_nowhere_is_asked_for(models: Path, own_file: bool) -> None:
    model_file = str(models / "diffusion_models" / "wan.safetensors") if own_file else None
    with pytest.raises(ValueError, match=r"^text_encoder_2 is 'none', .* Gemma 3 12B .*has the text projection.*whole"):
        check_text_encoders(info_of("ltx2"), "gemma.safetensors", "none", model_file)


@has_ltx2
def test_the_loader_looks_for_the_projection_in_the_checkpoint(models: Path) -> None:
    module, metadata = ltx2_weights()
    for name, extra in (("ltx2.safetensors", {}), ("ltx2_whole.safetensors", TEXT_PROJECTION)):
        weights = {**prefixed("model.diffusion_model.", module), **extra}
        safetensors.torch.save_file(weights, str(models / "checkpoints" / name), metadata=metadata)
    inputs = {**OWN, "text_encoder": "gemma.safetensors"}
    with pytest.raises(ValueError, match=r"^Load Video DiT: text_encoder_2 is 'none', but a ltx2 model needs"):
        run(**{**inputs, "diffusion_model": "checkpoint: ltx2.safetensors"})
    # Its own VAE is too large for a test: that the next complaint is about the VAE shows that all else is right.
    with pytest.raises(ValueError, match=r"^Load Video DiT: vae 'wan.safetensors' .*needs video latents of 128"):
        run(**{**inputs, "diffusion_model": "checkpoint: ltx2_whole.safetensors"})


def test_two_text_encoders_of_one_kind_are_refused(models: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^text_encoder_2 'llama.safetensors' .*LLaVA-LLaMA-3 8B, but .* LLaVA-LLaMA-3 8B and CLIP-L"
    ):
        check_text_encoders(info_of("hunyuan"), "llama.safetensors", "llama.safetensors")


def test_an_unknown_text_encoder_of_a_family_is_reported(models: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"^text_encoder: KV Share does not know which text encoder a newer model takes.*ComfyUI's own nodes",
    ):
        check_text_encoders(info_of("newer"), "t5.safetensors", "none")


# Errors.

WRONG: dict[str, tuple[dict[str, str], str]] = {
    "a VAE as model": (
        {"diffusion_model": "vae.safetensors"},
        "diffusion_model 'vae.safetensors' is not a diffusion model",
    ),
    "a broken model": (
        {"diffusion_model": "broken.safetensors"},
        "diffusion_model 'broken.safetensors' is not a diffusion",
    ),
    "an image model": (
        {"diffusion_model": "picture.safetensors"},
        "diffusion_model 'picture.safetensors' cannot be used: the model is a HunyuanVideo, but .*families: wan",
    ),
    "a model that is gone": (
        {"diffusion_model": "gone.safetensors"},
        "diffusion_model 'gone.safetensors' is not in models/diffusion_models",
    ),
    "a checkpoint that is gone": (
        {"diffusion_model": "checkpoint: gone.safetensors"},
        "diffusion_model 'gone.safetensors' is not in models/checkpoints",
    ),
    "a folder that is gone": (
        {"diffusion_model": "diffusers folder: gone"},
        "diffusion_model .* not in models/diffusers",
    ),
    "an empty folder": (
        {"diffusion_model": "diffusers folder: empty"},
        "diffusion_model .* neither transformer/diffusion_pytorch_model.safetensors nor shards",
    ),
    "a missing part": (
        {"diffusion_model": "gap/wan-00001-of-00003.safetensors"},
        "diffusion_model .* one of 3 files, but wan-00002-of-00003.safetensors is not in its folder",
    ),
    "a precision that there is not": ({"weight_dtype": "fp3"}, "weight_dtype is 'fp3'; choose one of default, fp8_"),
    "a VAE as text encoder": (
        {"text_encoder": "vae.safetensors"},
        "text_encoder 'vae.safetensors' is a file that ComfyUI does not know, but a wan model needs umT5-XXL",
    ),
    "another family's text encoder": (
        {"text_encoder": "t5.safetensors"},
        "text_encoder 't5.safetensors' is a file of the kind T5-XXL 1.1, but a wan model needs umT5-XXL",
    ),
    "a text encoder in parts": (
        {"text_encoder": "parts-00001-of-00002.safetensors"},
        "text_encoder 'parts-00001-of-00002.safetensors' is one part of several.*single file",
    ),
    "a text encoder that is gone": (
        {"text_encoder": "gone.safetensors"},
        "text_encoder 'gone.safetensors' is not in models/text_encoders",
    ),
    "a superfluous text encoder": (
        {"text_encoder_2": "clip_l.safetensors"},
        "text_encoder_2 is 'clip_l.safetensors', but a wan model has one text encoder, umT5-XXL. Set .* 'none'",
    ),
    "a missing text encoder": (
        {"diffusion_model": "hunyuan.safetensors", "text_encoder": "llama.safetensors"},
        "text_encoder_2 is 'none', but a hunyuan model needs two text encoders: LLaVA-LLaMA-3 8B and CLIP-L",
    ),
    "a transformer as VAE": ({"vae": "transformer.safetensors"}, "vae 'transformer.safetensors' is not a VAE"),
    "a broken VAE": ({"vae": "broken.safetensors"}, "vae 'broken.safetensors' is not a VAE"),
    "a VAE in parts": (
        {"vae": "parts-00001-of-00002.safetensors"},
        "vae 'parts-00001-of-00002.safetensors' is one part",
    ),
    "a VAE that is gone": ({"vae": "gone.safetensors"}, "vae 'gone.safetensors' is not in models/vae"),
    "a VAE for pictures": (
        {"vae": "pictures.safetensors"},
        "vae 'pictures.safetensors' makes latents of 16 channels, 1 x 8 x 8 .*'wan.safetensors' .*16 .* 4 x 8 x 8",
    ),
    "a VAE of another model": (
        {"diffusion_model": "wan_48.safetensors"},
        "vae 'wan.safetensors' makes latents of 16 channels, 4 x 8 x 8 .*'wan_48.safetensors' .*48 .* 4 x 16 x 16",
    ),
    "no checkpoint to take a text encoder from": (
        {"text_encoder": "from checkpoint"},
        "text_encoder: 'from checkpoint' needs .*models/checkpoints, but 'wan.safetensors' is not one",
    ),
    "no checkpoint to take anything from": (
        {"text_encoder": "from checkpoint", "vae": "from checkpoint"},
        "text_encoder and vae: 'from checkpoint' needs",
    ),
    "a checkpoint in parts to take a VAE from": (
        {"diffusion_model": "checkpoint: parts-00001-of-00003.safetensors", "vae": "from checkpoint"},
        "vae: 'from checkpoint' needs a checkpoint in one file, but .* has 3",
    ),
    "a checkpoint without VAE": (
        {"diffusion_model": "checkpoint: wan.safetensors", "vae": "from checkpoint"},
        "vae is 'from checkpoint', but 'checkpoint: wan.safetensors' has no VAE",
    ),
    "a checkpoint without text encoder": (
        {"diffusion_model": "checkpoint: wan.safetensors", "text_encoder": "from checkpoint"},
        "text_encoder is 'from checkpoint', but 'checkpoint: wan.safetensors' has none",
    ),
    "a second text encoder beside a checkpoint's": (
        {**CHECKPOINT, "text_encoder_2": "clip_l.safetensors"},
        "text_encoder_2 is 'clip_l.safetensors', but text_encoder is 'from checkpoint', which is complete",
    ),
    "a precision that the model is not computed in": (
        {"diffusion_model": "hunyuan.safetensors", "weight_dtype": "fp16"},
        "weight_dtype is 'fp16', but .* hunyuan models in that precision. Choose bf16",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_choice_is_explained(models: Path, case: str) -> None:
    changes, complaint = WRONG[case]
    with pytest.raises(ValueError, match=f"^Load Video DiT: {complaint}"):
        run(**{**OWN, **changes})


def test_one_part_of_very_many_is_told_in_a_few_words(models: Path) -> None:
    part = models / "diffusion_models" / "many-00001-of-99999.safetensors"
    part.touch()
    try:
        with pytest.raises(ValueError, match=r"but many-00002-of-.*and 99995 more are not") as reason:
            run(**{**OWN, "diffusion_model": part.name})
    finally:
        part.unlink()
    assert len(str(reason.value)) < 500


@allocates_lazily
def test_a_text_encoder_that_the_host_cannot_finish_is_named(models: Path) -> None:
    with pytest.raises(ValueError, match=r"^Load Video DiT: text_encoder 'umt5_without_tokenizer.safetensors' cannot"):
        run(**{**OWN, "text_encoder": "umt5_without_tokenizer.safetensors"})


def test_the_embedded_models_share_the_names_of_their_other_parts() -> None:
    inputs = {"diffusion_model": "embedded (joint attention)", "text_encoder": "embedded", "vae": "mine.safetensors"}
    with pytest.raises(ValueError, match=r"'embedded \(joint attention\)' but vae is a file of yours"):
        run(**inputs, weight_dtype="default")


@pytest.mark.parametrize("own", ["diffusion_model", "text_encoder", "vae"])
def test_the_embedded_model_is_not_mixed_with_other_files(own: str) -> None:
    inputs = dict.fromkeys(("diffusion_model", "text_encoder", "vae"), "embedded")
    with pytest.raises(ValueError, match=rf"^Load Video DiT: .*'embedded' but {own} is a file of yours.*for all three"):
        run(**{**inputs, own: "mine.safetensors"}, weight_dtype="default")
