"""Names of files in a folder and those below it, by the ending of their names.

The host asks for such lists often, and an output folder may hold 100,000 files; so a folder is read again only after it
has changed.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

SETTLED_NS = 2_000_000_000
"""A folder that changed less than this before it was read may change again without a new time of change: file systems
count in steps of up to 2 s."""


@dataclass(frozen=True)
class _Folder:
    """What was found in one folder: the names of its files, of the links to files, and of the folders in it."""

    changed: int
    """Its time of change in nanoseconds; 0 if it has to be read again in any case."""
    files: tuple[str, ...]
    links: tuple[str, ...]
    folders: tuple[str, ...]


_known: dict[tuple[str, str], dict[str, _Folder]] = {}
"""What is known of the folders below a folder, by it and the ending; replaced as a whole, so that threads may ask."""


def names_below(folder: str, suffix: str) -> list[str]:
    """Paths of the files that end with `suffix`, from `folder` and with slashes, sorted.

    Links to folders are not followed, and links to files only where they lead to below `folder`: a name in this list
    is one that `is_inside` accepts. Folders that cannot be read are left out.
    """
    before = _known.get((folder, suffix), {})
    now: dict[str, _Folder] = {}
    names: list[str] = []
    waiting = [""]
    while waiting:
        place = waiting.pop()
        found = _folder(Path(folder, place), suffix, before.get(place))
        if found is None:
            continue
        now[place] = found
        names += [place + name for name in found.files]
        names += [place + name for name in found.links if is_inside(Path(folder, place, name), folder)]
        waiting += [f"{place}{name}/" for name in found.folders]
    _known[folder, suffix] = now
    return sorted(names)


def is_inside(path: Path, folder: str) -> bool:
    """Whether a path lies in or below a folder, wherever links in it lead. Both may be links themselves."""
    return path.resolve().is_relative_to(Path(folder).resolve())


def _folder(path: Path, suffix: str, before: _Folder | None) -> _Folder | None:
    try:
        changed = path.stat().st_mtime_ns
        if before is not None and before.changed == changed:
            return before
        files: list[str] = []
        links: list[str] = []
        folders: list[str] = []
        read_at = time.time_ns()
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.name.endswith(suffix) and entry.is_file():
                    (links if entry.is_symlink() else files).append(entry.name)
    except OSError:
        return None
    return _Folder(changed if read_at - changed > SETTLED_NS else 0, tuple(files), tuple(links), tuple(folders))
