from typing import Any

from comfy_api.latest import io

from ..kvshare_core.host.workers.settings import LOCAL, MOST_WORKERS, WorkerSettings
from ..kvshare_core.host.workers.workers import with_workers
from .errors import named_errors
from .inputs import check_connected, search_words
from .sockets import CATEGORY

MAX_MEMORY_GIB = 4096.0


class KVShareWorkers(io.ComfyNode):
    """Lets several GPUs or machines evaluate the segments of one film."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = WorkerSettings()
        return io.Schema(
            node_id="KVShareWorkers",
            display_name="KV Share Workers",
            category=CATEGORY,
            description="Makes one film on several GPUs, or on several machines, in a fraction of the time. The film "
            "is the same as on one. Needs the package Ray: python -m pip install ray.",
            **search_words("multi gpu", "distributed", "ray", "cluster", "faster"),
            inputs=[
                io.Model.Input("model", tooltip="From Mask-Guided KV Share. The input model itself is not changed."),
                io.String.Input(
                    "address",
                    default=LOCAL,
                    tooltip="local: the GPUs of this machine. For several machines, the address that "
                    "'ray start --head' shows, such as 192.168.1.10:6379.",
                ),
                io.Int.Input(
                    "workers",
                    default=defaults.workers,
                    min=0,
                    max=MOST_WORKERS,
                    tooltip="Into how many parts the film is divided. 0 takes one for each GPU. The timeline editor "
                    "shows how much faster the film will be.",
                ),
                io.Float.Input(
                    "memory_gib",
                    default=defaults.memory_gib,
                    min=0.0,
                    max=MAX_MEMORY_GIB,
                    step=1.0,
                    tooltip="RAM in GiB that each worker may take, so that no machine gets more workers than fit. 0 "
                    "sets no limit.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model", tooltip="For the sampler.")],
        )

    @classmethod
    def execute(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, model: Any, address: str, workers: int, memory_gib: float
    ) -> io.NodeOutput:
        with named_errors("KV Share Workers"):
            check_connected(model=model)
            return io.NodeOutput(with_workers(model, WorkerSettings(address.strip(), workers, memory_gib)))
