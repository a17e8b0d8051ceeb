"""The help page of every node, as the host's help panel shows it."""

import json
import re
import urllib.request
from typing import Any

import pytest

from devtools.environment import ROOT
from devtools.server import PACK_FOLDER, Server
from devtools.words import node_schemas, read_words
from kvshare_core.script.parsing import parse_script
from tests.support.pages import anchors_of

DOCS = ROOT / "web" / "docs"
SCHEMAS = node_schemas()
LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)\s]+)[^)]*\)|<(?:img|video|source)\b[^>]*\ssrc=\"([^\"]+)\"")
WORKFLOW = r"(?:workflow|工作流|ワークフロー) `([^`]+)`|\| `([A-Z][^`]+)` \|"
"""Where a page names an example, in a sentence and in a table."""
QUOTED_FILE = re.compile(r"`((?:bench|docs)/[\w./-]+)`")


PAGES_OF_THE_REPOSITORY = "https://github.com/kv-share/kv-share/blob/main/"

OUTPUTS = {"en": "Output", "zh": "输出", "ja": "出力"}
"""The languages, and what begins the table of outputs."""
PAGES = [
    pytest.param(schema, language, id=f"{schema.node_id} {language}") for schema in SCHEMAS for language in OUTPUTS
]


def file_of(schema: Any, language: str = "en") -> str:
    """The page of a node in a language, where the host's panel looks for it first, and the English one after that."""
    return f"{schema.node_id}{'' if language == 'en' else f'/{language}'}.md"


def page(schema: Any, language: str = "en") -> str:
    return (DOCS / file_of(schema, language)).read_text(encoding="utf-8")


def test_every_node_has_a_page_in_every_language_and_every_page_a_node() -> None:
    files = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert files == {file_of(schema, language) for schema in SCHEMAS for language in OUTPUTS}


@pytest.mark.parametrize(("schema", "language"), PAGES)
def test_a_page_describes_every_input_and_output(schema: Any, language: str) -> None:
    text = page(schema, language)
    assert text.startswith(f"# {read_words(language)[schema.node_id]['display_name']}\n")
    inputs, _, outputs = text.partition(f"\n| {OUTPUTS[language]} |")
    for item in schema.inputs:
        assert f"\n| `{item.id}` | " in inputs, f"{item.id} is no row of the table of inputs"
    for item in schema.outputs:
        assert f"\n| `{item.display_name}` | " in outputs, f"{item.display_name} is no row of the table of outputs"
    told = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert sorted(told) == sorted([item.id for item in schema.inputs] + [item.display_name for item in schema.outputs])


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda schema: schema.node_id)
def test_a_page_says_more_than_the_tooltips(schema: Any) -> None:
    text = page(schema)
    assert "\n## Common mistakes\n" in text
    for item in [*schema.inputs, *schema.outputs]:
        if len(item.tooltip) > 40:
            assert item.tooltip.rstrip(".") not in text, f"{item.id}: its tooltip is copied"


# The panel opens links as they stand, from the host's own address; only for pictures it knows the folder of the pages.
@pytest.mark.parametrize(("schema", "language"), PAGES)
def test_a_page_calls_nodes_by_the_names_on_them(schema: Any, language: str) -> None:
    text = page(schema, language)
    assert [other.node_id for other in SCHEMAS if other.node_id in text] == []


@pytest.mark.parametrize(("schema", "language"), PAGES)
def test_what_a_page_links_to_is_there(schema: Any, language: str) -> None:
    for picture, target, source in LINK.findall(page(schema, language)):
        if source or picture:
            assert (DOCS / (source or target)).is_file()
        else:
            assert target.startswith("https://")
        if target.startswith(PAGES_OF_THE_REPOSITORY):
            file, _, anchor = target.removeprefix(PAGES_OF_THE_REPOSITORY).partition("#")
            assert (ROOT / file).is_file()
            assert not anchor or anchor in anchors_of(ROOT / file)
    for file in QUOTED_FILE.findall(page(schema, language)):
        assert (ROOT / file).is_file()


