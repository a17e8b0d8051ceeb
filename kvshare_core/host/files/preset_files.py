"""Files of measured presets: JSON, in the host's folders."""

from ...probe.measured_preset import MeasuredPreset, read_preset
from .user_files import change_of, names_of, new_file, path_of, refused

SUFFIX = ".kvshare.json"
WRITER = "KV Sharing Probe"
MAX_BYTES = 4 << 20
"""Of a preset's file: a hundred times what a large model's has."""


def save(preset: MeasuredPreset, prefix: str) -> str:
    """Writes a new file into the host's output folder; its name as `load` takes it."""
    new = new_file(prefix, SUFFIX)
    new.path.write_text(preset.to_json(), encoding="utf-8")
    return new.name


def load(name: str) -> MeasuredPreset:
    """Loads a preset by its name in `file_names`. Raises ValueError for a name outside the host's folders, for a file
    that is not a preset, and for one that a newer version of the pack wrote."""
    path = path_of(name, SUFFIX, WRITER)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES >> 20} MiB")
        return read_preset(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise refused(name, WRITER, error) from error


def file_names() -> list[str]:
    """Names of presets in the host's input and output folders, as `load` takes them."""
    return names_of(SUFFIX)


def fingerprint(name: str) -> str:
    """A text that changes when the file does."""
    return change_of(path_of(name, SUFFIX, WRITER))
