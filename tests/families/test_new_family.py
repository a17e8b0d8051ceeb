"""Adding a family takes one file and one line: here a class in this file and an entry in FAMILIES."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any

import comfy.conds
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models_base
import folder_paths
import pytest
import safetensors.torch
import torch
from comfy.ldm.wan.model import WanModel

from kvshare_core import families
from kvshare_core.attention.rope import RopeScheme
from kvshare_core.config import KVShareConfig
from kvshare_core.families.base import AttentionCall, BlockName, CallSite, Family, FamilyInfo, calls_in_turn
from kvshare_core.families.model_inputs import ImageChannels, InputLayout, PerFrame
from kvshare_core.families.self_cross import self_then_cross
from kvshare_core.families.text_encoders import CLIP_L, EncoderFile, Excerpt, PromptTokens, TextEncoders
from kvshare_core.families.wan import WanFamily
from kvshare_core.host import BEAT_TAG
from kvshare_core.host.conditioning.beat_images import BeatImages, add_beat_images
from kvshare_core.host.conditioning.slicing import COMMON_INPUTS
from kvshare_core.host.conditioning.tokens import locate_words
from kvshare_core.host.loading.model_info import model_info
from kvshare_core.host.loading.text_encoders import check_text_encoders
from tests.support.family_cases import FamilyCase, model_of
from tests.support.windows import latent_shape, share, tiny_timeline
from tests.tiny.models import Sampling, one_prompt, random_text, tiny_wan

CUT_TOKENS = 4
KV_SHARE = Path(families.__file__).parents[1]


# The new family, as its one file would have it.


def after_system_prompt(pieces: Sequence[str]) -> Excerpt:
    return Excerpt(CUT_TOKENS, CUT_TOKENS, len(pieces))


class NewFamily:
    """A family whose models call attention as Wan does."""

    name = "new"
    inputs: Mapping[str, InputLayout] = {"sketches": PerFrame(2, per_frame=2)}
    text_encoders = (
        TextEncoders(
            "WAN",
            (EncoderFile("NewT5", ("BYT5_SMALL_GLYPH",), with_weight="new"), CLIP_L),
            PromptTokens(("NewTextEncoder",), after_system_prompt),
        ),
    )
    image_channels = ImageChannels(
        "patch_embedding.weight",
        extra_channels=20,
        mask_channels=1,
        empty_pixel=None,
        last_image=False,
        mask_first=False,
    )
    audio = None

    def describe(self, diffusion_model: Any, latent_channels: int) -> FamilyInfo | None:
        if type(diffusion_model).__name__ != "NewVideoModel":
            return None
        return FamilyInfo(
            family=self.name,
            blocks=len(diffusion_model.blocks),
            heads=int(diffusion_model.num_heads),
            head_dim=int(diffusion_model.dim) // int(diffusion_model.num_heads),
            joint=False,
            patch=(1, 2, 2),
            compression=(4, 8, 8),
            latent_channels=latent_channels,
            native_frames=21,
            routes_text=True,
            text_encoders=self.text_encoders[0],
        )

    def classify(
        self, diffusion_model: Any, call_index: int, call: AttentionCall, video_tokens: int, text_tokens: int
    ) -> CallSite:
        return self_then_cross(call_index, call, len(diffusion_model.blocks), video_tokens, text_tokens)

    def calls_of_block(self, diffusion_model: Any, call: AttentionCall, block: BlockName) -> range:
        return calls_in_turn(block, len(diffusion_model.blocks), each=2)

    def rope_scheme(self, diffusion_model: Any, rope_options: Mapping[str, float]) -> RopeScheme | None:
        return WanFamily().rope_scheme(diffusion_model, rope_options)


@pytest.fixture(autouse=True)
def with_new_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, NewFamily()))


# What a host with such a model would have.


class NewVideoModel(WanModel):
    """A model class of the host that no other family knows; keeps what it gets as `sketches`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if "sketches" in kwargs:
            vars(self).setdefault("received", []).append(kwargs.pop("sketches"))
        return super().forward(*args, **kwargs)


def new_model(**options: Any) -> Any:
    """A tiny MODEL of the new class, with the weights of the tiny Wan MODEL."""
    model = tiny_wan(**options)
    model.model.diffusion_model.__class__ = NewVideoModel
    return model


class NewTextEncoder(comfy.sd1_clip.SD1ClipModel):
    """Leaves the first tokens, which would be a system prompt, out of the embedding."""

    def encode_token_weights(self, token_weight_pairs: Any) -> Any:
        out, *others = super().encode_token_weights(token_weight_pairs)
        return out[:, CUT_TOKENS:], *others


class FlatVAE:
    """Encodes every picture to ones."""

    def spacial_compression_encode(self) -> int:
        return 8

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        frames, height, width = 1 + (len(pixels) - 1) // 4, pixels.shape[1] // 8, pixels.shape[2] // 8
        return torch.ones(1, 16, frames, height, width)


def conditioning(beats: int) -> list[Any]:
    return [[random_text(beat), {BEAT_TAG: beat}] for beat in range(beats)]


# What it gets for that.


def test_a_model_of_the_new_family_is_sampled_as_the_one_it_is_like() -> None:
    timeline, films = tiny_timeline(3), []
    for model in (new_model(), tiny_wan()):
        patched, _ = share(model, timeline, KVShareConfig(share_background=True))
        films.append(Sampling().run(patched, conditioning(len(timeline.beats)), one_prompt(), latent_shape(timeline)))
    assert torch.equal(*films)


