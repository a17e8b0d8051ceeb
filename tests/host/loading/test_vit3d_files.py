"""A ViT3D file of the pack's training in LoadVideoDiT, and a film of two prompts made with it through the nodes."""

from collections.abc import Iterator
from pathlib import Path

import folder_paths
import nodes as host_nodes
import pytest
import safetensors.torch
import torch

from kv_share.nodes.load_video_dit import LoadVideoDiT
from kvshare_core.config import KVShareConfig
from kvshare_core.embedded.vit3d_file import KEY, ViT3DFile, save_vit3d
from kvshare_core.host.loading.loading import FROM_CHECKPOINT, load_video_model
from kvshare_core.host.loading.model_files import CHECKPOINT, EMBEDDED
from kvshare_core.host.loading.model_headers import facts_of
from kvshare_core.host.loading.model_info import model_info
from tests.support.node_calls import run_node
from tests.tiny.vit3d import TINY, WORDS, tiny_vit3d

NAME = "tiny.safetensors"
OWN = {"text_encoder": FROM_CHECKPOINT, "vae": FROM_CHECKPOINT, "weight_dtype": "default"}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for kind in ("diffusion_models", "checkpoints"):
        (tmp_path / kind).mkdir()
        known = folder_paths.folder_names_and_paths[kind][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, kind, ([str(tmp_path / kind)], known))
    folder_paths.filename_list_cache.clear()
    diffusion_model = tiny_vit3d().model.diffusion_model
    table = torch.randn(len(WORDS), 128, generator=torch.Generator().manual_seed(2))
    for kind in ("diffusion_models", "checkpoints"):
        save_vit3d(diffusion_model, table, ViT3DFile(TINY, WORDS, 3.0, {"steps": 9}), tmp_path / kind / NAME)
    yield tmp_path
    folder_paths.filename_list_cache.clear()


@pytest.mark.parametrize("name", [NAME, CHECKPOINT + NAME])
def test_a_file_is_model_text_encoder_and_pixels(models: Path, name: str) -> None:
    model, clip, vae, report = LoadVideoDiT.execute(name, **OWN).result
    assert report.splitlines()[:2] == ["family: vit3d", "blocks: 4"]
    info = model_info(model)[1]
    assert (info.patch, info.compression, info.latent_channels, info.native_frames) == ((1, 4, 4), (1, 1, 1), 3, 3)
    facts = facts_of(name)
    assert facts is not None and facts.info == info
    assert clip.tokenizer.known == WORDS
    pictures = torch.rand(3, 16, 16, 3)
    torch.testing.assert_close(vae.decode(vae.encode(pictures))[0], pictures, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["default", "fp16", "bf16", "fp8_e4m3fn"])
def test_it_samples_in_every_weight_dtype(models: Path, dtype: str) -> None:
    model, clip, vae = load_video_model(NAME, FROM_CHECKPOINT, FROM_CHECKPOINT, dtype)
    texts = [host_nodes.CLIPTextEncode().encode(clip, text)[0] for text in ("fox runs", "")]
    start = {"samples": torch.zeros(1, 3, 3, 16, 16)}
    with torch.inference_mode():
        latent = host_nodes.KSampler().sample(model, 1, 2, 2.0, "euler", "simple", *texts, start)[0]
        (pictures,) = host_nodes.VAEDecode().decode(vae, latent)
    assert pictures.shape == (3, 16, 16, 3) and torch.isfinite(pictures).all()


def test_a_film_of_two_prompts_shares_its_subject(models: Path) -> None:
    model, clip, vae, _ = LoadVideoDiT.execute(NAME, **OWN).result

    def film(config: KVShareConfig) -> torch.Tensor:
        timeline, positive, negative, latent, _ = run_node(
            "LongVideoSegmenter",
            model=model,
            clip=clip,
            prompts="a fox runs\n[cut]\na fox",
            negative_prompt="",
            width=16,
            height=16,
            fps=8.0,
            sampling_num_frames=3,
            overlap_size=1,
            batch_size=1,
        )
        patched, record = run_node("MaskGuidedKVShare", model=model, timeline=timeline, subject="fox", config=config)
        with torch.inference_mode():
            made = host_nodes.KSampler().sample(patched, 1, 3, 3.0, "euler", "simple", positive, negative, latent)[0]
            (pictures,) = host_nodes.VAEDecode().decode(vae, made)
        assert record.latest() is not None and record.notices() == ()
        return pictures

    shared, off = film(KVShareConfig()), film(KVShareConfig(mode="off"))
    assert shared.shape == (6, 16, 16, 3)
    torch.testing.assert_close(shared[:3], off[:3], rtol=0, atol=1e-4)
    assert (shared[3:] - off[3:]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text_encoder": EMBEDDED, "vae": EMBEDDED}, "text_encoder is 'embedded' and vae is 'embedded', but"),
        ({"vae": "my_vae.safetensors"}, "vae is 'my_vae.safetensors', but diffusion_model 'tiny.safetensors' has"),
    ],
)
def test_other_parts_are_refused(models: Path, changed: dict[str, str], message: str) -> None:
    if changed.get("text_encoder") == EMBEDDED:
        with pytest.raises(ValueError, match="only fit each other"):
            LoadVideoDiT.execute(NAME, **{**OWN, **changed})
        return
    with pytest.raises(ValueError, match=message):
        LoadVideoDiT.execute(NAME, **{**OWN, **changed})


def test_a_file_with_sizes_that_are_none_is_refused_by_name(models: Path) -> None:
    path = models / "diffusion_models" / NAME
    safetensors.torch.save_file({"weight": torch.zeros(1)}, path, {KEY: '{"shape": {"backbone": {}, "frames": 1e9}}'})
    with pytest.raises(ValueError, match=r"diffusion_model 'tiny.safetensors' cannot be used: it states the size"):
        LoadVideoDiT.execute(NAME, **OWN)
    assert facts_of(NAME) is None


def test_it_can_be_loaded_again_for_a_second_gpu(models: Path) -> None:
    model, clip, vae, _ = LoadVideoDiT.execute(NAME, **OWN).result
    for patcher in (model, clip.patcher, vae.patcher):
        again, arguments = vars(patcher)["cached_patcher_init"]
        second = again(*arguments)
        for one, other in zip(second.model.state_dict().values(), patcher.model.state_dict().values(), strict=True):
            assert torch.equal(one, other)
