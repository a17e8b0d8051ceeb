from comfy_api.latest import io

from ..kvshare_core.config import (
    LAYER_PRESETS,
    MAX_CONTRAST,
    MAX_STRENGTH,
    MODES,
    POSITIONS,
    REWEIGHT_FORMS,
    SOURCES,
    KVShareConfig,
    MaskSettings,
    parse_indices,
)
from .errors import named_errors
from .inputs import config_output, edit_input, range_inputs, rare, search_words, threshold_input
from .sockets import CATEGORY

DEFAULTS = KVShareConfig()
ORDERS = ("lockstep", "sources_first", "chain")
"""Without the paper's order, which goes with its other settings (DiTCtrlConfig)."""
SAME_STRENGTH = -1.0
MAX_GAP = 1024


class KVShareConfigNode(io.ComfyNode):
    """How, how strongly, in which steps and in which blocks segments share keys and values."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KVShareConfig",
            display_name="KV Sharing Config",
            category=CATEGORY,
            description="Sets how, how strongly, in which steps and in which blocks segments share the attention keys "
            "and values of their subject. Its defaults were chosen on the small models that come with the pack; the "
            "help page has suggestions for released models.",
            **search_words("kv sharing", "attention sharing", "consistent subject"),
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default=DEFAULTS.mode,
                    tooltip="swap: moves part of the weight of the segment's own subject keys, set by strength, to "
                    "the source's. extend: adds the source's subject keys to all of the segment's own. replace: uses "
                    "the source's subject keys in place of the segment's own video keys. off: no sharing. Try replace "
                    "if the subject still changes at full strength, off to compare.",
                ),
                io.Float.Input(
                    "strength",
                    default=DEFAULTS.strength,
                    min=0.0,
                    max=MAX_STRENGTH,
                    step=0.05,
                    tooltip="Weight of the source's keys. 0 shares nothing. At 1, swap drops the segment's own subject "
                    "keys and replace all of its own video keys; in extend, source and own keys then count the same. "
                    "Raise it if the subject still changes, lower it if it hardly moves.",
                ),
                io.Combo.Input(
                    "sources",
                    options=list(SOURCES),
                    default=DEFAULTS.sources,
                    tooltip="Segments to take keys and values from: the first one as an anchor, the previous one, or "
                    "both. Choose previous for a subject that may change slowly.",
                ),
                *range_inputs(DEFAULTS),
                io.Boolean.Input(
                    "share_background",
                    default=DEFAULTS.share_background,
                    tooltip="Background tokens attend to the source's background too. Off lets each prompt have its "
                    "own setting. Turn it on if the place should stay the same too.",
                ),
                io.Boolean.Input(
                    "share_uncond",
                    default=DEFAULTS.share_uncond,
                    tooltip="Share in the negative (unconditional) pass of CFG too. Off halves the memory and makes "
                    "guidance stronger. Turn it off if memory is short.",
                    **rare(),
                ),
                threshold_input(DEFAULTS),
                io.Float.Input(
                    "end_strength",
                    default=SAME_STRENGTH,
                    min=SAME_STRENGTH,
                    max=MAX_STRENGTH,
                    step=0.05,
                    optional=True,
                    tooltip="Strength in the last shared step, with a linear change up to it. Below 0, strength stays "
                    "constant. Set it below strength to leave details to each prompt.",
                    **rare(),
                ),
                io.Float.Input(
                    "start_percent",
                    default=DEFAULTS.start_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the noise schedule sharing starts, as a fraction: 0 is pure noise, 1 the "
                    "finished video. Applies on top of the step range. Raise it to leave the layout to each prompt.",
                    **rare(),
                ),
                io.Float.Input(
                    "end_percent",
                    default=DEFAULTS.end_percent,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    optional=True,
                    tooltip="Where in the noise schedule sharing stops, as a fraction: 0 is pure noise, 1 the finished "
                    "video. Applies on top of the step range. Lower it to leave details to each prompt.",
                ),
                io.Combo.Input(
                    "layer_preset",
                    options=list(LAYER_PRESETS),
                    default=DEFAULTS.layer_preset,
                    optional=True,
                    tooltip="Blocks that share. custom: those of start_layer, end_layer and layer_idx, which the other "
                    "presets ignore. late: the last sixth, as in DiTCtrl. middle: every second block around the "
                    "middle. family: the blocks known for your model (see info of Load Video DiT), else middle. "
                    "Change it to save memory.",
                    **rare(),
                ),
                io.Combo.Input(
                    "position",
                    options=list(POSITIONS),
                    default=DEFAULTS.position,
                    optional=True,
                    tooltip="Position of the source's subject keys. centred: moved as a whole to the subject's current "
                    "position. same: unchanged. gap: position_gap latent frames earlier. matched: each token moved to "
                    "the most similar subject token. frame: unchanged, and each latent frame attends only to the same "
                    "frame of the source. Change it if place or pose are wrong: same copies both, matched follows a "
                    "subject that turns.",
                    **rare(),
                ),
                io.Int.Input(
                    "position_gap",
                    default=DEFAULTS.position_gap,
                    min=-MAX_GAP,
                    max=MAX_GAP,
                    optional=True,
                    tooltip="For position gap: how many latent frames to shift the source back in time. Negative "
                    "values shift it forward.",
                    **rare(),
                ),
                io.Float.Input(
                    "token_dropout",
                    default=DEFAULTS.token_dropout,
                    min=0.0,
                    max=0.95,
                    step=0.05,
                    optional=True,
                    tooltip="Fraction of the source's subject tokens to drop at random, different ones in every step. "
                    "Reduces copying of the source's pose. Raise it if the old pose comes back.",
                    **rare(),
                ),
                io.Float.Input(
                    "drift_control",
                    default=DEFAULTS.drift_control,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="Pulls colours and contrast of later segments towards the first segment, against drift in "
                    "long videos. 0 is off, 1 matches them fully. Raise it if colours wander over a long film in one "
                    "place.",
                    **rare(),
                ),
                io.Combo.Input(
                    "order",
                    options=list(ORDERS),
                    default=DEFAULTS.order,
                    optional=True,
                    tooltip="lockstep: all segments are denoised together. sources_first: source segments are sampled "
                    "first, so the others attend to a finished subject. This follows the prompts better and keeps more "
                    "motion, but computes those segments twice. chain: segments are finished one after the other, each "
                    "starting from the last frames of the one before. Change it if sharing hurts motion or what the "
                    "prompts say.",
                ),
                io.Boolean.Input(
                    "carry_image",
                    default=DEFAULTS.carry_image,
                    optional=True,
                    tooltip="For image-to-video models: a segment without an image of its own starts from the frames "
                    "that it shares with the segment before. Off: it is made without an image. Turn it off if a later "
                    "prompt should show a new subject.",
                    **rare(),
                ),
                io.Boolean.Input(
                    "share_subject",
                    default=DEFAULTS.share_subject,
                    optional=True,
                    tooltip="Subject tokens attend to the source's subject. Off, with share_background on: everything "
                    "but the subject stays the same. Turn it off to put something else in the subject's place.",
                    **rare(),
                ),
                edit_input(),
                io.Combo.Input(
                    "reweight_form",
                    options=list(REWEIGHT_FORMS),
                    default=DEFAULTS.reweight_form,
                    optional=True,
                    tooltip="For word weights of the script. normalised: a word of weight 2 counts like two such "
                    "words. paper: as in DiTCtrl, which multiplies the word's part and lowers no other. Try paper if a "
                    "weight does too little.",
                    **rare(),
                ),
                io.Float.Input(
                    "key_contrast",
                    default=DEFAULTS.key_contrast,
                    min=0.0,
                    max=MAX_CONTRAST,
                    step=0.05,
                    optional=True,
                    tooltip="How sharply the subject tells the source's parts apart. 1 leaves the source's keys as "
                    "they are; a little more keeps colour, pattern and size better. Raise it to 1.1 if the subject "
                    "changes its looks, lower it if seams show.",
                    **rare(),
                ),
            ],
            outputs=[config_output()],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        mode: str,
        strength: float,
        sources: str,
        start_step: int,
        end_step: int,
        start_layer: int,
        end_layer: int,
        step_idx: str,
        layer_idx: str,
        share_background: bool,
        share_uncond: bool,
        thres: float,
        end_strength: float = SAME_STRENGTH,
        start_percent: float = DEFAULTS.start_percent,
        end_percent: float = DEFAULTS.end_percent,
        layer_preset: str = DEFAULTS.layer_preset,
        position: str = DEFAULTS.position,
        position_gap: int = DEFAULTS.position_gap,
        token_dropout: float = DEFAULTS.token_dropout,
        drift_control: float = DEFAULTS.drift_control,
        order: str = DEFAULTS.order,
        carry_image: bool = DEFAULTS.carry_image,
        share_subject: bool = DEFAULTS.share_subject,
        is_edit: bool = DEFAULTS.is_edit,
        reweight_form: str = DEFAULTS.reweight_form,
        key_contrast: float = DEFAULTS.key_contrast,
    ) -> io.NodeOutput:
        with named_errors("KV Sharing Config"):
            return io.NodeOutput(
                KVShareConfig(
                    mode=mode,  # pyright: ignore[reportArgumentType]
                    strength=strength,
                    end_strength=None if end_strength < 0 else end_strength,
                    sources=sources,  # pyright: ignore[reportArgumentType]
                    order=order,  # pyright: ignore[reportArgumentType]
                    start_step=start_step,
                    end_step=end_step,
                    start_percent=start_percent,
                    end_percent=end_percent,
                    start_layer=start_layer,
                    end_layer=end_layer,
                    step_idx=parse_indices(step_idx, "step_idx"),
                    layer_idx=parse_indices(layer_idx, "layer_idx"),
                    layer_preset=layer_preset,  # pyright: ignore[reportArgumentType]
                    share_background=share_background,
                    share_uncond=share_uncond,
                    position=position,  # pyright: ignore[reportArgumentType]
                    position_gap=position_gap,
                    token_dropout=token_dropout,
                    drift_control=drift_control,
                    masks=MaskSettings(thres=thres),
                    carry_image=carry_image,
                    share_subject=share_subject,
                    is_edit=is_edit,
                    reweight_form=reweight_form,  # pyright: ignore[reportArgumentType]
                    key_contrast=key_contrast,
                )
            )
