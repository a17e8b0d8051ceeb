"""The pack's files in the host's input and output folders, by the ending of their names."""

from dataclasses import dataclass
from pathlib import Path

import folder_paths

from ...plain_values import NewerFormatError

OUTPUT = " [output]"
"""What the host appends to the name of a file in its output folder."""


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
    """A file that does not exist yet. prefix: may contain a subfolder and the host's variables; the host refuses a path
    outside its folder."""
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(prefix, folder_paths.get_output_directory())
    return NewFile(Path(folder, f"{name}_{counter:05}_{suffix}"), subfolder)


def names_of(suffix: str) -> list[str]:
    """Names of the files that end with `suffix`, those of the input folder first."""
    names = _names_in(folder_paths.get_input_directory(), suffix)
    return names + [name + OUTPUT for name in _names_in(folder_paths.get_output_directory(), suffix)]


def path_of(name: str, suffix: str, writer: str) -> Path:
    """Where a file of `names_of` is. Raises ValueError, naming the node that writes such files, for a name outside the
    host's folders, of another kind, or of a missing file."""
    folder = folder_paths.get_output_directory() if name.endswith(OUTPUT) else folder_paths.get_input_directory()
    path = Path(folder, name.removesuffix(OUTPUT)).resolve()
    if not path.is_relative_to(Path(folder).resolve()) or not path.name.endswith(suffix) or not path.is_file():
        raise ValueError(f"file: there is no {name}. Save one with {writer}, or put it into the input folder.")
    return path


def refused(name: str, writer: str, error: Exception) -> ValueError:
    """What to raise for a file that cannot be loaded; writer: the node that writes such files."""
    if isinstance(error, NewerFormatError):
        return ValueError(
            f"file: {name} was saved by a newer version of KV Share ({error}). Update KV Share, or choose another file."
        )
    return ValueError(f"file: {name} was not written by {writer} ({str(error)[:300]}). Choose another.")


def change_of(path: Path) -> str:
    """A text that changes when the file does."""
    status = path.stat()
    return f"{status.st_mtime_ns} {status.st_size}"


def _names_in(folder: str, suffix: str) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in Path(folder).rglob(f"*{suffix}") if file.is_file())
