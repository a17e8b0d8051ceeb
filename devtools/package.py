"""`dev.py package`: builds the archive that the Comfy Registry gets, checks what is in it, installs it into an empty
ComfyUI, and makes a film there with one of its own workflows.

The archive is reproducible: the same files give the same bytes, whenever and wherever it is built.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from . import client
from .environment import ROOT, find_host, say
from .published import problems_of, read_published, weights_in
from .server import PACK_FOLDER, Server, ServerError, running_server

OUT = ROOT / "out"
FILM = "First light.json"
"""The workflow that is run: it needs no model file."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archive: the earliest that the format knows."""
PLAIN_FILE = 0o100644 << 16
UNIX = 3


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


@contextmanager
def installed(archive: Path, host: Path, python: Path) -> Generator[Server, None, None]:
    """A running ComfyUI whose custom_nodes has the unpacked archive and nothing else, until the block ends.

    Raises ServerError when it does not start, or cannot import the pack.
    """
    with tempfile.TemporaryDirectory(prefix="kv-share-package-", ignore_cleanup_errors=True) as base:
        unpack(archive, _pack_of(Path(base)))
        with running_server(host, python, Path(base), pack=None) as server:
            yield server


def nodes_in(server: Server) -> list[str]:
    """The pack's nodes that a server has, sorted."""
    known = client.object_info(server.url)
    return sorted(name for name, node in known.items() if node["python_module"].endswith(PACK_FOLDER))


def film_in(server: Server, steps: int | None = None) -> list[str]:
    """Runs FILM as the archive has it, in `steps` steps if given; the names of the files that it saved.

    Raises WorkflowError when the host refuses it or a node fails.
    """
    file = _pack_of(server.base) / "example_workflows" / FILM
    workflow = client.to_api_format(json.loads(file.read_text(encoding="utf-8")), client.object_info(server.url))
    for node in workflow.values():
        if steps is not None and node["class_type"] == "KSampler":
            node["inputs"]["steps"] = steps
    entry = client.run(server.url, workflow)
    saved = {file.filename: client.fetch_view(server.url, file) for file in client.output_files(entry)}
    return sorted(name for name, content in saved.items() if content)


def _pack_of(base: Path) -> Path:
    return base / "custom_nodes" / PACK_FOLDER


def _tried(archive: Path) -> bool:
    """Whether the archive works in an empty ComfyUI; says what it did there."""
    try:
        with installed(archive, find_host(), Path(sys.executable)) as server:
            nodes = nodes_in(server)
            say(f"ComfyUI has its {len(nodes)} nodes: {', '.join(nodes)}")
            say(f"{FILM} saved {', '.join(film_in(server))}")
    except (ServerError, client.WorkflowError) as error:
        say(f"problem: {error}")
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """Builds, checks and tries the archive; returns the exit status."""
    parser = argparse.ArgumentParser(prog="dev.py package", description="Build the registry's archive in out/.")
    parser.add_argument("--no-host", action="store_true", help="do not install it into ComfyUI")
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
    weights = weights_in(files)
    say(f"of that {weights / 2**20:.1f} MiB are the small models, before compression")
    if not options.no_host and not _tried(archive):
        return 1
    print(os.path.relpath(archive))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
