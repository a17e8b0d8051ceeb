"""One line of progress for a long run in a terminal, and a line now and then in a log file."""

import sys
import time

LOG_SECONDS = 30.0
TERMINAL_SECONDS = 0.2
BAR_WIDTH = 24


class Progress:
    """A `report(step, steps, loss)` callback that shows what runs, how fast, and how long it will take."""

    def __init__(self, title: str):
        self.title = title
        self.first: tuple[int, float] | None = None
        self.written = 0.0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = (step, now)
        terminal = sys.stdout.isatty()
        if step < steps and now - self.written < (TERMINAL_SECONDS if terminal else LOG_SECONDS):
            return
        self.written = now
        line = f"{self.title} {bar(step / steps)} {step}/{steps}  loss {loss:.4f}"
        done, seconds = step - self.first[0], now - self.first[1]
        if done and seconds:
            rate = done / seconds
            line += f"  {rate:.2f} steps/s  {clock((steps - step) / rate)} left"
        sys.stdout.write(f"\r\x1b[K{line}" if terminal else f"{line}\n")
        if terminal and step == steps:
            sys.stdout.write("\n")
        sys.stdout.flush()


def bar(fraction: float) -> str:
    """A bar that is full at 1."""
    full = round(fraction * BAR_WIDTH)
    return "[" + "#" * full + "." * (BAR_WIDTH - full) + "]"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds as 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02}:{second:02}"
