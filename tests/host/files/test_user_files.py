"""The pack's files stay in the host's folders: what is saved is listed and loads, nothing is read or written beyond."""

import os
import time
from pathlib import Path

import pytest

from kvshare_core.host.files import folder_listing, user_files
from kvshare_core.host.files.user_files import names_of, new_file, path_of

SUFFIX = ".kvshare.json"


def saved(prefix: str) -> str:
    """The name of a new file with that prefix."""
    new = new_file(prefix, SUFFIX)
    new.path.write_text("{}")
    return new.name


def linked(link: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target, target_is_directory=True)


@pytest.mark.parametrize("prefix", ["fox", "films/fox", "films/%year%/fox", "films/./fox", "a b/ü 🦊"])
def test_what_is_saved_is_listed_and_loads(folders: Path, prefix: str) -> None:
    names = [saved(prefix) for _ in range(2)]
    assert sorted(names) == names_of(SUFFIX) and len(set(names)) == 2
    for name in names:
        assert path_of(name, SUFFIX, "X").is_relative_to(folders / "output")


def test_the_output_folder_itself_may_be_a_link(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import folder_paths

    linked(folders / "link", folders / "large disk")
    monkeypatch.setattr(folder_paths, "output_directory", str(folders / "link"))
    name = saved("films/fox")
    assert names_of(SUFFIX) == [name]
    assert path_of(name, SUFFIX, "X") == folders / "large disk" / name.removesuffix(" [output]")


def test_nothing_is_saved_through_a_link_that_leads_out(folders: Path) -> None:
    linked(folders / "output" / "films", folders / "elsewhere")
    for prefix in ("films/fox", "films/a/b/fox"):
        with pytest.raises(ValueError, match=r"filename_prefix: .* through a link"):
            new_file(prefix, SUFFIX)
    assert list((folders / "elsewhere").iterdir()) == []


def test_a_link_within_the_folder_is_saved_under_its_real_name(folders: Path) -> None:
    linked(folders / "output" / "newest", folders / "output" / "films" / "7")
    name = saved("newest/fox")
    assert name == f"films/7/fox_00001_{SUFFIX} [output]"
    assert names_of(SUFFIX) == [name]
    assert path_of(name, SUFFIX, "X").is_file()


def test_no_name_in_the_list_is_one_that_cannot_be_loaded(folders: Path) -> None:
    (folders / "elsewhere").mkdir()
    (folders / "elsewhere" / f"a{SUFFIX}").write_text("{}")
    (folders / "input" / f"b{SUFFIX}").symlink_to(folders / "elsewhere" / f"a{SUFFIX}")
    (folders / "input" / f"c{SUFFIX}").symlink_to(folders / "nowhere")
    (folders / "input" / f"d{SUFFIX}").mkdir()
    (folders / "input" / "e").symlink_to(folders / "elsewhere", target_is_directory=True)
    (folders / "input" / "circle").symlink_to(folders / "input", target_is_directory=True)
    (folders / "input" / f"real{SUFFIX}").write_text("{}")
    (folders / "input" / f"same{SUFFIX}").symlink_to(folders / "input" / f"real{SUFFIX}")
    assert names_of(SUFFIX) == [f"real{SUFFIX}", f"same{SUFFIX}"]
    for name in names_of(SUFFIX):
        assert path_of(name, SUFFIX, "X").name == f"real{SUFFIX}"
    for name in (f"b{SUFFIX}", f"c{SUFFIX}", f"d{SUFFIX}", f"e/a{SUFFIX}"):
        with pytest.raises(ValueError, match="file: there is no"):
            path_of(name, SUFFIX, "X")


@pytest.mark.parametrize(
    "prefix",
    [
        "../fox",
        "films/../../fox",
        "..\\fox",
        "/tmp/fox",
        "\\fox",
        "\\\\server\\share\\fox",
        "C:\\fox",
        "C:/fox",
        "c:fox",
        "..",
        "a\0b",
    ],
)
def test_prefixes_that_lead_out_are_refused_by_name(folders: Path, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"filename_prefix: .* leads out of the output folder\. Write"):
        new_file(prefix, SUFFIX)
    assert list((folders / "output").iterdir()) == []


@pytest.mark.parametrize("prefix", ["", ".", "./", " "])
def test_a_prefix_without_a_name_is_refused(folders: Path, prefix: str) -> None:
    with pytest.raises(ValueError, match=r"filename_prefix: .* names no file"):
        new_file(prefix, SUFFIX)


@pytest.mark.parametrize("name", ["\0", f"{'a' * 5000}{SUFFIX}", f"../x{SUFFIX}", f"/etc/x{SUFFIX}", "", " [output]"])
def test_names_that_cannot_be_are_missing_files(folders: Path, name: str) -> None:
    (folders / f"x{SUFFIX}").write_text("{}")
    with pytest.raises(ValueError, match="file: there is no"):
        path_of(name, SUFFIX, "X")


def test_a_folder_that_has_not_changed_is_not_read_again(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = folders / "output"
    places = (output, output / "films", output / "films" / "old")
    for place in places:
        place.mkdir(exist_ok=True)
        (place / f"a{SUFFIX}").write_text("{}")
    for place in places:
        os.utime(place, ns=(0, time.time_ns() - 60 * 10**9))
    read: list[str] = []

    def counted(path: Path) -> "os._ScandirIterator[str]":
        read.append(Path(path).name)
        return scandir(path)

    scandir = os.scandir
    monkeypatch.setattr(folder_listing.os, "scandir", counted)
    listed = names_of(SUFFIX)
    assert len(listed) == 3
    read.clear()
    assert names_of(SUFFIX) == listed
    assert set(read) <= {"input"}
    (output / "films" / f"b{SUFFIX}").write_text("{}")
    assert names_of(SUFFIX) == sorted([*listed, f"films/b{SUFFIX} [output]"])
    assert set(read) <= {"input", "films"}
    (output / "films" / f"a{SUFFIX}").unlink()
    assert f"films/a{SUFFIX} [output]" not in names_of(SUFFIX)


def test_a_large_output_folder_is_asked_soon(folders: Path) -> None:
    """20,000 pictures beside a film; only what changed is read again."""
    for number in range(20_000):
        (folders / "output" / f"{number}.png").touch()
    name = saved("fox")
    os.utime(folders / "output", ns=(0, time.time_ns() - 60 * 10**9))
    assert user_files.names_of(SUFFIX) == [name]
    start = time.perf_counter()
    for _ in range(100):
        assert user_files.names_of(SUFFIX) == [name]
    assert time.perf_counter() - start < 1
