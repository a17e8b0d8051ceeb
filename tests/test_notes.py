"""docs/notes.md names what is there: every file and every name in it, here and on the real host."""

import ast
import importlib
import re

import pytest

from devtools.environment import ROOT, find_host
from kvshare_core.embedded.vit3d import ViT3D

PAGE = (ROOT / "docs" / "notes.md").read_text(encoding="utf-8")
REFERENCE = re.compile(r"`([\w/]+\.py)(?::([\w.]+))?`")
REFERENCES = sorted({(match[1], match[2] or "") for match in REFERENCE.finditer(PAGE)})
NAMES_OF_THE_NOTES = (
    "height width hidden_size num_layers time_embed_dim compressed_num_frames text_length qk_ln elementwise_affine "
    "start_layer start_step layer_idx step_idx end_step end_layer overlap_size sampling_num_frames mask_save_dir "
    "ref_token_idx cur_token_idx attn_map_step_idx attn_map_layer_idx thres num_prompts num_transition_blocks "
    "longer_mid_segment is_edit reweight_token_idx reweight_scale adaLN_modulations query_layernorm_list "
    "key_layernorm_list __init__ layer_forward reinit "
    "attention_fn attention_batch attn_batch after_total_layers AttentionMapController save_cur_attn_map "
    "AttentionBlock BasicTransformerBlock FeedForward GELU GEGLU ApproximateGELU AdaLayerNorm AdaLayerNormZero "
    "AdaGroupNorm SelfAttention CrossAttention VAE_attentionblock VAE_residualblock VAE_Decoder VAE_Encoder "
    "CLIPEmbedding CLIPLayer CLIP TimeEmbedding Unet_AttentionBlock Unet_ResidualBlock SwitchSequential Upsample UNET "
    "UNET_OutputLayer Diffusion ViT3D TemporalAttention"
).split()


def names_in(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module or a class defines, by name; of an assignment the statement."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[statement.name] = statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = statement
        elif isinstance(statement, ast.Assign):
            found |= {target.id: statement for target in statement.targets if isinstance(target, ast.Name)}
    return found


def attributes_of(owner: ast.ClassDef) -> set[str]:
    """What methods of a class assign to `self`, alone or together."""
    return {
        node.attr
        for node in ast.walk(owner)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def is_there(source: str, name: str) -> bool:
    """Whether a module's source defines a name, which may be one of a class, or an attribute of its objects."""
    first, _, second = name.partition(".")
    known = names_in(ast.parse(source).body)
    if not second:
        return first in known
    owner = known.get(first)
    return isinstance(owner, ast.ClassDef) and second in names_in(owner.body).keys() | attributes_of(owner)


SOURCE = "class Model:\n    size: int = 1\n    def __init__(self):\n        self.a = self.b = 1\nLIMIT = 2\n"


@pytest.mark.parametrize("name", ["Model", "LIMIT", "Model.size", "Model.a", "Model.b", "Model.__init__"])
def test_names_that_are_there_are_found(name: str) -> None:
    assert is_there(SOURCE, name)


@pytest.mark.parametrize("name", ["Other", "Model.c", "LIMIT.size", "size", "a"])
def test_names_that_are_gone_are_noticed(name: str) -> None:
    assert not is_there(SOURCE, name)


@pytest.mark.parametrize(("file", "name"), REFERENCES)
def test_the_page_points_to_what_is_there(file: str, name: str) -> None:
    of_the_host = file.startswith("comfy/")
    path = (find_host() if of_the_host else ROOT) / file
    assert path.is_file()
    if name:
        assert is_there(path.read_text(encoding="utf-8"), name)
    if of_the_host:
        module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
        assert hasattr(module, name.partition(".")[0])


def test_every_name_of_the_notes_has_a_row() -> None:
    firsts = " ".join(line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| "))
    assert [name for name in NAMES_OF_THE_NOTES if f"`{name}`" not in firsts] == []
    assert len(REFERENCES) > 70


def test_every_line_of_a_table_says_where_or_why_not() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| Att", "| Meth"))]
    for row in (row for row in rows if row.split("|")[1].strip() not in ("Name", "Class")):
        assert REFERENCE.search(row) or row.split("|")[3].strip(), row


def test_the_arguments_of_the_note_s_model_are_named_by_its_class() -> None:
    assert ViT3D.__init__.__code__.co_varnames[1:11] == (
        "in_channels", "out_channels", "frames", "height", "width", "time_dim", "text_dim", "embed_dim",
        "freeze_backbone", "num_temporal_heads",
    )  # fmt: skip
