"""What a user decides about workers."""

from dataclasses import dataclass, field

LOCAL = "local"
"""The address of this machine, without a cluster."""

MOST_WORKERS = 64


@dataclass(frozen=True)
class Patience:
    """How long to wait for workers, in seconds."""

    start: float = 1800.0
    """For a worker that starts, loads the model or makes its first call."""
    least: float = 120.0
    """For any later call, at least."""
    factor: float = 10.0
    """Times the longest call of the run so far, if that is more."""
    restart: float = 120.0
    """For a worker that is started in place of a lost one."""


@dataclass(frozen=True)
class WorkerSettings:
    """Where the workers are, and how many. Raises ValueError, naming the input, for values that cannot be."""

    address: str = LOCAL
    workers: int = 0
    """0: one for each GPU."""
    memory_gib: float = 0.0
    """The computer's memory that each worker is to have for itself, in GiB; 0: not reserved."""
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if not self.address.strip():
            raise ValueError(f"address is empty: write '{LOCAL}' for this machine, or the address of a Ray cluster.")
        if not 0 <= self.workers <= MOST_WORKERS:
            raise ValueError(f"workers is {self.workers}; it must be between 0 and {MOST_WORKERS}.")
        if self.memory_gib < 0:
            raise ValueError(f"memory_gib is {self.memory_gib}; it cannot be negative.")
