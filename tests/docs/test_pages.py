"""The pages for readers: their links lead somewhere, and what they name is there under that name."""

import json
import re
from pathlib import Path

import pytest

from devtools import client
from devtools.environment import ROOT
from devtools.server import Server
from devtools.words import node_schemas
from kvshare_core.script.parsing import parse_script
from tests.support.pages import anchors_of, text_of

REPOSITORY = "https://github.com/kv-share/kv-share"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOR_ARTISTS = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("compatibility", "concepts", "editing", "nodes", "troubleshooting")),
    *sorted((ROOT / "docs" / "models").glob("*.md")),
]
"""Pages on which every name of a node, an input, an option or a template is checked."""

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
ITALIC = re.compile(r"(?<![\w*])\*([^*\s][^*]*?)\*(?![\w*])")
INPUT = re.compile(r"`([a-z][a-z_]*)`")
WORKFLOWS = {path.stem for path in (ROOT / "example_workflows").glob("*.json")}
BLUEPRINTS = {path.stem for path in (ROOT / "subgraphs").glob("*.json")}
SCHEMAS = node_schemas()
OPTIONS = {str(option) for schema in SCHEMAS for item in schema.inputs for option in getattr(item, "options", ())}

INPUTS_OF_THE_HOST = {"amount", "denoise", "dim", "frame_rate", "frames_number", "index", "trim_latent"}
"""Inputs of ComfyUI's own nodes that pages name."""
CODE = {"custom_nodes", "euler", "euler_ancestral", "fox", "res_multistep", "transformer", "uni_pc"}
"""Other words in the type of code."""
OF_THE_FRONTEND = {
    "Extensions",
    "Templates",
    "View details",
    "Subgraph blueprints",
    "Comfy Blueprints",
    "Run",
    "Wan 2.2",
    "LTX-2.3",
    "HunyuanVideo 1.5",
    "MiniMax H3",
    "CogVideoX-2B",
}
"""Of ComfyUI's window, and beginnings of names of templates."""
SAID = {"KV Share", "More of this beat", "Red fox", "Word weights", "i", "italics", "kv-share", "kvshare", "timeline"}
"""Other words in italics, two of them of the timeline editor."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(text_of(path)):
        if target.startswith(f"{REPOSITORY}/blob/main/"):
            assert (ROOT / target.removeprefix(f"{REPOSITORY}/blob/main/")).exists(), target
        if target.startswith(("https://", "mailto:")):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists() and found.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors_of(found), target


def test_every_page_is_in_the_list_of_pages() -> None:
    listed = {(ROOT / "docs" / target).resolve() for target in LINK.findall(text_of(ROOT / "docs" / "README.md"))}
    assert {path for path in PAGES if path.parent != ROOT and path.name != "README.md"} <= listed


@pytest.mark.parametrize("path", FOR_ARTISTS, ids=lambda path: path.stem)
def test_what_looks_like_an_input_or_an_option_is_one(path: Path) -> None:
    known = {item.id for schema in SCHEMAS for item in schema.inputs}
    known |= {output.display_name for schema in SCHEMAS for output in schema.outputs} | OPTIONS
    assert set(INPUT.findall(text_of(path))) - known - INPUTS_OF_THE_HOST - CODE == set()


@pytest.mark.parametrize("path", FOR_ARTISTS, ids=lambda path: path.stem)
def test_what_is_in_italics_is_a_node_a_template_or_an_option(server: Server, path: Path) -> None:
    nodes = client.object_info(server.url)
    if "LTXVEmptyLatentAudio" not in nodes:
        pytest.skip("pages use names of newer hosts")
    known = {node["display_name"] for node in nodes.values()} | set(nodes) | WORKFLOWS | BLUEPRINTS
    known |= OPTIONS | OF_THE_FRONTEND | SAID
    found = {re.sub(r"\s+", " ", match) for match in ITALIC.findall(text_of(path).replace("**", ""))}
    assert {name for name in found if " " not in name or titled(name)} - known == set()


def titled(name: str) -> bool:
    """Whether a phrase looks like the name of a node or template, and not like a sentence."""
    return len(name) < 40 and name[0].isupper() and not name.endswith(".") and ":" not in name


def test_the_page_of_the_nodes_has_every_node() -> None:
    named = re.findall(r"\*\*([^*]+)\*\*", text_of(ROOT / "docs" / "nodes.md"))
    assert sorted(named) == sorted(schema.display_name for schema in SCHEMAS)


def test_films_on_the_pages_can_be_read() -> None:
    for name in ("README.md", "docs/timeline.md"):
        films = re.findall(
            r"^ *```text\n(.*?)^ *```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
        assert films
        for film in films:
            assert parse_script(film).beats


def test_the_test_that_a_page_shows_is_one() -> None:
    text = (ROOT / "docs" / "tests.md").read_text(encoding="utf-8")
    (name,) = re.findall(r"def (test_\w+)\(", text)
    lines = text[text.index(f"    def {name}") :].split("\n\n")[0]
    shown = "\n".join(line.removeprefix("    ") for line in lines.splitlines())
    assert any(shown in path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))


def test_the_readme_fits_what_it_promises() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"!\[[^\]]*\]\(([^)]+\.gif)\)", text)
    assert (ROOT / picture).stat().st_size < 2 << 20
    for name in re.findall(r"[Tt]emplate \*([^*]+)\*", text):
        assert name in WORKFLOWS
    first = json.loads((ROOT / "example_workflows" / "First light.json").read_text(encoding="utf-8"))
    assert "embedded" in next(node for node in first["nodes"] if node["type"] == "LoadVideoDiT")["widgets_values"]


def test_every_cell_of_the_comparison_has_a_dated_source() -> None:
    text = (ROOT / "docs" / "compared.md").read_text(encoding="utf-8")
    sources = dict(re.findall(r"^(\d+)\. \[[^\]]+\]\([^)]+\), (20\d\d-\d\d(?:-\d\d)?)$", text, re.MULTILINE))
    rows = [line for line in text.splitlines() if line.startswith("| **")]
    assert len(rows) > 10
    for row in rows:
        cells = row.strip("|").split("|")[1:]
        assert len(cells) == 8
        for cell in cells:
            named = re.findall(r"\[(\d+)\]", cell)
            assert named and set(named) <= set(sources), cell
