"""The embedded models in other layouts than Wan's, through the host's own loaders, with random weights in own files."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.latent_formats
import nodes
import pytest
import torch
from safetensors.torch import save_file

from kvshare_core.config import KVShareConfig, MaskSettings
from kvshare_core.embedded import model
from kvshare_core.embedded.files import VAE_FILE, WEIGHTS
from kvshare_core.embedded.layouts import POOLED_DIM, without_unread_inputs
from kvshare_core.embedded.model import (
    JOINT_ATTENTION,
    MODEL_FILES,
    ONE_STREAM_ATTENTION,
    EmbeddedKind,
    EmbeddedModel,
    load_embedded,
    load_vae,
    load_vae_patcher,
)
from kvshare_core.embedded.scenes import render_pairs, sample_pairs
from kvshare_core.embedded.text import TEXT_WIDTH, WordEmbedding, token_ids
from kvshare_core.embedded.training.joint_transformer import JointShape, JointTransformer
from kvshare_core.embedded.training.one_stream_transformer import OneStreamShape, OneStreamTransformer
from kvshare_core.embedded.vae import COGVIDEOX_SCALE, HUNYUAN_SCALE
from kvshare_core.embedded.vocabulary import PAIR_CHUNK_TOKENS, PAIR_WORDS, PATTERNS
from kvshare_core.host.conditioning.encoding import encode_timeline
from kvshare_core.host.loading.model_files import EMBEDDED, EMBEDDED_JOINT, EMBEDDED_ONE_STREAM, diffusion_model_names
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.script.parsing import parse_script
from kvshare_core.timeline.planning import plan_timeline
from tests.support.present import known
from tests.support.windows import latent_shape, share
from tests.tiny.models import Sampling, lively_state_dict

PROMPT = "a red circle moving right and a blue square moving left over grass"


Transformer = JointTransformer | OneStreamTransformer


@dataclass(frozen=True)
class Layout:
    """What the host has to take a model's files for."""

    attention: EmbeddedKind
    make: Callable[[], Transformer]
    family: str
    latent_format: str
    latent_scale: float


LAYOUTS = (
    Layout(JOINT_ATTENTION, lambda: JointTransformer(JointShape()), "hunyuan", "HunyuanVideo", HUNYUAN_SCALE),
    Layout(
        ONE_STREAM_ATTENTION,
        lambda: OneStreamTransformer(OneStreamShape()),
        "cogvideox",
        "CogVideoX",
        COGVIDEOX_SCALE,
    ),
)


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: layout.attention)
def layout(request: pytest.FixtureRequest) -> Layout:
    known(request.param.attention)
    return request.param


@pytest.fixture(scope="module")
def transformer(layout: Layout) -> Transformer:
    lean = layout.make().requires_grad_(False)
    lean.load_state_dict(lively_state_dict(lean))
    return lean


@pytest.fixture(scope="module")
def embedding() -> WordEmbedding:
    torch.manual_seed(0)
    return WordEmbedding(len(PAIR_WORDS)).requires_grad_(False)


