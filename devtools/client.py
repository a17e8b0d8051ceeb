"""A small HTTP client for a running ComfyUI. Progress needs aiohttp, which every ComfyUI has."""

import asyncio
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import aiohttp

from .workflows import Json, to_api_format

__all__ = [
    "OutputFile",
    "Progress",
    "WorkflowError",
    "WorkflowInterruptedError",
    "ask",
    "fetch_view",
    "history",
    "interrupt",
    "object_info",
    "output_files",
    "queue_prompt",
    "run",
    "to_api_format",
    "wait",
]

POLL_SECONDS = 0.25
SETTLE_SECONDS = 0.05
HTTP_SECONDS = 60
FINAL_EVENTS = frozenset({"execution_success", "execution_error", "execution_interrupted"})


class WorkflowError(RuntimeError):
    """A workflow was refused or failed; says where and why."""

    def __init__(self, message: str, node_id: str | None = None, node_type: str | None = None) -> None:
        place = f"node {node_id} ({node_type}): " if node_id is not None else ""
        super().__init__(place + message)
        self.message = message
        self.node_id = node_id
        self.node_type = node_type


class WorkflowInterruptedError(WorkflowError):
    """A workflow was interrupted before it finished."""


@dataclass(frozen=True)
class Progress:
    """`value` of `maximum` steps of one node are done."""

    node_id: str
    value: float
    maximum: float


@dataclass(frozen=True)
class OutputFile:
    """A file that an output node saved, by the name under which /view serves it."""

    node_id: str
    filename: str
    subfolder: str
    folder: str


def queue_prompt(url: str, workflow: Mapping[str, Any]) -> str:
    """Queues a workflow in API format and returns its prompt id. Raises WorkflowError when the host refuses it.

    The host runs the valid outputs of a workflow with invalid ones; that is an error here too, but the rest still runs.
    """
    prompt_id = str(uuid.uuid4())
    # The prompt id serves as client id too: `wait` can then listen to this prompt alone.
    body = {"prompt": workflow, "prompt_id": prompt_id, "client_id": prompt_id}
    try:
        answer = cast(Json, json.loads(_request(f"{url}/prompt", body)))
    except urllib.error.HTTPError as error:
        answer = _refusal(error)
    _raise_refusal(answer)
    return prompt_id


def wait(
    url: str,
    prompt_id: str,
    on_progress: Callable[[Progress], None] | None = None,
    timeout: float | None = None,
) -> Json:
    """Waits until a prompt is done and returns its history entry.

    Raises WorkflowInterruptedError, WorkflowError when a node failed, or TimeoutError after `timeout` seconds.
    """
    entry = asyncio.run(_follow(url, prompt_id, on_progress, timeout))
    events = dict(entry["status"]["messages"])
    if "execution_interrupted" in events:
        event = events["execution_interrupted"]
        raise WorkflowInterruptedError("interrupted", event.get("node_id"), event.get("node_type"))
    if "execution_error" in events:
        event = events["execution_error"]
        message = f"{event['exception_type']}: {event['exception_message'].strip()}"
        raise WorkflowError(message, event.get("node_id"), event.get("node_type"))
    return entry


def run(url: str, workflow: Mapping[str, Any], on_progress: Callable[[Progress], None] | None = None) -> Json:
    """Queues a workflow in API format, waits and returns its history entry. Raises like queue_prompt and wait."""
    return wait(url, queue_prompt(url, workflow), on_progress)


def ask(url: str, path: str, body: Mapping[str, Any]) -> Json:
    """What a route of the host answers to a JSON body. Raises urllib.error.HTTPError when it refuses."""
    return cast(Json, json.loads(_request(url + path, body)))


def interrupt(url: str) -> None:
    """Interrupts the workflow that runs now, if any."""
    _request(f"{url}/interrupt", {})


def history(url: str, prompt_id: str) -> Json | None:
    """The history entry of a prompt, or None while it is not done."""
    return cast(Json, json.loads(_request(f"{url}/history/{prompt_id}"))).get(prompt_id)


def object_info(url: str) -> Json:
    """Schemas of every node the host has."""
    return cast(Json, json.loads(_request(f"{url}/object_info")))


def output_files(entry: Mapping[str, Any]) -> list[OutputFile]:
    """The files named by a history entry: images, videos and previews."""
    return list(_named_files(entry["outputs"]))


def fetch_view(url: str, file: OutputFile) -> bytes:
    """The content of an output file. Raises urllib.error.HTTPError when the host does not have it."""
    query = {"filename": file.filename, "subfolder": file.subfolder, "type": file.folder}
    return _request(f"{url}/view?{urllib.parse.urlencode(query)}")


def _named_files(outputs: Mapping[str, Any]) -> Iterator[OutputFile]:
    for node_id, output in outputs.items():
        for values in cast(Json, output).values():
            for file in _records(values):
                if "filename" in file:
                    folder = file.get("type", "output")
                    yield OutputFile(node_id, file["filename"], file.get("subfolder", ""), folder)


def _records(values: object) -> list[Json]:
    items = cast("list[object]", values) if isinstance(values, list) else []
    return [cast(Json, item) for item in items if isinstance(item, dict)]


def _request(url: str, body: Mapping[str, Any] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    # A proxy set in the environment must not see loopback traffic.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=HTTP_SECONDS) as response:
        return response.read()


def _refusal(error: urllib.error.HTTPError) -> Json:
    """What the host said with an HTTP error. Raises `error` again when it is no refusal of a workflow."""
    text = error.read()
    if error.code != 400 or not text.startswith(b"{"):
        raise error
    return cast(Json, json.loads(text))


def _raise_refusal(answer: Json) -> None:
    for node_id, node in cast(dict[str, Json], answer.get("node_errors") or {}).items():
        reasons = [
            ": ".join(filter(None, (reason["message"], reason["details"]))) for reason in _records(node["errors"])
        ]
        if reasons:
            raise WorkflowError("; ".join(reasons), node_id, node["class_type"])
    if "error" in answer:
        error = answer["error"]
        raise WorkflowError(": ".join(filter(None, (error["message"], error["details"]))))


async def _follow(
    url: str, prompt_id: str, on_progress: Callable[[Progress], None] | None, timeout: float | None
) -> Json:
    deadline = None if timeout is None else time.monotonic() + timeout
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/ws?clientId={prompt_id}", max_msg_size=0) as socket,
    ):
        while (entry := await asyncio.to_thread(history, url, prompt_id)) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"the workflow is not done after {timeout:.0f} s")
            await _listen(socket, on_progress, POLL_SECONDS)
        # The history can be there before the last messages have been read.
        await _listen(socket, on_progress, SETTLE_SECONDS)
    return entry


async def _listen(
    socket: "aiohttp.ClientWebSocketResponse[bool]", on_progress: Callable[[Progress], None] | None, seconds: float
) -> None:
    """Reports progress for `seconds`, or until the prompt has ended."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        try:
            message = await socket.receive(timeout=left)
        except asyncio.TimeoutError:
            return
        if message.type is not aiohttp.WSMsgType.TEXT:
            if socket.closed:
                await asyncio.sleep(left)
            continue
        event = cast(Json, json.loads(message.data))
        if event["type"] in FINAL_EVENTS:
            await asyncio.sleep(SETTLE_SECONDS)
            return
        if event["type"] == "progress" and on_progress is not None:
            data = event["data"]
            on_progress(Progress(str(data["node"]), data["value"], data["max"]))
