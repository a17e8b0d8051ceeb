"""The pack's files in the host's input and output folders, by the ending of their names."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import folder_paths

from ...plain_values import NewerFormatError
from .folder_listing import is_inside, names_below

OUTPUT = " [output]"
"""What the host appends to the name of a file in its output folder."""


LONGEST_REASON = 300
"""Characters of what is wrong with a file that a message quotes: it may quote the file."""


@dataclass(frozen=True)
class NewFile:
    """Where a file is to be written, and its subfolder in the output folder, empty for none."""

    path: Path
    subfolder: str

    @property
    def name(self) -> str:
        """As `path_of` takes it."""
        return "/".join(part for part in (self.subfolder, self.path.name) if part) + OUTPUT


def new_file(prefix: str, suffix: str) -> NewFile:
    """A file that does not exist yet. prefix: may contain a subfolder and the host's variables. Raises ValueError for a
    path outside the output folder, also through a link: a file there would not be listed, nor loaded again."""
    root = folder_paths.get_output_directory()
    _check_prefix(prefix, root, "filename_prefix")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root)
    real = Path(folder).resolve()
    if not is_inside(real, root):
        raise _leads_out(prefix, "filename_prefix")
    subfolder = real.relative_to(Path(root).resolve()).as_posix()
    return NewFile(real / f"{name}_{counter:05}_{suffix}", "" if subfolder == "." else subfolder)


@dataclass(frozen=True)
class NewFolder:
    """A folder that was just made, and its path from the output folder."""

    path: Path
    subfolder: str


def new_folder(parent: str, name: str, input_name: str) -> NewFolder:
    """Makes a new numbered folder `name` in `parent`, a folder below the output folder that may not exist yet. Raises
    ValueError, naming the input, for a path outside the output folder, also through a link."""
    root = folder_paths.get_output_directory()
    _check_prefix(f"{parent}/{name}", root, input_name)
    folder = Path(root, *PureWindowsPath(parent).parts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{input_name}: {parent!r} cannot be made ({error}). Write another folder.") from error
    real = folder.resolve()
    if not is_inside(real, root):
        raise _leads_out(parent, input_name)
    number = 1
    while True:
        path = real / f"{name}_{number:05}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
            continue
        return NewFolder(path, path.relative_to(Path(root).resolve()).as_posix())


def names_of(suffix: str) -> list[str]:
    """Names of the files that end with `suffix`, those of the input folder first."""
    names = names_below(folder_paths.get_input_directory(), suffix)
    return names + [name + OUTPUT for name in names_below(folder_paths.get_output_directory(), suffix)]


def path_of(name: str, suffix: str, writer: str) -> Path:
    """Where a file of `names_of` is. Raises ValueError, naming the node that writes such files, for a name outside the
    host's folders, of another kind, or of a missing file."""
    folder = folder_paths.get_output_directory() if name.endswith(OUTPUT) else folder_paths.get_input_directory()
    path = Path(folder, name.removesuffix(OUTPUT))
    try:
        found = is_inside(path, folder) and path.name.endswith(suffix) and path.is_file()
    # A null character, or a name longer than the file system allows.
    except (ValueError, OSError):
        found = False
    if not found:
        raise ValueError(f"file: there is no {name}. Save one with {writer}, or put it into the input folder.")
    return path.resolve()


def refused(name: str, writer: str, error: Exception) -> ValueError:
    """What to raise for a file that cannot be loaded; writer: the node that writes such files."""
    if isinstance(error, NewerFormatError):
        return ValueError(
            f"file: {name} was saved by a newer version of KV Share ({error}). Update KV Share, or choose another file."
        )
    reason = str(error)[:LONGEST_REASON]
    return ValueError(f"file: {name} was not written by {writer} ({reason}). Choose another.")


def change_of(path: Path) -> str:
    """A text that changes when the file does."""
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def _check_prefix(prefix: str, root: str, input_name: str) -> None:
    """Raises ValueError for a prefix that the host would refuse without naming an input, or follow through a link."""
    # With both kinds of slashes, so that a workflow does the same on every system.
    windows, posix = PureWindowsPath(prefix), PurePosixPath(prefix)
    if windows.drive or windows.root or posix.is_absolute() or ".." in windows.parts or "\0" in prefix:
        raise ValueError(
            f"{input_name}: {prefix!r} leads out of the output folder. Write a name, or a folder and a name, "
            "such as films/fox."
        )
    if not windows.name.strip(". "):
        raise ValueError(f"{input_name}: {prefix!r} names no file. Write a name, such as films/fox.")
    if not is_inside(Path(root, prefix).parent, root):
        raise _leads_out(prefix, input_name)


def _leads_out(prefix: str, input_name: str) -> ValueError:
    return ValueError(
        f"{input_name}: {prefix!r} leads out of the output folder through a link. Write a folder that lies in it, "
        "or start ComfyUI with --output-directory."
    )
