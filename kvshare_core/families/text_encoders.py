"""Which text encoders a model takes, which files they come in, and which rows of their output belong to the prompt.

Here are the types, and the encoders that several families share. An encoder of one family is in the family's file.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class EncoderFile:
    """A file with the weights of a text encoder, or of a part of one."""

    title: str
    """What people call it, for messages."""

    kinds: tuple[str, ...] = ()
    """Names in the host's `TEModel` under which its detection knows such a file."""

    with_weight: str | None = None
    """A weight that such a file has and others of the same kind lack."""

    without_weight: str | None = None
    """A weight that such a file lacks and others of the same kind have."""

    detector: str | None = None
    """`module.function` of the host that recognises the part in a list of state dicts, for parts without a kind.
    Hosts without that function do not know the text encoder."""

    combined_kinds: tuple[str, ...] = ()
    """Kinds of text encoders whose file may contain this part as well, so that the host takes both from it."""

    in_model_file: bool = False
    """Whether the diffusion model's own file may contain it, so that it need not be chosen."""


class Excerpt(NamedTuple):
    """Which of the tokens that go into a text encoder come out of it, and which of them are the prompt."""

    kept: int
    """The first token that has a row in the embedding."""

    start: int
    """The prompt's first token."""

    stop: int
    """The token behind the prompt's last one."""


@dataclass(frozen=True)
class PromptTokens:
    """Where the prompt stands among the tokens of a text encoder, template and padding included."""

    encoders: tuple[str, ...]
    """The host's classes whose `encode_token_weights` makes the embedding, in all supported versions of it. What is cut
    from the tokens depends on nothing else."""

    excerpt: Callable[[Sequence[str]], Excerpt | None]
    """Finds the prompt by the vocabulary's pieces, one for each token; None when the template is not there."""

    encoder_part: str | None = None
    """Attribute of the host's encoder that holds the language model; None for the one its `clip` attribute names."""

    language_models: tuple[str, ...] = ("ClipTokenWeightEncoder",)
    """The host's classes whose `encode_token_weights` makes the language model's output, one row for each token."""

    tokenizer_part: str | None = None
    """Attribute of the host's tokenizer and key of the tokens for that language model; None for those that its `clip`
    and `clip_name` attributes name."""

    tokens_name: str | None = None
    """The key of the tokens, where it is another than `tokenizer_part`."""


@dataclass(frozen=True)
class TextEncoders:
    """The text encoders of a model."""

    clip_type: str
    """Name in the host's `CLIPType` of the combination."""

    files: tuple[EncoderFile, ...]
    """The files it is loaded from, in any order."""

    prompt: PromptTokens
    """Where the prompt's words end up in the conditioning."""

    def __str__(self) -> str:
        return " and ".join(file.title for file in self.files)


def whole_text(pieces: Sequence[str]) -> Excerpt:
    """The prompt without a template: every token is kept."""
    return Excerpt(0, 0, len(pieces))


def after_qwen_header(pieces: Sequence[str]) -> Excerpt | None:
    """The host keeps what follows the second message's start and, if it can, leaves out 'user' and a line break."""
    messages = [place for place, piece in enumerate(pieces) if piece == "<|im_start|>"][:2]
    if not messages or messages[0] != 0:
        return None
    message = messages[-1]
    header = list(pieces[message + 1 : message + 3])
    start = message + 2 if header[:1] == ["user"] else message + 1
    cut = header == ["user", "\u010a"] and len(pieces) > message + 3
    return Excerpt(message + 3 if cut else message, start, find_piece(pieces, "<|im_end|>", start))


def find_piece(pieces: Sequence[str], piece: str, start: int) -> int:
    """Index of the first `piece` from `start` on; the number of pieces when there is none."""
    return next((place for place in range(start, len(pieces)) if pieces[place] == piece), len(pieces))


PLAIN_PROMPT = PromptTokens(("SD1ClipModel",), whole_text)
"""Text encoders that get the prompt alone: T5, umT5 and CLIP."""

UMT5_BIAS = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"
"""umT5 has position biases in every block, T5 in the first only; the host calls both T5_XXL."""

T5_XXL = EncoderFile("T5-XXL 1.1", ("T5_XXL",), without_weight=UMT5_BIAS)
UMT5_XXL = EncoderFile("umT5-XXL", ("T5_XXL",), with_weight=UMT5_BIAS)
CLIP_L = EncoderFile("CLIP-L", ("CLIP_L",))
QWEN25_7B = EncoderFile("Qwen2.5-VL 7B", ("QWEN25_7B",))
