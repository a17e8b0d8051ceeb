"""What the Comfy Registry gets: the files that .comfyignore leaves, and what in them it or a user would object to.
Standard library only."""

import ast
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from .environment import ROOT, SetupError

IGNORED = ".comfyignore"
MAX_BYTES, MAX_FILE_BYTES = 40 << 20, 16 << 20
"""All files together, and one of them."""

WEIGHTS = "kvshare_core/embedded/weights/"
MAX_WEIGHT_BYTES = 30 << 20
"""The small models that come with the pack, and what they may take: every install from the registry fetches them."""

NEEDED = ("__init__.py", "pyproject.toml", "README.md", "LICENSE", "nodes/__init__.py", "web/kv_share.js")
DEVELOPERS = frozenset({"tests", "bench", "devtools", "training", "dev.py", ".ci", ".github"})
"""Names of files and folders that are for developers only."""
SUFFIXES = frozenset(
    {"", ".css", ".gif", ".gitignore", ".jpg", ".js", ".json", ".md", ".png", ".py", ".safetensors", ".svg", ".toml"}
)
"""Kinds of files: no pickles, no archives, no programs."""

FORBIDDEN_MODULES = frozenset(
    "cloudpickle code codeop ctypes dill ftplib http httplib2 httpx imaplib joblib marshal multiprocessing pickle pip "
    "poplib pty requests shelve smtplib socket socketserver ssl subprocess telnetlib urllib.request urllib3 webbrowser "
    "websocket websockets xmlrpc".split()
)
FORBIDDEN_CALLS = frozenset(
    "__import__ compile eval exec input print os.execv os.execve os.fork os.kill os.popen os.posix_spawn os.spawnl "
    "os.spawnv os.startfile os.system torch.load torch.hub.load sys.settrace".split()
)
LOOKS_LIKE_A_CALL = re.compile(r"(compile|eval|exec)\(")
"""What scanners that read text alone take for a call of these; `re.compile` too."""

FORBIDDEN_IN_SCRIPTS = {
    r"\.(inner|outer)HTML\b|insertAdjacentHTML|document\.write|srcdoc|DOMParser|createContextualFragment": "makes HTML "
    "of text",
    r"\beval\(|\bnew Function\b|set(Timeout|Interval)\(\s*[\"'`]|javascript:": "runs text",
    r"(?<![\w.])fetch\(|XMLHttpRequest|\bWebSocket\b|EventSource|sendBeacon|importScripts|\bimport\((?!\"\.)": "uses "
    "the network",
    r"https?://(?!www\.w3\.org/)": "names a page of the network",
    r"\bdocument\.(head|body)\b": "changes the page of the frontend",
    r"sourceMappingURL": "was made from other files",
}
LONGEST_LINE = 200
"""Of scripts: longer ones are minified."""

SECRETS = re.compile(
    rb"/home/\w|/Users/\w|/root/\w|[A-Za-z]:\\+Users|BEGIN [A-Z ]*PRIVATE KEY|\bghp_\w{20}|\bhf_\w{20}"
    rb"|\bsk-\w{20}|\bAKIA[A-Z0-9]{16}"
)
"""Paths of somebody's computer, and keys."""


def published_files(root: Path = ROOT) -> list[str]:
    """Paths of the files that are published, sorted: those under version control that .comfyignore leaves.

    Raises SetupError for a folder that is not under version control, and for patterns that this does not know.
    """
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, check=False)
    if listed.returncode:
        raise SetupError(f"{root} is not under version control, so nobody knows which files are published.")
    ignored = _patterns((root / IGNORED).read_text(encoding="utf-8"))
    names = [name for name in listed.stdout.decode().split("\0") if name]
    return sorted(name for name in names if not any(_matches(name, pattern) for pattern in ignored))


def read_published(root: Path = ROOT) -> dict[str, bytes]:
    """The published files by their paths. Raises SetupError as published_files does, OSError for a missing one, and
    ValueError for a link, of which nobody knows where it leads on another computer."""
    names = published_files(root)
    links = [name for name in names if (root / name).is_symlink()]
    if links:
        raise ValueError(f"links are not published: {', '.join(links)}")
    return {name: (root / name).read_bytes() for name in names}


