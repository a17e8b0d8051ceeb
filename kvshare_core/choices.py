"""Values that a user chooses from a list. Not every ComfyUI checks them before a node runs."""

from collections.abc import Sequence

LONGEST = 60


def wrong_choice(name: str, value: str, choices: Sequence[str]) -> str:
    """The message for a `value` of input `name` that is none of `choices`."""
    shown = value if len(value) <= LONGEST else f"{value[:LONGEST]}..."
    return f"{name} is '{shown}'; choose one of {', '.join(choices)}."
