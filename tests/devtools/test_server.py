"""A real ComfyUI starts, serves and stops; a pack that does not import is an error."""

import sys
from pathlib import Path

import pytest

from devtools.client import object_info
from devtools.server import PACK_FOLDER, Server, ServerError, prepare_base, running_server, server_command

PYTHON = Path(sys.executable)


def test_server_starts_serves_and_stops(host: Path, tmp_path: Path) -> None:
    with running_server(host, PYTHON, tmp_path, pack=None) as running:
        assert "KSampler" in object_info(running.url)
        assert running.base == tmp_path
        assert "ComfyUI" in running.log.read_text()
    assert running.process.poll() is not None
    with pytest.raises(OSError):
        object_info(running.url)


def test_pack_that_does_not_import_is_an_error(host: Path, tmp_path: Path) -> None:
    started: list[Server] = []
    pack = tmp_path / "pack"
    pack.mkdir()
    (pack / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    with pytest.raises(ServerError, match="broken on purpose"), running_server(host, PYTHON, pack=pack) as running:
        started.append(running)
    assert not started


def test_server_that_cannot_start_gives_its_log(host: Path, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="unrecognized arguments: --no-such-flag"):
        with running_server(host, PYTHON, tmp_path, ["--cpu", "--no-such-flag"], pack=None):
            pytest.fail("the server started")


def test_shared_server_has_the_pack_in_its_base_directory(server: Server) -> None:
    assert (server.base / "custom_nodes" / PACK_FOLDER / "dev.py").is_file()
    assert "(IMPORT FAILED)" not in server.log.read_text()


def test_base_directory_is_reused(tmp_path: Path) -> None:
    pack = tmp_path / "pack"
    pack.mkdir()
    base = tmp_path / "base"
    for _ in range(2):
        prepare_base(base, pack)
        (base / "models" / "kept").touch()
        (pack / "new").touch()
    assert (base / "custom_nodes" / PACK_FOLDER / "new").exists()
    assert (base / "models" / "kept").exists()


def test_command_uses_only_flags_the_host_knows(tmp_path: Path) -> None:
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "cli_args.py").write_text("")
    command = server_command(tmp_path, PYTHON, tmp_path, 1234, ["--cpu"])
    assert "--disable-api-nodes" not in command
    assert "--database-url" not in command
    assert command[-1] == "--cpu"