def problems_of(files: Mapping[str, bytes]) -> list[str]:
    """A line for everything that the registry, its reviewers or users would object to."""
    found = [f"{name} is missing" for name in NEEDED if name not in files]
    size = sum(map(len, files.values()))
    if size > MAX_BYTES:
        found.append(f"{size >> 20} MiB, more than {MAX_BYTES >> 20}")
    if weights_in(files) > MAX_WEIGHT_BYTES:
        found.append(f"{WEIGHTS}: {weights_in(files) >> 20} MiB, more than {MAX_WEIGHT_BYTES >> 20}")
    for name, content in files.items():
        found += [f"{name}: {problem}" for problem in _problems(PurePosixPath(name), content)]
    return found


def weights_in(files: Mapping[str, bytes]) -> int:
    """Bytes of the small models among the files."""
    return sum(len(content) for name, content in files.items() if name.startswith(WEIGHTS))


def _patterns(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    unknown = [pattern for pattern in patterns if re.search(r"[*?!\[\\]", pattern)]
    if unknown:
        raise SetupError(f"{IGNORED}: only names and folders are known here, not {', '.join(unknown)}.")
    return patterns


def _matches(name: str, pattern: str) -> bool:
    """Whether a line of .comfyignore means the file: one with a slash in it from the root, others in every folder."""
    wanted = pattern.strip("/").split("/")
    parts = name.split("/")
    places = [0] if "/" in pattern.rstrip("/") else range(len(parts))
    last = len(parts) - 1 if pattern.endswith("/") else len(parts)
    return any(parts[place : place + len(wanted)] == wanted and place + len(wanted) <= last for place in places)


def _problems(path: PurePosixPath, content: bytes) -> Iterator[str]:
    if path.is_absolute() or ".." in path.parts or ":" in str(path) or "\\" in str(path) or not str(path).isascii():
        yield "is no path that every system has"
    if DEVELOPERS & set(path.parts):
        yield "is for developers"
    if path.suffix not in SUFFIXES:
        yield f"is of a kind ({path.suffix}) that is not published"
    if len(content) > MAX_FILE_BYTES:
        yield f"{len(content) >> 20} MiB, more than {MAX_FILE_BYTES >> 20}"
    for secret in sorted({match[0].decode(errors="replace") for match in SECRETS.finditer(content)}):
        yield f"contains {secret}"
    if path.suffix == ".py":
        yield from _in_python(content.decode(), frozenset({"print"} if path.parts[0] == "examples" else ()))
    if path.suffix in (".js", ".svg", ".css"):
        yield from _in_script(path, content.decode())


def _in_python(text: str, allowed: frozenset[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        for module in _imported(node):
            parts = module.split(".")
            if FORBIDDEN_MODULES & {".".join(parts[:count]) for count in range(1, len(parts) + 1)}:
                yield f"line {getattr(node, 'lineno', 0)} imports {module}"
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)) in FORBIDDEN_CALLS - allowed:
            yield f"line {node.lineno} calls {called}"
    for number, line in enumerate(text.splitlines(), 1):
        if (match := LOOKS_LIKE_A_CALL.search(line)) is not None:
            yield f"line {number} reads like a call of {match[1]}"
        try:
            line.encode("cp1252")
        except UnicodeEncodeError as error:
            yield f"line {number} has {line[error.start]!a}, which Windows cannot show; write its escape"


def _imported(node: ast.AST) -> Sequence[str]:
    if isinstance(node, ast.Import):
        return [name.name for name in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module or "", *(f"{node.module}.{name.name}" for name in node.names)]
    return []


def _in_script(path: PurePosixPath, text: str) -> Iterator[str]:
    if ".min." in path.name or {"node_modules", "vendor", "dist", "lib"} & set(path.parts):
        yield "is a copy of somebody's library"
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > LONGEST_LINE and path.suffix != ".svg":
            yield f"line {number} has {len(line)} characters, so it is minified"
        for pattern, what in FORBIDDEN_IN_SCRIPTS.items():
            if (match := re.search(pattern, line)) is not None:
                yield f"line {number} {what}: {match[0]}"
