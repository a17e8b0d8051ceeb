"""Hundreds of random films on one real server: is any lost, doubled or another's, and does the server grow?

python -m bench.soak [--prompts 400] [--json FILE]

Every film's latent is compared with that of earlier runs of the same film on this server, and for a sample of films
with that of a server started for it alone. On the way users interrupt, leave, and let editors plan.
"""

import argparse
import asyncio
import hashlib
import random
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil
from safetensors import safe_open

from devtools import client
from devtools.environment import find_host
from devtools.server import Server, running_server

from .form import Row, make_result, publish, show_progress
from .graphs import Workflow

BATCH = 20
"""Prompts that wait in the server's queue at once."""
QUICK_PROMPTS = 20
REPEATS = 8
"""How often a film comes again on average, so that its runs can be compared."""
CHECKED_APART = 6
"""Films whose latent is compared with that of a server of their own."""
LEFT = 0.2
"""Share of prompts whose client leaves before their turn comes."""
INTERRUPTS, PLANS = 0.01, 0.3
"""How likely a moment brings an interrupt, and an editor that asks for a plan."""
MIB = 2**20
MODELS = ("embedded", "embedded (joint attention)", "embedded (one-stream attention)", "embedded (image)")
SUBJECTS = ("circle", "square", "triangle")
WORDS = ("moves right over night", "moves left over sand", "moves up over grass", "moves down over sea")


def models_of(host: Path) -> list[str]:
    """The embedded models that a host can run: older ones do not know CogVideoX, which one is built like."""
    known = (host / "comfy" / "ldm" / "cogvideo").exists()
    return [model for model in MODELS if known or "one-stream" not in model]


def random_film(draw: random.Random, models: Sequence[str] = MODELS) -> Workflow:
    """A film on one of the embedded `models`, in API format, that ends with a saved latent."""
    model, subject = draw.choice(models), draw.choice(SUBJECTS)
    beats = [f"a red {subject} {draw.choice(WORDS)}" for _ in range(draw.randint(1, 3))]
    times = draw.choice(("", "", "[2s] ", "[3s] "))
    config = {
        "mode": draw.choice(("swap", "extend", "replace", "off")),
        "strength": draw.choice((0.3, 0.5, 1.0)),
        "sources": draw.choice(("first", "previous", "first and previous")),
        "start_step": 0,
        "end_step": -1,
        "start_percent": 0.0,
        "end_percent": draw.choice((0.6, 1.0)),
        "start_layer": 0,
        "end_layer": -1,
        "step_idx": "",
        "layer_idx": "",
        "thres": 0.8,
        "share_background": draw.random() < 0.3,
        "share_uncond": True,
        "order": draw.choice(("lockstep", "lockstep", "sources_first", "chain")),
    }
    names = {"diffusion_model": model, "text_encoder": "embedded", "vae": "embedded", "weight_dtype": "default"}
    planned = {
        "model": ["load", 0],
        "clip": ["load", 1],
        "prompts": "\n".join(times + beat for beat in beats),
        "negative_prompt": "",
        "width": 48,
        "height": 48,
        "fps": 8.0,
        "sampling_num_frames": 5,
        "overlap_size": draw.choice((1, 2)),
        "batch_size": draw.choice((1, 1, 1, 2)),
    }
    shared = {
        "model": ["load", 0],
        "timeline": ["plan", 0],
        "config": ["config", 0],
        "subject": draw.choice(("", subject, subject)),
        "look_at": draw.choice(("", "", "0.5, 0.5, 2")),
    }
    sampled = {
        "model": ["share", 0],
        "positive": ["plan", 1],
        "negative": ["plan", 2],
        "latent_image": ["plan", 3],
        "seed": draw.randint(0, 3),
        "steps": draw.randint(2, 4),
        "cfg": draw.choice((1.0, 3.0)),
        "sampler_name": draw.choice(("euler", "euler_ancestral", "lcm", "uni_pc", "dpmpp_2m")),
        "scheduler": "simple",
        "denoise": 1.0,
    }
    saved = {"timeline": ["plan", 0], "latent": ["sample", 0], "filename_prefix": "", "record": ["share", 1]}
    film = {
        "load": {"class_type": "LoadVideoDiT", "inputs": names},
        "plan": {"class_type": "LongVideoSegmenter", "inputs": planned},
        "config": {"class_type": "KVShareConfig", "inputs": config},
        "share": {"class_type": "MaskGuidedKVShare", "inputs": shared},
        "sample": {"class_type": "KSampler", "inputs": sampled},
        "save": {"class_type": "LongVideoSave", "inputs": saved},
    }
    if len(beats) > 1 and shared["subject"] and config["mode"] != "off" and draw.random() < 0.5:
        seen = {"record": ["share", 1], "images": ["decode", 0], "opacity": 0.5}
        film["decode"] = {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["load", 2]}}
        film["preview"] = {"class_type": "AttentionMaskPreview", "inputs": seen}
    return film


