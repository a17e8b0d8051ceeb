"""The words of the editor and the viewer in every language: complete, of words that are there, and shown."""

import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from devtools.browser import find_node
from devtools.environment import ROOT
from devtools.server import Server
from tests.support.comfy_page import change_settings, comfy_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WEB = ROOT / "web"
SCRIPTS = {"zh": re.compile(r"[\u4e00-\u9fff]"), "ja": re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")}
"""The languages and what a text in them has."""

RUN = f"""import {{ TRANSLATIONS, said, speak }} from {json.dumps((WEB / "shared" / "words.js").as_uri())};
const told = ["en", "zh", "ja", "xx"].map((language) => {{
    speak(language);
    return [said("Split"), said("a fox runs")];
}});
process.stdout.write(JSON.stringify([TRANSLATIONS, told]));"""


@pytest.fixture(scope="module")
def words() -> tuple[dict[str, dict[str, str]], list[list[str]]]:
    command = [find_node(), "--input-type=module", "--eval", RUN]
    tables, told = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return tables, told


def test_every_language_has_the_same_words(words: tuple[dict[str, dict[str, str]], list[list[str]]]) -> None:
    tables, _ = words
    assert tables.keys() == SCRIPTS.keys()
    for language, table in tables.items():
        assert list(table) == list(tables["zh"])
        assert [text for text in table.values() if not SCRIPTS[language].search(text)] == []


def test_all_translated_words_are_said_somewhere(words: tuple[dict[str, dict[str, str]], list[list[str]]]) -> None:
    files = [file for file in WEB.rglob("*.js") if file.name != "words.js" or file.parent.name != "shared"]
    code = "\n".join(file.read_text(encoding="utf-8") for file in files)
    assert [word for word in words[0]["zh"] if f'"{word}"' not in code] == []


def test_words_of_users_and_unknown_languages_stay_as_they_are(
    words: tuple[dict[str, dict[str, str]], list[list[str]]],
) -> None:
    english, chinese, japanese, unknown = words[1]
    assert english == unknown == ["Split", "a fox runs"]
    assert [chinese, japanese] == [["拆分", "a fox runs"], ["分割", "a fox runs"]]


@pytest.mark.parametrize(("language", "split"), [("zh", "拆分"), ("ja", "分割")])
def test_the_editor_speaks_the_language_of_the_frontend(
    browser: "Browser", server: Server, language: str, split: str
) -> None:
    change_settings(server, {"Comfy.Locale": language})
    try:
        with comfy_page(browser, server, "classic", size=(1400, 1400)) as page:
            page.drop_workflow(ROOT / "example_workflows" / "First light.json")
            page.look_at("LongVideoSegmenter")
            page.page.wait_for_selector(".kvs-timeline[aria-busy='false']")
            assert split in page.page.locator(".kvs-timeline .kvs-bar").first.inner_text()
            page.screenshot(f"timeline-{language}")
    finally:
        change_settings(server, {"Comfy.Locale": "en"})
