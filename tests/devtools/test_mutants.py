"""Which changes make mutants, how they are named, and which survivors count as known."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mutmut", reason="mutmut is among the developers' requirements")

from devtools.mutants import Mutant, Mutation, mutants_of, read_survivors
from devtools.mutate import Report, Score

SOURCE = '''"""A module."""

from collections.abc import Callable
from dataclasses import dataclass

Alias = Callable[[int], int]
LIMIT: int = 5


@dataclass(frozen=True)
class Box:
    """A class."""

    size: int = 2

    @property
    def double(self) -> "int | None":
        return 2 * self.size


def pairs(one: list[int], other: list[int], limit: int = 7) -> list[int]:
    if not one:
        raise ValueError("nothing")

    def product(left: int, right: int) -> int:
        return left * right

    return [product(a, b) for a, b in zip(one, other, strict=True)]
'''


@pytest.fixture
def mutants(tmp_path: Path) -> list[Mutant]:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    return mutants_of(file, "module.py")


def changes(mutants: list[Mutant], function: str) -> set[str]:
    return {str(mutant.mutation) for mutant in mutants if mutant.mutation.function == function}


def test_mutants_are_named_by_function_and_changed_line(mutants: list[Mutant]) -> None:
    assert changes(mutants, "<module>") == {"LIMIT: int = 5 => LIMIT: int = 6", "LIMIT: int = 5 => LIMIT: int = None"}
    assert changes(mutants, "Box") == {"size: int = 2 => size: int = 3", "size: int = 2 => size: int = None"}
    assert changes(mutants, "Box.double") == {
        "return 2 * self.size => return 3 * self.size",
        "return 2 * self.size => return 2 / self.size",
    }


def test_inner_functions_belong_to_the_outermost_one(mutants: list[Mutant]) -> None:
    found = changes(mutants, "pairs")
    assert "return left * right => return left / right" in found
    assert "if not one: => if one:" in found


def test_types_message_texts_and_strict_stay(mutants: list[Mutant]) -> None:
    for text in ("Alias", "frozen", "-> ", '"XX', "strict=False", "strict=None", "other)]"):
        assert not [
            mutant for mutant in mutants if text in mutant.mutation.after and "limit" not in mutant.mutation.after
        ]


def test_every_mutant_compiles_and_differs(mutants: list[Mutant]) -> None:
    for mutant in mutants:
        compile(mutant.code, "module.py", "exec")
    assert len({mutant.code for mutant in mutants} | {SOURCE}) == len(mutants) + 1


def test_only_bodies_of_functions_are_exchanged_without_importing_again(mutants: list[Mutant]) -> None:
    for mutant in mutants:
        assert mutant.in_function == (
            mutant.mutation.function in ("Box.double", "pairs") and "def " not in mutant.mutation.before
        )


def test_line_moves_do_not_matter(tmp_path: Path, mutants: list[Mutant]) -> None:
    file = tmp_path / "moved.py"
    file.write_text(SOURCE.replace("LIMIT", "\n\n# More lines.\nLIMIT"))
    assert {mutant.mutation for mutant in mutants_of(file, "module.py")} == {mutant.mutation for mutant in mutants}


def written(tmp_path: Path, *mutations: str) -> Path:
    file = tmp_path / "survivors.toml"
    texts = ", ".join(f"'{mutation}'" for mutation in mutations)
    file.write_text(f'[[survivors]]\nmodule = "m.py"\nfunction = "f"\nreason = "same"\nmutations = [{texts}]\n')
    return file


def test_listed_survivors_are_no_news(tmp_path: Path) -> None:
    listed = read_survivors(written(tmp_path, "a = 1 => a = 2", "b => c"))
    known = Mutation("m.py", "f", "a = 1", "a = 2")
    assert listed[known] == "same"
    new = Mutation("m.py", "g", "a = 1", "a = 2")
    lines: list[Any] = []
    report = Report(listed, lines.append)
    report.add("m.py", Score(10, 1.0, [Mutant(known, 3, "", True), Mutant(new, 9, "", True)]))
    report.total()
    assert report.new == 1
    text = "\n".join(lines)
    assert "m.py: 8 of 10 killed (80.0%)" in text
    assert "new survivor: m.py:9, g: a = 1 => a = 2" in text
    assert "killed or gone: m.py, f: b => c" in text
    assert "10 mutants, 1 known survivors, 1 new ones" in text


@pytest.mark.parametrize(
    ("mutations", "complaint"),
    [(["a => b", "a => b"], "listed twice: a => b"), (["a"], "no ' => ' in the mutation 'a'")],
)
def test_a_bad_list_is_refused(tmp_path: Path, mutations: list[str], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_survivors(written(tmp_path, *mutations))
