"""Changes modules of the core in small ways and says which changes their tests do not notice.

python -m devtools.mutate [--jobs N] [FILES]

Exit status 1 means that a mutant survives which tests/surviving_mutants.toml does not list. All tests are collected in
one process with the host. For each mutant it forks, puts the changed function into the place of the original and runs,
quickest first, the tests that call this function, up to the first failure; where a module's own level changes, the pack
and the tests are imported again instead. Hypothesis draws the same examples every time. POSIX only.
"""

import argparse
import gc
import importlib
import os
import pickle
import resource
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any, NoReturn

import hypothesis
import pytest
from _pytest.runner import runtestprotocol

from .environment import DEV, ROOT, say
from .inprocess import CORE, PACK
from .mutants import MODULE_LEVEL, Mutant, Mutation, mutants_of, read_survivors

SURVIVORS = ROOT / "tests" / "surviving_mutants.toml"
TESTS: Mapping[str, tuple[str, ...]] = {
    "kvshare_core/attention/parts.py": ("attention/test_parts.py", "attention/test_groups.py"),
    "kvshare_core/attention/groups.py": (
        "attention/test_groups.py",
        "attention/test_groups_of_subjects.py",
        "attention/test_positions.py",
    ),
    "kvshare_core/attention/rope.py": ("attention/test_rope.py", "attention/test_positions.py"),
    "kvshare_core/timeline/fades.py": ("timeline/test_fades.py", "timeline/test_timeline.py"),
    "kvshare_core/timeline/planning.py": ("timeline/test_timeline.py",),
    "kvshare_core/bank/bank.py": ("bank/test_bank.py",),
    "kvshare_core/subject/maps.py": ("subject/test_maps.py",),
    "kvshare_core/plan/stages.py": ("plan/test_stages.py",),
    "kvshare_core/plan/schedule.py": ("plan/test_schedule.py", "timeline/test_holding.py"),
    "kvshare_core/prompt_words.py": ("test_prompt_words.py",),
}
"""The modules that are mutated by default, and the tests, below tests/, that should notice. Other modules have those of
the folder of the same name."""

SPARE_BYTES = 8 << 30
"""Memory that a mutant may take beyond what the tests' process has."""


@dataclass(frozen=True)
class TestRun:
    """One test without mutants."""

    seconds: float
    calls: frozenset[tuple[str, str]]
    """File and qualified name of the outermost functions that were called."""
    passed: bool


@dataclass
class Score:
    """What became of the mutants of one module."""

    mutants: int = 0
    seconds: float = 0.0
    survivors: list[Mutant] = field(default_factory=list["Mutant"])

    def __str__(self) -> str:
        killed = self.mutants - len(self.survivors)
        return f"{killed} of {self.mutants} killed ({killed / max(1, self.mutants):.1%}), {self.seconds:.0f} s"


class MutationRun:
    """A pytest plugin that runs the collected tests against mutants."""

    def __init__(
        self, modules: Mapping[str, tuple[str, ...]], jobs: int, finished: Callable[[str, Score], None]
    ) -> None:
        self._modules = modules
        self._jobs = jobs
        self._finished = finished

    def pytest_collection(self) -> None:
        """Before the tests are imported, whose own settings are based on the profile."""
        _fix_settings()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """In place of the tests themselves."""
        if session.testsfailed:
            return None
        gc.freeze()
        files = {str(ROOT / module) for module in self._modules}
        say(f"{len(session.items)} tests without mutants")
        runs = {item.nodeid: run for item, run in zip(session.items, _in_child(session.items, files), strict=True)}
        failed = [name for name, run in runs.items() if not run.passed]
        if failed:
            raise pytest.UsageError(f"these fail without any mutant: {', '.join(failed)}")
        functions = _functions_of(files)
        for module, tests in self._modules.items():
            score = _score(module, _items_of(tests, session.items), runs, functions, self._jobs)
            self._finished(module, score)
        return True


def _fix_settings() -> None:
    """Makes Hypothesis draw the same examples in every run, and report the first failure without a smaller one. Other
    mutants have the other cores."""
    importlib.import_module("torch").set_num_threads(1)
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants", hypothesis.settings(), derandomize=True, database=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")