@pytest.mark.parametrize(("schema", "language"), PAGES)
def test_a_page_ends_with_links_to_the_pages_of_the_repository(schema: Any, language: str) -> None:
    last = page(schema, language).rstrip().splitlines()[-1]
    targets = [target for _, target, _ in LINK.findall(last)]
    assert len(targets) > 1 and all(target.startswith(PAGES_OF_THE_REPOSITORY) for target in targets)
    english = [target for _, target, _ in LINK.findall(page(schema).rstrip().splitlines()[-1])]
    assert targets == english


def test_figures_on_pages_are_those_of_the_results_files() -> None:
    rows = json.loads((ROOT / "bench" / "results" / "plans.json").read_text(encoding="utf-8"))["rows"]
    (settings,) = (schema for schema in SCHEMAS if schema.node_id == "KVShareMemorySettings")
    known = {row["model"]: f"{row['subject_kv_gib_all'] * 2**30 / 1e9:.1f}" for row in rows}
    for language in OUTPUTS:
        told = dict(re.findall(r"^\| ([^|`]+) \| (\d+\.\d) \|$", page(settings, language), re.MULTILINE))
        assert told and told.items() <= known.items()
    extra = [row["extra_compute"] for row in rows]
    config = (DOCS / "KVShareConfig.md").read_text(encoding="utf-8")
    assert f"{min(extra):.0%} to {max(extra):.0%}".replace("% to", " to").replace("%", " %") in config


@pytest.mark.parametrize("language", OUTPUTS)
def test_workflows_that_pages_name_are_there(language: str) -> None:
    named = {"".join(found) for schema in SCHEMAS for found in re.findall(WORKFLOW, page(schema, language))}
    assert len(named) > 8
    for name in named:
        assert (ROOT / "example_workflows" / f"{name}.json").is_file()


@pytest.mark.parametrize("language", OUTPUTS)
def test_values_for_released_models_are_those_of_their_workflows(language: str) -> None:
    (config,) = (schema for schema in SCHEMAS if schema.node_id == "KVShareConfig")
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) x (\d+), (\d+) fps", page(config, language), re.MULTILINE)
    assert len(rows) > 6
    for name, *told in rows:
        saved = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
        (segmenter,) = (node for node in saved["nodes"] if node["type"] == "LongVideoSegmenter")
        assert [float(number) for number in told] == segmenter["widgets_values"][2:5]


def test_the_prompts_on_a_page_can_be_read() -> None:
    scripts = [text for schema in SCHEMAS for text in re.findall(r"```text\n(.*?)```", page(schema), re.DOTALL)]
    assert scripts
    for text in scripts:
        assert len(parse_script(text).beats) > 1


@pytest.mark.parametrize("line", ["[cut]", "[blend 8f]", "[segments 2]", "[route 0.5s]"])
def test_what_the_segmenter_s_page_says_of_scripts_holds(line: str) -> None:
    text = (DOCS / "LongVideoSegmenter.md").read_text(encoding="utf-8")
    assert f"| `{line}`" in text
    fields = "| strength: 0.8 | negative: blurry | lora: style.safetensors 0.8 | seed: +5 | weight: red 1.5"
    for field in fields.strip("| ").split(" | "):
        assert f"<code>&#124; {field}</code>" in text
    script = parse_script(f"prompt: cinematic\nloop: yes\n[3s] a fox runs\n{line}\n[48f] a fox sleeps {fields}")
    assert script.loop and len(script.beats) == 2


@pytest.mark.parametrize("name", [file_of(SCHEMAS[0]), file_of(SCHEMAS[0], "zh"), "pictures/position.png"])
def test_the_host_serves_the_pages(server: Server, name: str) -> None:
    url = f"{server.url}/extensions/{PACK_FOLDER}/docs/{name}"
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as response:
        assert response.read() == (DOCS / name).read_bytes()
