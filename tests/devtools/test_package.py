"""The archive for the Comfy Registry: what is in it, that nothing in it is objected to, and that ComfyUI loads it."""

import sys
import zipfile
from pathlib import Path

import pytest

from devtools.environment import ROOT, SetupError
from devtools.package import film_in, installed, nodes_in, version_of, write_archive
from devtools.published import (
    IGNORED,
    MAX_WEIGHT_BYTES,
    WEIGHTS,
    problems_of,
    published_files,
    read_published,
    weights_in,
)

SOUND = dict.fromkeys(
    ("__init__.py", "pyproject.toml", "README.md", "LICENSE", "nodes/__init__.py", "web/kv_share.js"), b"\n"
)


def test_nothing_published_is_objected_to() -> None:
    assert problems_of(read_published()) == []


def test_published_is_what_a_user_needs_and_nothing_else() -> None:
    files = published_files()
    assert {"LICENSE", "README.md", "locales/en/nodeDefs.json", "web/shared/panel.css"} <= set(files)
    tops = {name.split("/")[0] for name in files}
    assert tops.isdisjoint({"tests", "bench", "devtools", "dev.py", ".ci"})
    assert not [name for name in files if name.startswith("kvshare_core/embedded/training/")]
    assert [name for name in files if name.startswith("kvshare_core/embedded/weights/")]


@pytest.mark.parametrize(
    ("pattern", "kept"),
    [
        ("dev/", ["a", "dev.py", "lib/dev"]),
        ("dev", ["a", "dev.py"]),
        ("lib/dev", ["a", "dev.py", "dev/x", "dev/y/z"]),
        ("/lib/", ["a", "dev.py", "dev/x", "dev/y/z"]),
        ("# dev/\n\n", ["a", "dev.py", "dev/x", "dev/y/z", "lib/dev"]),
    ],
)
def test_lines_of_comfyignore_mean_what_git_means(tmp_path: Path, pattern: str, kept: list[str]) -> None:
    made_repository(tmp_path, {name: b"" for name in ("a", "dev.py", "dev/x", "dev/y/z", "lib/dev")}, pattern)
    assert published_files(tmp_path) == sorted([*kept, IGNORED])


@pytest.mark.parametrize("pattern", ["*.py", "!dev", "te?t", "a[bc]"])
def test_unknown_lines_of_comfyignore_are_an_error(tmp_path: Path, pattern: str) -> None:
    made_repository(tmp_path, {}, pattern)
    with pytest.raises(SetupError, match="only names and folders"):
        published_files(tmp_path)


def made_repository(folder: Path, files: dict[str, bytes], ignored: str) -> None:
    import subprocess

    for name, content in {**files, IGNORED: ignored.encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for command in (["init", "-q"], ["add", "-f", "."]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)


def test_links_are_not_published(tmp_path: Path) -> None:
    made_repository(tmp_path, {"a": b""}, "")
    (tmp_path / "a").unlink()
    (tmp_path / "a").symlink_to("/etc/passwd")
    with pytest.raises(ValueError, match="links are not published: a"):
        read_published(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.py", "import subprocess", "imports subprocess"),
        ("a.py", "def f():\n    from subprocess import run", "line 2 imports subprocess"),
        ("a.py", "import urllib.request as r", "imports urllib.request"),
        ("a.py", "from urllib import request", "imports urllib.request"),
        ("a.py", "import pickle", "imports pickle"),
        ("a.py", "eval('1')", "calls eval"),
        ("a.py", "exec('1')", "calls exec"),
        ("a.py", "os.system('ls')", "calls os.system"),
        ("a.py", "torch.load('x')", "calls torch.load"),
        ("a.py", "print(1)", "calls print"),
        ("a.py", "X = re.compile('a')", "reads like a call of compile"),
        ("a.py", "# \u7684", "which Windows cannot show"),
        ("a.py", "X = '/home/somebody/x'", "contains /home/s"),
        ("a.json", '"C:\\\\Users\\\\me"', "contains C:"),
        ("a.toml", "-----BEGIN RSA PRIVATE KEY-----", "PRIVATE KEY"),
        ("a.pt", "", "kind (.pt)"),
        ("a.exe", "", "kind (.exe)"),
        ("tests/a.py", "", "is for developers"),
        ("../a.py", "", "is no path"),
        ("/a.py", "", "is no path"),
        ("C:/a.py", "", "is no path"),
        ("\u00fc.py", "", "is no path"),
        ("web/a.js", "x.innerHTML = text;", "makes HTML of text"),
        ("web/a.js", "x.insertAdjacentHTML('a', b)", "makes HTML of text"),
        ("web/a.js", "fetch('x')", "uses the network"),
        ("web/a.js", "import('https://x')", "uses the network"),
        ("web/a.js", "// see https://example.com", "names a page of the network"),
        ("web/a.js", "new Function('x')", "runs text"),
        ("web/a.js", "document.head.append(x)", "changes the page"),
        ("web/a.js", "x" * 300, "is minified"),
        ("web/lib/a.min.js", "", "is a copy of somebody's library"),
    ],
)
def test_what_is_objected_to_is_said(name: str, content: str, problem: str) -> None:
    found = [line for line in problems_of({**SOUND, name: content.encode()}) if problem in line]
    assert found and found[0].startswith(f"{name}: ")


def test_what_is_missing_or_too_large_is_said() -> None:
    assert problems_of(SOUND) == []
    assert problems_of({name: content for name, content in SOUND.items() if name != "LICENSE"}) == [
        "LICENSE is missing"
    ]
    large = problems_of({**SOUND, **{f"{n}.json": b" " * (15 << 20) for n in range(3)}, "a.json": b" " * (17 << 20)})
    assert [line.split(",")[1] for line in large] == [" more than 40", " more than 16"]


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    files = {"b.py": b"b", "a/c.json": b"{}" * 1000}
    write_archive(files, tmp_path / "one" / "x.zip")
    write_archive(dict(reversed(files.items())), tmp_path / "x.zip")
    assert (tmp_path / "one" / "x.zip").read_bytes() == (tmp_path / "x.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert {entry.filename: archive.read(entry) for entry in archive.infolist()} == files
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_the_small_models_leave_room_for_an_install_from_the_registry() -> None:
    assert 0 < weights_in(read_published()) <= MAX_WEIGHT_BYTES
    large = {f"{WEIGHTS}{number}.safetensors": b" " * (11 << 20) for number in range(3)}
    assert problems_of({**SOUND, **large}) == [f"{WEIGHTS}: 33 MiB, more than 30"]


def test_comfyui_makes_a_film_with_the_unpacked_archive(host: Path, tmp_path: Path) -> None:
    files = read_published()
    archive = tmp_path / f"x-{version_of(files)}.zip"
    write_archive(files, archive)
    with installed(archive, host, Path(sys.executable)) as server:
        nodes = nodes_in(server)
        saved = film_in(server, steps=2)
    listed = (ROOT / "nodes" / "__init__.py").read_text(encoding="utf-8").count("import ") - 1
    assert len(nodes) == listed and "LongVideoSegmenter" in nodes
    assert [name for name in saved if name.endswith(".mp4")]