def named(film: Workflow, prefix: str) -> Workflow:
    """The film, saved under a name of its own."""
    save = film["save"]
    return {**film, "save": {**save, "inputs": {**save["inputs"], "filename_prefix": prefix}}}


@dataclass
class Tally:
    """What came of the prompts."""

    counts: Counter[str] = field(default_factory=Counter[str])
    latents: dict[int, str] = field(default_factory=dict[int, str])
    """The digest of each film's latent, by its number."""
    reasons: list[str] = field(default_factory=list[str])

    def take(self, number: int, entry: Mapping[str, Any] | None, files: Sequence[Path]) -> None:
        """Counts a prompt of film `number` by what the server's history and its output folder say of it."""
        events = dict((entry or {}).get("status", {}).get("messages", ()))
        if entry is None:
            self.counts["lost"] += 1
        elif "execution_interrupted" in events:
            self.counts["interrupted"] += 1
            # It may have been saved already.
            self._compare(number, files)
        elif "execution_error" in events:
            self.counts["failed"] += 1
            event = events["execution_error"]
            self.reasons.append(f"{event['node_type']}: {event['exception_message'].strip()}")
        else:
            self.counts["lost"] += not files
            self._compare(number, files)
        for file in files:
            file.unlink()

    def _compare(self, number: int, files: Sequence[Path]) -> None:
        self.counts["duplicated"] += max(0, len(files) - 1)
        for file in files:
            digest = digest_of(file)
            self.counts["swapped"] += self.latents.setdefault(number, digest) != digest


def digest_of(file: Path) -> str:
    """A number for the bits of the tensors in a saved film."""
    found = hashlib.sha256()
    with safe_open(file, framework="np") as opened:
        for name in sorted(opened.keys()):
            found.update(name.encode() + np.ascontiguousarray(opened.get_tensor(name)).tobytes())
    return found.hexdigest()


class Users:
    """Sends prompts to a server as several people do, some of whom do not stay."""

    def __init__(self, server: Server, draw: random.Random):
        self.server = server
        self.draw = draw
        self.counts: Counter[str] = Counter()

    async def run(self, films: Mapping[str, Workflow]) -> dict[str, dict[str, Any] | None]:
        """Queues `films`, by their file names, all at once; the history's entry of each when the queue is empty."""
        async with aiohttp.ClientSession(self.server.url) as session:
            ids = {prefix: await self._queue(session, film) for prefix, film in films.items()}
            while await self._is_busy(session):
                await self._disturb(session, films)
                await asyncio.sleep(self.draw.uniform(0.05, 0.4))
            entries = {prefix: await _json(session.get(f"/history/{id}"), id) for prefix, id in ids.items()}
            # What the host keeps of prompts that are done is not ours to measure.
            async with session.post("/history", json={"clear": True}):
                return entries

    async def _queue(self, session: aiohttp.ClientSession, film: Workflow) -> str:
        """Queues a film; a client that leaves has closed its socket before its turn comes."""
        if self.draw.random() > LEFT:
            return client.queue_prompt(self.server.url, film)
        self.counts["left"] += 1
        name = f"leaves-{self.counts['left']}"
        async with session.ws_connect("/ws", params={"clientId": name}):
            answer = session.post("/prompt", json={"prompt": film, "client_id": name})
            return str((await _json(answer))["prompt_id"])

    async def _disturb(self, session: aiohttp.ClientSession, films: Mapping[str, Workflow]) -> None:
        chance = self.draw.random()
        if chance < INTERRUPTS:
            async with session.post("/interrupt", json={}):
                return
        if chance < INTERRUPTS + PLANS:
            film = self.draw.choice(list(films.values()))
            request = session.post("/kv_share/plan", json={"node": "plan", "graph": film})
            # Half of those who ask do not wait for the answer.
            patience = self.draw.choice((0.001, 30.0))
            try:
                async with asyncio.timeout(patience), request as response:
                    self.counts["plans"] += response.status == 200
            except TimeoutError:
                self.counts["plans left"] += 1

    async def _is_busy(self, session: aiohttp.ClientSession) -> bool:
        queue = await _json(session.get("/queue"))
        return bool(queue["queue_running"] or queue["queue_pending"])


