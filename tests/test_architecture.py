"""The rooms keep their order, docs/architecture.md shows them as they are, and what code and pages cite exists."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from devtools import map as architecture_map
from devtools.environment import ROOT

PAGE = ROOT / "docs" / "architecture.md"
FOLDERS = ("bench", "devtools", "docs", "examples", "kvshare_core", "locales", "nodes", "tests", "web")
ENDINGS = {".py", ".js", ".mjs", ".md", ".json", ".toml"}
CITATION = re.compile(r"(?P<page>[\w./-]*\w\.md)(?:#(?P<section>[\w-]+))?")
IN_CODE = re.compile(r'/ f?"$')
"""What stands before the last part of a path that code puts together."""


def sources() -> list[Path]:
    """Every file of the repository that people write."""
    files = [*ROOT.glob("*"), *(file for folder in FOLDERS for file in (ROOT / folder).rglob("*"))]
    return sorted(file for file in files if file.is_file() and file.suffix in ENDINGS)


@cache
def sections(page: Path) -> frozenset[str]:
    """The sections of a page by the names that GitHub links them with."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return frozenset(re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings)


def missing_pages(text: str, folder: Path) -> Iterator[str]:
    """Citations in a file of `folder` of pages or sections that the repository lacks."""
    text = re.sub(r"https?://\S+", "", text)
    for found in CITATION.finditer(text):
        name, section = found["page"], found["section"]
        places = [ROOT / name, folder / name]
        if IN_CODE.search(text[: found.start()]):
            places += (ROOT / "docs" / name, ROOT / "web" / "docs" / name)
        page = next((place for place in places if place.is_file()), None)
        if page is None or (section is not None and section not in sections(page)):
            yield found[0]


# Rooms.


def test_rooms_import_only_rooms_below_them() -> None:
    assert architecture_map.read_map().faults() == []


def test_the_page_and_its_picture_show_the_rooms_as_they_are() -> None:
    for path, text in architecture_map.written().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date; run python3 dev.py map"


def test_the_pack_ships_the_page_and_its_example() -> None:
    left_out = (ROOT / ".comfyignore").read_text(encoding="utf-8").split()
    assert not {"docs/", "docs", "examples/", "examples"} & set(left_out)


# The page.


def spans(text: str) -> set[str]:
    """What the page sets as code."""
    return set(re.findall(r"`([^`\n]+)`", text))


def test_files_and_tests_that_the_page_names_exist() -> None:
    named = {span for span in spans(PAGE.read_text(encoding="utf-8")) if "/" in span}
    assert len(named) > 40
    for span in named:
        path, _, test = span.partition("::")
        file = next((root / path for root in (ROOT, ROOT / "kvshare_core") if (root / path).exists()), None)
        assert file is not None, f"there is no {path}"
        assert not test or f"def {test}(" in file.read_text(encoding="utf-8"), f"{path} has no test {test}"


def test_names_that_the_page_uses_are_in_the_code() -> None:
    words = {
        word
        for folder in ("kvshare_core", "devtools", "tests/support")
        for file in (ROOT / folder).rglob("*.py")
        for word in re.findall(r"\w+", file.read_text(encoding="utf-8"))
    }
    named = {span for span in spans(PAGE.read_text(encoding="utf-8")) if re.fullmatch(r"\w+", span)}
    assert len(named) > 20
    assert named - words - {folder.name for folder in ROOT.iterdir()} == set()


# Citations.


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("see docs/ditctrl.md", []),
        ("(docs/ditctrl.md#how-it-works)", []),
        ("(docs/ditctrl.md#how-it-fails)", ["docs/ditctrl.md#how-it-fails"]),
        ("research.md 2.3, host.md 6", ["research.md", "host.md"]),
        ("[there](ditctrl.md#how-it-works)", []),
        ("https://example.org/page.md and f'{name}.md'", []),
        ('ROOT / "web" / "docs" / "KVShareConfig.md"', []),
        ('"KVShareConfig.md"', ["KVShareConfig.md"]),
    ],
)
def test_a_citation_of_what_is_not_there_is_found(text: str, missing: list[str]) -> None:
    assert list(missing_pages(text, ROOT / "docs")) == missing


def test_every_page_that_is_cited_exists() -> None:
    files = sources()
    assert len(files) > 300
    found = {
        str(file.relative_to(ROOT)): names
        for file in files
        if file != Path(__file__) and (names := list(missing_pages(file.read_text(encoding="utf-8"), file.parent)))
    }
    assert found == {}