def _items_of(tests: Sequence[str], items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """The collected tests that lie in the files or folders `tests`."""
    return [item for item in items if any(item.path.is_relative_to(ROOT / "tests" / name) for name in tests)]


def _in_child(items: Sequence[pytest.Item], files: set[str]) -> list[TestRun]:
    """Runs tests in a child process, so that none leaves anything in this one."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _silence()
        with open(writing, "wb") as pipe:
            pickle.dump([_traced(item, files) for item in items], pipe)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        runs = pickle.load(pipe)
    os.waitpid(child, 0)
    return runs


def _traced(item: pytest.Item, files: set[str]) -> TestRun:
    calls: set[tuple[str, str]] = set()

    def trace(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if code.co_filename in files:
            calls.add((code.co_filename, _outermost(code)))

    begin = time.process_time()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        passed = _passes(item)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # pyright: ignore[reportArgumentType]
    return TestRun(time.process_time() - begin, frozenset(calls), passed)


def _passes(item: pytest.Item) -> bool:
    # Without a next item every test sets up and tears down its own fixtures, those of its module included.
    return not any(report.failed for report in runtestprotocol(item, log=False, nextitem=None))


def _qualified_name(code: CodeType) -> str:
    # The types of Python 3.10, which the pack supports, lack it; dev.py asks for 3.11.
    found: Any = code
    return found.co_qualname


def _outermost(code: CodeType) -> str:
    return _qualified_name(code).partition(".<locals>")[0]


def _functions_of(files: set[str]) -> dict[tuple[str, str], list[FunctionType]]:
    """All functions of some files that exist, by file and qualified name."""
    functions: dict[tuple[str, str], list[FunctionType]] = defaultdict(list)
    gc.unfreeze()
    for found in gc.get_objects():
        # The type itself is asked for, because some of the host's objects act on isinstance.
        if type(found) is FunctionType and found.__code__.co_filename in files:
            functions[found.__code__.co_filename, _qualified_name(found.__code__)].append(found)
    gc.freeze()
    return functions


def _score(
    module: str,
    items: Sequence[pytest.Item],
    runs: Mapping[str, TestRun],
    functions: Mapping[tuple[str, str], Sequence[FunctionType]],
    jobs: int,
) -> Score:
    """Tries all mutants of a module, `jobs` at a time."""
    file, begin = str(ROOT / module), time.monotonic()
    mutants = mutants_of(ROOT / module, module)
    quickest = sorted(items, key=lambda item: runs[item.nodeid].seconds)
    score = Score(len(mutants))
    running: dict[int, Mutant] = {}
    unchanged = Mutant(Mutation(module, MODULE_LEVEL, "", ""), 0, Path(file).read_text(encoding="utf-8"), False)

    def reap() -> None:
        child, status = os.wait()
        mutant = running.pop(child)
        if status == 0:
            score.survivors.append(mutant)
        elif mutant is unchanged:
            raise pytest.UsageError(f"{module}: the tests fail when the unchanged module is imported again")

    for mutant in [unchanged, *mutants]:
        place = (file, mutant.mutation.function)
        chosen = [item for item in quickest if not mutant.in_function or place in runs[item.nodeid].calls]
        if len(running) == jobs:
            reap()
        child = os.fork()
        if child == 0:
            _try(mutant, file, chosen, sum(runs[item.nodeid].seconds for item in chosen), functions[place])
        running[child] = mutant
    while running:
        reap()
    score.survivors = sorted(
        (found for found in score.survivors if found is not unchanged), key=lambda found: found.line
    )
    score.seconds = time.monotonic() - begin
    return score


def _try(
    mutant: Mutant, file: str, items: Sequence[pytest.Item], seconds: float, functions: Sequence[FunctionType]
) -> NoReturn:
    """Runs tests in a mutant and leaves the process: with 0 where all pass. A mutant that takes far longer or far more
    memory than the original ends with a signal or an error."""
    _silence()
    limit = 5 * seconds + 20
    signal.setitimer(signal.ITIMER_PROF, limit)
    signal.setitimer(signal.ITIMER_REAL, 10 * limit)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + SPARE_BYTES, resource.RLIM_INFINITY))
    try:
        passes = _in_function(mutant, file, items, functions) if mutant.in_function else _anew(mutant, file, items)
    except BaseException:
        passes = False
    os._exit(0 if passes else 1)


def _in_function(mutant: Mutant, file: str, items: Sequence[pytest.Item], functions: Sequence[FunctionType]) -> bool:
    """Whether tests pass with the function's code replaced wherever it is referred to."""
    (code,) = _codes(compile(mutant.code, file, "exec"), mutant.mutation.function)
    for function in functions:
        function.__code__ = code
    return all(_passes(item) for item in items)


def _codes(code: CodeType, name: str) -> list[CodeType]:
    """The code of the functions of that qualified name."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return [found for part in inner for found in ([part] if _qualified_name(part) == name else _codes(part, name))]


def _anew(mutant: Mutant, file: str, items: Sequence[pytest.Item]) -> bool:
    """Whether tests pass after pack and tests have been imported again, with the module changed."""
    for name in [name for name in sys.modules if name.partition(".")[0] in (PACK, CORE, "tests")]:
        del sys.modules[name]
    name = ".".join((PACK, *Path(mutant.mutation.module).with_suffix("").parts))
    sys.meta_path.insert(0, _ChangedModule(name, file, mutant.code))
    order = {item.nodeid: place for place, item in enumerate(items)}
    arguments = [*PYTEST_ARGUMENTS, "-x", *sorted({str(item.path) for item in items})]
    return pytest.main(arguments, plugins=[_InOrder(order)]) == pytest.ExitCode.OK


class _InOrder:
    """A pytest plugin that runs tests in a given order."""

    def __init__(self, order: Mapping[str, int]) -> None:
        self._order = order

    def pytest_collection(self) -> None:
        _fix_settings()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self._order.get(item.nodeid, 0))


class _ChangedModule(SourceFileLoader):
    """Finds and loads one module, with other source than its file has."""

    def __init__(self, name: str, file: str, code: str) -> None:
        super().__init__(name, file)
        self._code = code

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return spec_from_file_location(self.name, self.path, loader=self) if fullname == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._code, self.path, "exec")


def _silence() -> None:
    """What a child writes would only be in the way of the results."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


PYTEST_ARGUMENTS = ("-q", "--capture=no", "--disable-warnings", "-p", "no:cacheprovider", "-p", "no:faulthandler")


class Report:
    """Writes the score of each module, and counts the survivors that are not `listed`."""

    def __init__(self, listed: Mapping[Mutation, str], write: Callable[[str], Any] = print) -> None:
        self.scores: dict[str, Score] = {}
        self.new = 0
        self._listed = listed
        self._write = write

    def add(self, module: str, score: Score) -> None:
        """Writes a module's score, its survivors that are not listed, and what is listed but does not survive."""
        self.scores[module] = score
        self._write(f"{module}: {score}")
        new = [mutant for mutant in score.survivors if mutant.mutation not in self._listed]
        self.new += len(new)
        for mutant in new:
            self._write(f"new survivor: {module}:{mutant.line}, {mutant.mutation.function}: {mutant.mutation}")
        survivors = {mutant.mutation for mutant in score.survivors}
        for mutation in self._listed:
            if mutation.module == module and mutation not in survivors:
                self._write(f"listed, but killed or gone: {module}, {mutation.function}: {mutation}")

    def total(self) -> None:
        """Writes the sums over all modules."""
        mutants = sum(score.mutants for score in self.scores.values())
        survivors = sum(len(score.survivors) for score in self.scores.values())
        self._write(f"{mutants} mutants, {survivors - self.new} known survivors, {self.new} new ones")


def tests_of(file: str) -> tuple[str, ...]:
    """The tests of a module, below tests/."""
    if file in TESTS:
        return TESTS[file]
    folder = Path(file).parent.relative_to(CORE)
    return (str(folder),)


def _modules(files: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The named modules, from the repository's root, and their tests; the default ones where none is named."""
    names = [str(Path(file).resolve().relative_to(ROOT)) for file in files] or list(TESTS)
    return {name: tests_of(name) for name in names}


def main() -> int:
    parser = argparse.ArgumentParser(prog="dev.py mutate", description=str(__doc__).splitlines()[0])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time; default: all cores")
    parser.add_argument("files", nargs="*", help="modules of kvshare_core; default: those in devtools/mutate.py")
    options = parser.parse_args()
    listed = read_survivors(SURVIVORS)
    modules = _modules(options.files)
    report = Report(listed)
    run = MutationRun(modules, options.jobs, report.add)
    DEV.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV, prefix="mutate-") as folder:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = folder
        tests = sorted({str(ROOT / "tests" / name) for names in modules.values() for name in names})
        status = pytest.main([*PYTEST_ARGUMENTS, *tests], plugins=[run])
    if len(report.scores) < len(modules):
        return int(status) or 2
    report.total()
    return 1 if report.new else 0


if __name__ == "__main__":
    sys.exit(main())