@pytest.fixture(scope="module")
def weights(
    layout: Layout, transformer: Transformer, embedding: WordEmbedding, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for part, name in zip((transformer, embedding), MODEL_FILES[layout.attention], strict=True):
        save_file(part.state_dict(), folder / name)
    shutil.copy(WEIGHTS / VAE_FILE, folder)
    return folder


@pytest.fixture(scope="module")
def embedded(layout: Layout, weights: Path) -> EmbeddedModel:
    return load_embedded(layout.attention, weights, {"dtype": torch.float32})


def test_the_host_takes_it_for_a_model_of_its_layout(embedded: EmbeddedModel, layout: Layout) -> None:
    assert model_info(embedded.model)[1].family == layout.family
    latent_format = embedded.model.model.latent_format
    assert type(latent_format).__name__ == layout.latent_format
    assert latent_format.scale_factor == layout.latent_scale


def test_the_stock_text_node_gives_what_training_used(embedded: EmbeddedModel, embedding: WordEmbedding) -> None:
    ((text, extra),) = nodes.CLIPTextEncode().encode(embedded.clip, PROMPT)[0]
    expected = embedding(torch.tensor([token_ids(PROMPT, PAIR_WORDS, PAIR_CHUNK_TOKENS)]))
    assert text.shape == (1, PAIR_CHUNK_TOKENS, TEXT_WIDTH)
    torch.testing.assert_close(text, expected, atol=2e-3, rtol=2e-3)
    assert torch.equal(extra["pooled_output"], torch.zeros(1, POOLED_DIM))
    assert extra.get("attention_mask") is None
    located = embedded.clip.tokenizer.locate_words(PROMPT)
    assert located.words == tuple(PROMPT.split())
    assert located.tokens == tuple(range(13))


def test_one_step_of_the_stock_sampler_is_the_trained_arithmetic(
    embedded: EmbeddedModel, layout: Layout, transformer: Transformer, embedding: WordEmbedding
) -> None:
    ids = torch.tensor([token_ids(PROMPT, PAIR_WORDS, PAIR_CHUNK_TOKENS)])
    conditioning = nodes.CLIPTextEncode().encode(embedded.clip, PROMPT)[0]
    noise = torch.randn(1, 16, 3, 6, 6, generator=torch.Generator().manual_seed(2))
    sampled = Sampling(steps=1, cfg=1.0).run(embedded.model, conditioning, conditioning, tuple(noise.shape), noise)
    with torch.inference_mode():
        clean = noise - transformer(noise, torch.tensor([1000.0]), embedding(ids))
    torch.testing.assert_close(sampled * layout.latent_scale, clean, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("given", ["subject", "mask"])
def test_two_segments_share(embedded: EmbeddedModel, given: str) -> None:
    prompts = f"{PROMPT}\na red circle moving up and a blue square moving down over sand"
    timeline = plan_timeline(parse_script(prompts), 3, 1, fps=8, temporal_compression=4)
    timeline, positive, negative = encode_timeline(embedded.clip, timeline, "")
    mask = torch.zeros(1, 48, 48)
    mask[:, :24] = 1
    # A mask that is given is there in the first step, one that is read from the attention only after it.
    subject: dict[str, Any] = {"mask": mask} if given == "mask" else {"subject": "blue square"}
    outputs: dict[str, torch.Tensor] = {}
    for mode in ("off", "extend"):
        config = KVShareConfig(mode=mode, masks=MaskSettings(kind="threshold", thres=0.3, rim=0))
        patched, _ = share(embedded.model, timeline, config, **subject)
        steps = 1 if given == "mask" else 2
        outputs[mode] = Sampling(steps).run(patched, positive, negative, latent_shape(timeline))
    assert torch.isfinite(outputs["extend"]).all()
    changed = (outputs["extend"] - outputs["off"]).abs().amax((0, 1, 3, 4))
    assert changed[-1] > 1e-3
    if given == "mask":
        assert changed[:2].max() == 0


def test_all_models_use_the_same_latents_of_one_vae_file(embedded: EmbeddedModel) -> None:
    video = render_pairs(sample_pairs(1, torch.Generator().manual_seed(3)), side=48, frames=5)[0][0].movedim(1, -1)
    cross = load_vae()
    wan, own = comfy.latent_formats.Wan21(), embedded.model.model.latent_format
    with torch.inference_mode():
        expected, latents = wan.process_in(cross.encode(video)), own.process_in(embedded.vae.encode(video))
        torch.testing.assert_close(latents, expected, atol=5e-3, rtol=0)
        pictures = embedded.vae.decode(own.process_out(expected))
        torch.testing.assert_close(pictures, cross.decode(wan.process_out(expected)), atol=5e-3, rtol=0)


def test_a_second_copy_of_the_vae_has_the_same_latents(embedded: EmbeddedModel, weights: Path) -> None:
    reload, arguments = vars(embedded.vae.patcher)["cached_patcher_init"]
    assert reload is load_vae_patcher
    copy = reload(*arguments).model.state_dict()
    assert all(torch.equal(copy[name], tensor) for name, tensor in embedded.vae.get_sd().items())


def test_weights_that_read_only_zeros_are_not_stored_and_change_nothing(
    embedded: EmbeddedModel, layout: Layout, transformer: Transformer, weights: Path, tmp_path: Path
) -> None:
    """Wan's text and HunyuanVideo's pooled text are wider than what the embedded models give."""
    folder = shutil.copytree(weights, tmp_path / "weights")
    file = folder / MODEL_FILES[layout.attention][0]
    stored = without_unread_inputs(transformer.state_dict())
    save_file({name: tensor.contiguous() for name, tensor in stored.items()}, file)
    copy = load_embedded(layout.attention, folder, {"dtype": torch.float32})
    conditioning = nodes.CLIPTextEncode().encode(embedded.clip, PROMPT)[0]
    noise = torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(4))
    outputs = [
        Sampling(steps=1, cfg=1.0).run(part.model, conditioning, conditioning, tuple(noise.shape), noise)
        for part in (embedded, copy)
    ]
    assert torch.equal(*outputs)
    reload, arguments = vars(copy.model)["cached_patcher_init"]
    second = reload(*arguments).model.diffusion_model.state_dict()
    assert second.keys() == copy.model.model.diffusion_model.state_dict().keys()


@pytest.mark.parametrize("part", ["transformer", "text encoder", "vae"])
def test_a_missing_file_is_named_with_what_to_do(layout: Layout, weights: Path, tmp_path: Path, part: str) -> None:
    folder = shutil.copytree(weights, tmp_path / "weights")
    files = dict(zip(("transformer", "text encoder", "vae"), (*MODEL_FILES[layout.attention], VAE_FILE), strict=True))
    (folder / files[part]).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{files[part]}.*python3 dev\.py train"):
        load_embedded(layout.attention, folder)


def test_a_model_whose_layout_the_host_lacks_is_refused_and_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="Update ComfyUI"):
        load_embedded(ONE_STREAM_ATTENTION)
    assert diffusion_model_names()[:2] == [EMBEDDED, EMBEDDED_JOINT]
    assert EMBEDDED_ONE_STREAM not in diffusion_model_names()


def test_new_words_are_unknown_to_the_first_model_only(embedded: EmbeddedModel) -> None:
    first = load_embedded().clip
    unknown = [word for word in PAIR_WORDS if word_is_unknown(first, word)]
    assert [word for word in unknown if word not in PATTERNS] == ["<pad>", "<unknown>", "and", "while"]
    assert not word_is_unknown(embedded.clip, "and") and word_is_unknown(embedded.clip, "fox")


def word_is_unknown(clip: Any, word: str) -> bool:
    """Whether `word` gets the embedding that stands for all words without one."""
    return clip.tokenize(word)["words"][0][0] == clip.tokenize("fox")["words"][0][0]
