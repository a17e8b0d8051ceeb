"""Counts the evaluations of a model in a run, and those that only look for the subject."""

from typing import Any


class Evaluations:
    """Counts batch rows that a MODEL evaluates: `of_film` are those that the film is made of, `of_search` those with a
    subject's words hidden, to see what changes."""

    def __init__(self) -> None:
        self.of_film = self.of_search = 0

    def counted(self, model: Any) -> Any:
        """A clone of `model` that is counted. The rows of guidance count as what they are, evaluations."""
        from comfy.patcher_extension import WrappersMP

        def count(executor: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
            # The host gives transformer options as the fifth argument, or by name.
            options = kwargs.get("transformer_options") or args[4]
            if getattr(options.get("context_window"), "hides", None) is None:
                self.of_film += len(x)
            else:
                self.of_search += len(x)
            return executor(x, *args, **kwargs)

        clone = model.clone()
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "evaluations", count)
        return clone

    @property
    def search_cost(self) -> float:
        """Evaluations that look for the subject, per evaluation of the film."""
        return self.of_search / self.of_film
