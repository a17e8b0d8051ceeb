"""The workflow client against a real server with one small node that counts, waits and fails on demand."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools import client
from devtools.server import running_server

COUNTING_PACK = """
import time

from comfy.utils import ProgressBar
from comfy_api.latest import ComfyExtension, io


class Counting(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        inputs = [io.Int.Input("steps", min=1, max=1000), io.Float.Input("pause"), io.Boolean.Input("fail")]
        return io.Schema("Counting", inputs=inputs, outputs=[io.Int.Output()], is_output_node=True)

    @classmethod
    def execute(cls, steps, pause, fail):
        bar = ProgressBar(steps)
        for _ in range(steps):
            time.sleep(pause)
            bar.update(1)
        if fail:
            raise ValueError("failed on demand")
        return io.NodeOutput(steps)


class Counters(ComfyExtension):
    async def get_node_list(self):
        return [Counting]


async def comfy_entrypoint():
    return Counters()
"""


@pytest.fixture(scope="module")
def url(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pack = tmp_path_factory.mktemp("pack")
    (pack / "__init__.py").write_text(COUNTING_PACK)
    with running_server(host, Path(sys.executable), pack=pack) as running:
        yield running.url


def counting(steps: int = 3, pause: float = 0.0, fail: bool = False) -> client.Json:
    return {"7": {"class_type": "Counting", "inputs": {"steps": steps, "pause": pause, "fail": fail}}}


def picture() -> client.Json:
    inputs = {"width": 16, "height": 8, "batch_size": 1, "color": 255}
    return {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "client test"}},
    }


def test_progress_is_reported_in_order(url: str) -> None:
    seen: list[client.Progress] = []
    entry = client.run(url, counting(steps=4, pause=0.3), seen.append)
    assert entry["status"]["status_str"] == "success"
    assert {(step.node_id, step.maximum) for step in seen} == {("7", 4)}
    values = [step.value for step in seen]
    assert values == sorted(values)
    assert values[-1] == 4


def test_history_is_none_until_done(url: str) -> None:
    prompt_id = client.queue_prompt(url, counting(steps=5, pause=0.2))
    assert client.history(url, prompt_id) is None
    entry = client.wait(url, prompt_id)
    assert client.history(url, prompt_id) == entry


def test_output_file_is_fetched(url: str) -> None:
    (file,) = client.output_files(client.run(url, picture()))
    assert (file.node_id, file.folder) == ("2", "output")
    assert client.fetch_view(url, file).startswith(b"\x89PNG")


def test_refused_input_names_the_node(url: str) -> None:
    with pytest.raises(client.WorkflowError, match="steps") as error:
        client.queue_prompt(url, counting(steps=0))
    assert (error.value.node_id, error.value.node_type) == ("7", "Counting")


@pytest.mark.parametrize(
    ("workflow", "message"),
    [({}, "Prompt has no outputs"), ({"1": {"class_type": "NoSuchNode", "inputs": {}}}, "NoSuchNode")],
)
def test_refused_workflow_is_an_error(url: str, workflow: client.Json, message: str) -> None:
    with pytest.raises(client.WorkflowError, match=message):
        client.queue_prompt(url, workflow)


def test_failure_names_the_node_and_the_cause(url: str) -> None:
    with pytest.raises(client.WorkflowError, match=r"node 7 \(Counting\): ValueError: failed on demand") as error:
        client.run(url, counting(fail=True))
    assert not isinstance(error.value, client.WorkflowInterruptedError)


def test_interrupt_is_its_own_error(url: str) -> None:
    with pytest.raises(client.WorkflowInterruptedError) as error:
        client.run(url, counting(steps=1000, pause=0.05), lambda progress: client.interrupt(url))
    assert error.value.node_id == "7"


def test_wait_gives_up_after_its_timeout(url: str) -> None:
    prompt_id = client.queue_prompt(url, counting(steps=100, pause=0.1))
    with pytest.raises(TimeoutError):
        client.wait(url, prompt_id, timeout=0.3)
    client.interrupt(url)
    with pytest.raises(client.WorkflowInterruptedError):
        client.wait(url, prompt_id)
