"""`dev.py package`: builds the archive that the Comfy Registry gets, checks what is in it, and starts ComfyUI with it.

The archive is reproducible: the same files give the same bytes, whenever and wherever it is built.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from .environment import ROOT, find_host, say
from .published import problems_of, published_files
from .server import PACK_FOLDER, Server, ServerError, running_server

OUT = ROOT / "out"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archive: the earliest that the format knows."""
PLAIN_FILE = 0o100644 << 16
UNIX = 3


def read_published(root: Path = ROOT) -> dict[str, bytes]:
    """The published files by their paths. Raises SetupError as published_files does, OSError for a missing one, and
    ValueError for a link, of which nobody knows where it leads on another computer."""
    names = published_files(root)
    links = [name for name in names if (root / name).is_symlink()]
    if links:
        raise ValueError(f"links are not published: {', '.join(links)}")
    return {name: (root / name).read_bytes() for name in names}


def version_of(files: Mapping[str, bytes]) -> str:
    """The version that pyproject.toml states. Raises ValueError if it states none."""
    found = re.search(r'^version = "(.*)"$', files["pyproject.toml"].decode(), re.MULTILINE)
    if found is None:
        raise ValueError("pyproject.toml has no version")
    return found[1]


def write_archive(files: Mapping[str, bytes], path: Path) -> None:
    """Writes the archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system, entry.external_attr = UNIX, PLAIN_FILE
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=9)


def unpack(archive: Path, folder: Path) -> None:
    """Unpacks an archive as a node manager does."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)


def nodes_in_host(archive: Path, host: Path, python: Path) -> list[str]:
    """The pack's nodes in a ComfyUI whose custom_nodes has the unpacked archive and nothing else.

    Raises ServerError when it does not start, or cannot import the pack.
    """
    with tempfile.TemporaryDirectory(prefix="kv-share-package-", ignore_cleanup_errors=True) as base:
        unpack(archive, Path(base, "custom_nodes", PACK_FOLDER))
        with running_server(host, python, Path(base), pack=None) as server:
            return sorted(name for name, node in _nodes(server).items() if node["python_module"].endswith(PACK_FOLDER))


def _nodes(server: Server) -> dict[str, dict[str, str]]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{server.url}/object_info", timeout=60) as answer:
        return json.load(answer)


def main(arguments: Sequence[str]) -> int:
    """Builds, checks and tries the archive; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dev.py package", description="Build the registry's archive in out/.")
    parser.add_argument("--no-host", action="store_true", help="do not start ComfyUI with it")
    options = parser.parse_args(arguments)
    files = read_published()
    problems = problems_of(files)
    for problem in problems:
        say(f"problem: {problem}")
    if problems:
        return 1
    archive = OUT / f"{PACK_FOLDER}-{version_of(files)}.zip"
    write_archive(files, archive)
    content = archive.read_bytes()
    say(f"{len(files)} files, {len(content) / 2**20:.1f} MiB, sha256 {hashlib.sha256(content).hexdigest()}")
    if not options.no_host:
        try:
            nodes = nodes_in_host(archive, find_host(), Path(sys.executable))
        except ServerError as error:
            say(f"problem: {error}")
            return 1
        say(f"ComfyUI has its {len(nodes)} nodes: {', '.join(nodes)}")
    print(os.path.relpath(archive))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
