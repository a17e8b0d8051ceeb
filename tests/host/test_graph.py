"""The queued graph: which nodes a node depends on, and when two would do the same."""

import pytest

from kvshare_core.host.graph import Graph


def graph(**nodes: object) -> Graph:
    return Graph({name: {"class_type": name.rstrip("0123456789"), "inputs": inputs} for name, inputs in nodes.items()})


def test_the_nearest_nodes_above_come_first() -> None:
    found = graph(
        loader={},
        film={"model": ["loader", 0]},
        sampler={"model": ["loader", 0], "a": ["film", 1]},
        show={"i": ["sampler", 0]},
    )
    assert [node.id for node in found.above(found.node("show"))] == ["sampler", "loader", "film"]


def test_an_output_is_taken_by_any_node_that_has_a_link_to_it() -> None:
    found = graph(film={}, share={"timeline": ["film", 0]}, sampler={"model": ["share", 0], "seed": 1})
    assert [found.is_taken(found.node("share"), output) for output in (0, 1)] == [True, False]
    assert not found.is_taken(found.node("sampler"), 0)


def test_a_signature_is_that_of_class_values_and_nodes_before() -> None:
    found = graph(
        film={"text": "a"},
        film1={"text": "a"},
        film2={"text": "b"},
        sampler={"film": ["film", 1], "seed": 1},
        sampler1={"seed": 1, "film": ["film1", 1]},
        sampler2={"film": ["film2", 1], "seed": 1},
        sampler3={"film": ["film", 2], "seed": 1},
        sampler4={"film": ["film", 1], "seed": 2},
        other={"film": ["film", 1], "seed": 1},
    )
    signatures = [found.signature(found.node(name)) for name in ("sampler", "sampler1")]
    assert signatures[0] == signatures[1]
    others = {found.signature(found.node(name)) for name in ("sampler2", "sampler3", "sampler4", "other", "film")}
    assert len(others | set(signatures)) == 6


def test_a_long_chain_has_a_signature_and_a_circle_has_none() -> None:
    chain = {"node0": {}, **{f"node{number}": {"a": [f"node{number - 1}", 0]} for number in range(1, 3000)}}
    found = graph(**chain)
    assert found.signature(found.node("node2999")) != found.signature(found.node("node2998"))
    circle = graph(a={"x": ["b", 0]}, b={"x": ["a", 0]})
    with pytest.raises(ValueError, match="depend on themselves"):
        circle.signature(circle.node("a"))