async def _json(request: Any, key: str | None = None) -> Any:
    async with request as response:
        answer = await response.json()
    return answer if key is None else answer.get(key)


def run_alone(film: Workflow) -> str:
    """The digest of a film's latent from a server of its own."""
    with running_server(find_host(), Path(sys.executable)) as server:
        client.run(server.url, named(film, "alone"))
        (file,) = files_of(server, "alone")
        return digest_of(file)


def files_of(server: Server, prefix: str) -> list[Path]:
    """What the server saved under a name."""
    return list((server.base / "output").glob(f"{prefix}_*"))


@dataclass(frozen=True)
class Load:
    """What the server takes after some prompts."""

    prompts: int
    resident_mib: float
    handles: int
    temporary_files: int

    @classmethod
    def of(cls, server: Server, prompts: int) -> "Load":
        """The server's load now."""
        process = psutil.Process(server.process.pid)
        temporary = sum(file.is_file() for file in (server.base / "temp").rglob("*"))
        return cls(prompts, process.memory_info().rss / MIB, _handles(process), temporary)


def _handles(process: psutil.Process) -> int:
    return process.num_fds() if hasattr(process, "num_fds") else process.num_handles()  # pyright: ignore


def slope(loads: Sequence[Load], name: str) -> float:
    """Growth per 100 prompts of one figure, fitted over the second half of the run."""
    late = loads[len(loads) // 2 :]
    if len(late) < 2:
        return 0.0
    return float(np.polyfit([load.prompts for load in late], [getattr(load, name) for load in late], 1)[0]) * 100


def batches(prompts: int, films: Sequence[Workflow], draw: random.Random) -> Iterator[dict[str, tuple[int, Workflow]]]:
    """Films in batches: by the name of its file, each film's number and the film."""
    numbers = [draw.randrange(len(films)) for _ in range(prompts)]
    for start in range(0, prompts, BATCH):
        places = range(start, min(start + BATCH, prompts))
        yield {f"soak-{place}": (numbers[place], named(films[numbers[place]], f"soak-{place}")) for place in places}


def measure_soak(prompts: int, seed: int) -> tuple[Row, Tally]:
    """The one row of the benchmark."""
    draw = random.Random(seed)
    models = models_of(find_host())
    films = [random_film(draw, models) for _ in range(max(2, prompts // REPEATS))]
    tally, loads, done = Tally(), list[Load](), 0
    with running_server(find_host(), Path(sys.executable)) as server:
        users = Users(server, draw)
        for batch in batches(prompts, films, draw):
            entries = asyncio.run(users.run({prefix: film for prefix, (_, film) in batch.items()}))
            for prefix, (number, _) in batch.items():
                tally.take(number, entries[prefix], files_of(server, prefix))
            done += len(batch)
            loads.append(Load.of(server, done))
            show_progress(done, prompts, "prompts")
        stray = [file for file in (server.base / "output").rglob("*") if file.is_file()]
    tally.counts["duplicated"] += len(stray)
    sample = draw.sample(sorted(tally.latents), min(CHECKED_APART, len(tally.latents)))
    differing = sum(run_alone(films[number]) != tally.latents[number] for number in sample)
    row: Row = {
        "prompts": prompts,
        "films": len(films),
        "interrupted": tally.counts["interrupted"],
        "clients_left": users.counts["left"],
        "plans": users.counts["plans"],
        "plans_left": users.counts["plans left"],
        "failed": tally.counts["failed"],
        "lost": tally.counts["lost"],
        "duplicated": tally.counts["duplicated"],
        "swapped": tally.counts["swapped"],
        "checked_apart": len(sample),
        "differ_apart": differing,
        "rss_mib": loads[-1].resident_mib,
        "rss_slope_mib_per_100": slope(loads, "resident_mib"),
        "handles_per_100": slope(loads, "handles"),
        "temp_files_per_100": slope(loads, "temporary_files"),
    }
    return row, tally


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="hundreds of random films on one real server")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PROMPTS} prompts, to see that it runs")
    options = parser.parse_args()
    row, tally = measure_soak(QUICK_PROMPTS if options.quick else options.prompts, options.seed)
    for reason, times in Counter(tally.reasons).items():
        print(f"{times} x {reason}", file=sys.stderr)
    publish(make_result("soak", options.seed, [row], find_host()), options.json)
    if any(row[name] for name in ("failed", "lost", "duplicated", "swapped", "differ_apart")):
        raise SystemExit("a film was lost, doubled, swapped or not its own")


if __name__ == "__main__":
    main()
