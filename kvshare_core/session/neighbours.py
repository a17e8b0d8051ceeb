"""Nodes of other packs on a model, as far as a run has to know of them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Neighbours:
    """Nodes of other packs that were recognised on the model."""

    caches: tuple[str, ...] = ()
    """Those that answer in place of the model, by name."""
    others: tuple[str, ...] = ()
    """Others that change what the model does, by name."""
    left_behind: tuple[str, ...] = ()
    """Of both, those that changed the loaded model itself and stay in it when their nodes are gone."""

    @property
    def cache(self) -> str:
        """Whoever answers in place of the model."""
        if self.caches:
            return " and ".join(self.caches)
        return self.other if self.others else "another node, such as a step cache,"

    @property
    def other(self) -> str:
        """Whoever changes what the model does."""
        return f"another node, of {' or '.join(self.others)}," if self.others else "another node"
