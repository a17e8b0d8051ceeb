"""Error messages of the nodes reach every console."""

import pytest

from kv_share.nodes.errors import named_errors


@pytest.mark.parametrize("message", ["subject: 'a \ud83d fox' is not a word", "Node: it has \udc00"])
def test_half_a_character_in_a_message_is_escaped(message: str) -> None:
    with pytest.raises(ValueError) as error, named_errors("Node"):
        raise ValueError(message)
    str(error.value).encode("utf-8")
    assert str(error.value).startswith("Node: ") and "\\ud" in str(error.value)
