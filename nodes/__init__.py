"""One file per node."""

from comfy_api.latest import ComfyExtension, io

from .attention_mask_preview import AttentionMaskPreview
from .ditctrl_config import DiTCtrlConfig
from .kv_share_config import KVShareConfigNode
from .kv_share_load_preset import KVShareLoadPreset
from .kv_share_mask_settings import KVShareMaskSettings
from .kv_share_memory_settings import KVShareMemorySettings
from .kv_share_probe import KVShareProbe
from .kv_share_workers import KVShareWorkers
from .load_video_dit import LoadVideoDiT
from .long_video_beat_images import LongVideoBeatImages
from .long_video_continue import LongVideoContinue
from .long_video_decode_loop import LongVideoDecodeLoop
from .long_video_load import LongVideoLoad
from .long_video_redo_beat import LongVideoRedoBeat
from .long_video_save import LongVideoSave
from .long_video_segmenter import LongVideoSegmenter
from .mask_guided_kv_share import MaskGuidedKVShare


class NoNodes(ComfyExtension):
    """What a second copy of the pack gives to ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return []


class KVShareExtension(ComfyExtension):
    """The pack's ComfyUI extension: lists its nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadVideoDiT,
            LongVideoSegmenter,
            KVShareConfigNode,
            KVShareMaskSettings,
            KVShareMemorySettings,
            DiTCtrlConfig,
            MaskGuidedKVShare,
            AttentionMaskPreview,
            LongVideoContinue,
            LongVideoRedoBeat,
            LongVideoSave,
            LongVideoLoad,
            LongVideoDecodeLoop,
            LongVideoBeatImages,
            KVShareProbe,
            KVShareLoadPreset,
            KVShareWorkers,
        ]