def test_inputs_of_the_new_family_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline, model = tiny_timeline(3, overlap=0), new_model(layers=1)
    sketches = torch.arange(2.0 * timeline.latent_frames).view(1, 1, -1, 1, 1)
    stock = model.model.extra_conds
    monkeypatch.setattr(
        model.model, "extra_conds", lambda **values: {**stock(**values), "sketches": comfy.conds.CONDRegular(sketches)}
    )
    patched, _ = share(model, timeline, KVShareConfig(mode="off"), subject="")
    Sampling(1, cfg=1.0).run(patched, conditioning(len(timeline.beats)), one_prompt(), latent_shape(timeline))
    found = [part.flatten().tolist() for part in model.model.diffusion_model.received]
    assert found == [list(range(2 * segment.start, 2 * segment.stop)) for segment in timeline.segments]


def test_words_are_found_in_the_output_of_its_text_encoder() -> None:
    target = comfy.supported_models_base.ClipTarget(comfy.sd1_clip.SD1Tokenizer, NewTextEncoder)
    words = locate_words(comfy.sd.CLIP(target, parameters=1), "one two three red fox")
    assert words is not None
    # The start token and three words are cut.
    assert dict(zip(words.words, words.positions, strict=True)) == {"red": (0,), "fox": (1,)}


def test_files_of_its_text_encoders_are_recognised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    byt5 = {"encoder.block.0.layer.0.SelfAttention.k.weight": torch.zeros(384, 1472)}
    clip = {f"text_model.encoder.layers.{layer}.mlp.fc1.weight": torch.zeros(3072, 768) for layer in (0, 1)}
    for name, weights in {"new": {**byt5, "new": torch.zeros(1)}, "byt5": byt5, "clip": clip}.items():
        safetensors.torch.save_file(weights, tmp_path / f"{name}.safetensors")
    extensions = folder_paths.folder_names_and_paths["text_encoders"][1]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "text_encoders", ([str(tmp_path)], extensions))
    info = model_info(new_model(layers=1))[1]
    check_text_encoders(info, "clip.safetensors", "new.safetensors")
    with pytest.raises(ValueError, match="of the kind byT5 small glyph, but a new model needs NewT5 and CLIP-L"):
        check_text_encoders(info, "byt5.safetensors", "clip.safetensors")


def test_its_image_to_video_models_take_images() -> None:
    timeline, model = tiny_timeline(2, overlap=0), new_model(image_to_video=True, layers=1)
    latent, image = {"samples": torch.zeros(latent_shape(timeline, side=4))}, torch.rand(1, 32, 32, 3)
    texts = conditioning(len(timeline.beats)), one_prompt()
    positive, *_ = add_beat_images(model, FlatVAE(), timeline, latent, *texts, 1, BeatImages(image))
    assert positive[0][1]["concat_mask"][0, :, :, 0, 0].tolist() == [[0.0] + [1.0] * (timeline.latent_frames - 1)]
    assert positive[0][1]["concat_latent_image"].sum() == 16 * 4 * 4
    with pytest.raises(ValueError, match="end_image: a new model takes an image to begin with only"):
        add_beat_images(model, FlatVAE(), timeline, latent, *texts, 1, BeatImages(image, image))


# What every family must have.


@pytest.mark.parametrize("family", families.FAMILIES, ids=lambda family: family.name)
def test_every_family_states_everything(family: Family) -> None:
    assert [other.name for other in families.FAMILIES].count(family.name) == 1
    assert not family.inputs.keys() & COMMON_INPUTS.keys()
    # The words of a ViT3D lie in its own file, which no loader of the host reads.
    assert bool(family.text_encoders) == (family.name != "vit3d")
    for encoders in family.text_encoders:
        assert 1 <= len(encoders.files) <= 2 and encoders.prompt.encoders
        assert all(file.title and (file.kinds or file.detector) for file in encoders.files)
    channels = family.image_channels
    if isinstance(channels, ImageChannels):
        assert not channels.last_image or channels.empty_pixel is not None


def test_every_layout_has_text_encoders_of_its_family(case: FamilyCase) -> None:
    model = model_of(case.name)
    family, info = model_info(model)
    assert info.text_encoders in (family.text_encoders or (None,))
    if isinstance(family.image_channels, ImageChannels):
        assert attrgetter(family.image_channels.weight)(model.model.diffusion_model).ndim >= 2


def test_families_that_share_a_text_encoder_agree_on_its_prompts() -> None:
    stated: dict[tuple[str, str], set[Any]] = {}
    for encoders in (encoders for family in families.FAMILIES for encoders in family.text_encoders):
        for name in product(encoders.prompt.encoders, encoders.prompt.language_models):
            stated.setdefault(name, set()).add(replace(encoders.prompt, encoders=(), language_models=()))
    assert {name: len(prompts) for name, prompts in stated.items()} == dict.fromkeys(stated, 1)


def test_no_other_code_names_a_family() -> None:
    names = {family.name for family in families.FAMILIES} - {NewFamily.name}
    found: list[str] = []
    for file in KV_SHARE.rglob("*.py"):
        if file.relative_to(KV_SHARE).parts[0] in ("families", "embedded"):
            continue
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in names:
                found.append(f"{file.relative_to(KV_SHARE)}:{node.lineno}")
    assert found == []
