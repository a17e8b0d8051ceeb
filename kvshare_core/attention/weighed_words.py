"""Words of the prompt that count more or less than others, as keys and queries of one attention call.

For the video, a word of weight w counts as often as w such words; in joint attention the video's keys count w times for
the word, too. Text to text stays as it is. That is a bias of log w on a part of its own, so kernels stay fused
(docs/editing.md). The paper's code multiplies the probabilities instead, and leaves their sum as it comes out (DiTCtrl,
ReWeightAdaLNMixin).
"""

from dataclasses import dataclass, field

import torch

from .parts import KeyValuePart


@dataclass(frozen=True)
class WeighedWords:
    """The weighed words among the tokens of one attention call. Equal places compare equal; tensors do not take part.

    places: where they stand among the keys that may be seen, each with its weight. normalised: whether weights still
    sum to 1. by_weight: indices of the words of each weight. visible, visible_outside: as in KeyMask, without the
    words. other_queries: indices of the tokens outside the video that are no such words. All on the device.
    """

    places: tuple[tuple[int, float], ...]
    normalised: bool
    by_weight: tuple[tuple[float, torch.Tensor], ...] = field(compare=False)
    visible: torch.Tensor | slice = field(compare=False)
    visible_outside: torch.Tensor = field(compare=False)
    other_queries: torch.Tensor = field(compare=False)

    def weigh(self, part: KeyValuePart, weight: float) -> KeyValuePart:
        """`part` as a word of this weight sees it, or as it is seen where it is such a word."""
        return part.weighed(weight) if self.normalised else part.amplified(weight)
