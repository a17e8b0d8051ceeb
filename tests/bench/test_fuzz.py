"""Whatever comes in from outside is taken, or refused in a sentence that says what is wrong.

A few hundred inputs of each kind here; `dev.py bench fuzz` tries 100,000. Set HYPOTHESIS_PROFILE=fuzz for as many here.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz import Tally, complaint, fuzz
from bench.hostile import KINDS, Kind

EXAMPLES = {kind.name: max(40, 600 // kind.every) for kind in KINDS}
MANY = 100_000
SECONDS = 20
"""No input takes as long, on a busy machine either."""

settings.register_profile("fuzz", max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_hostile_input_is_refused_clearly(folders: Path, kind: Kind) -> None:
    tally = Tally(kind)
    most = MANY if os.environ.get("HYPOTHESIS_PROFILE") == "fuzz" else EXAMPLES[kind.name]

    @settings(max_examples=most, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(kind.values)
    def attempt(value: Any) -> None:
        assert tally.try_input(value) is None

    attempt()
    assert tally.accepted and tally.clear
    assert tally.slowest < SECONDS


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


def ours(message: str) -> BaseException:
    """An error that the pack raises with that text in it."""
    from kvshare_core.script.film import Duration
    from kvshare_core.script.parsing import parse_script

    with pytest.raises(ValueError) as caught:
        Duration(-1.0) if message == "duration" else parse_script(message)
    return caught.value


def test_only_our_own_sentences_are_clear() -> None:
    clear = ours("a | strength: much")
    assert complaint(clear, r"line \d") is None
    assert "names nothing" in str(complaint(clear, "width"))
    for error in (KeyError("samples"), RecursionError("deep"), IndexError("index"), AttributeError("no shape")):
        assert type(error).__name__ in str(complaint(raised(error), ""))
    assert "not ours" in str(complaint(raised(ValueError("strength")), "strength"))


def test_a_row_counts_what_came_of_the_inputs() -> None:
    def attempt(value: int) -> None:
        if value % 3 == 1:
            ours_again("a | strength: much")
        if value % 3 == 2:
            raise KeyError(value)

    def ours_again(text: str) -> None:
        from kvshare_core.script.parsing import parse_script

        parse_script(text)

    row = fuzz(Kind("numbers", st.integers(0, 2), attempt, r"line \d"), 30)
    assert (row["accepted"], row["errors_clear"], row["errors_unclear"], row["tried"]) == (1, 1, 1, 3)
