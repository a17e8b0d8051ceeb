"""The HTTP route that gives the timeline editor the plan of a film while the user edits it.

Anybody who can reach the server can ask, so a request is bounded in bytes and in time before anything is planned, few
are worked on at once, and work ends when its client leaves.
"""

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from comfy.cli_args import args

from ..kvshare_core.host.editor.plan_request import MAX_BYTES, RequestError, too_long
from ..kvshare_core.host.server import running_server
from .plan_answer import answer_for

ROUTE = "/kv_share/plan"

READ_AT_ONCE, PLANNED_AT_ONCE = 16, 2
"""Requests whose bodies are in memory, and those that are worked on; others wait."""
READ_SECONDS, PLAN_SECONDS = 20.0, 30.0
"""How long a client may take to send its request, and how long an answer may take."""
LEFT_SECONDS = 0.1
"""How often to look whether the client is still there."""
MAX_ANSWER_BYTES = 16 << 20


class _StoppedError(Exception):
    """Nobody waits for the answer any more."""


def has_route() -> bool:
    """Whether the running server has the route already, from another copy of the pack."""
    server = running_server()
    return server is not None and any(getattr(route, "path", None) == ROUTE for route in server.routes)


def add_route() -> None:
    """Adds the route to the running server; does nothing if the nodes are used without one."""
    server = running_server()
    if server is None:
        return
    workers = ThreadPoolExecutor(PLANNED_AT_ONCE, "kvshare_plan")
    places = asyncio.Semaphore(READ_AT_ONCE)

    @server.routes.post(ROUTE)
    async def plan(request: web.Request) -> web.Response:  # pyright: ignore[reportUnusedFunction]
        try:
            _check_origin(request)
            async with places:
                body = await asyncio.wait_for(_body(request), READ_SECONDS)
                answer = await _worked_out(request, body, workers)
        except RequestError as reason:
            return _refusal(str(reason), reason.status)
        except web.RequestPayloadError:
            return _refusal("the request ends too early.", 400)
        except asyncio.TimeoutError:
            return _refusal(f"the request took longer than {READ_SECONDS:g} s to arrive.", 408)
        except _StoppedError:
            return _refusal(f"the plan takes longer than {PLAN_SECONDS:g} s.", 503)
        return web.Response(body=answer, content_type="application/json")


def _refusal(message: str, status: int) -> web.Response:
    return web.json_response({"error": {"message": f"{ROUTE}: {message}", "at": None}}, status=status)


def _check_origin(request: web.Request) -> None:
    """Raises RequestError for a request from a page of another site. Such a page can send a text without being asked
    for its origin, but not JSON; and a sandboxed one calls itself "null", which the host lets pass."""
    if request.content_type != "application/json":
        raise RequestError("the request must have the content type application/json.", 415)
    if args.enable_cors_header is None and not _same_site(request.headers):
        raise RequestError("the request comes from a page of another site.", 403)


def _same_site(headers: Mapping[str, str]) -> bool:
    sent_from = headers.get("Sec-Fetch-Site")
    if sent_from is not None:
        # Written by the browser, and right behind a proxy too that changes Host.
        return sent_from in ("same-origin", "none")
    origin = headers.get("Origin")
    return origin is None or urlsplit(origin).netloc.lower() == headers.get("Host", "").lower() != ""


async def _body(request: web.Request) -> bytes:
    """The body of a request. Raises RequestError for a longer one than MAX_BYTES, without reading the rest."""
    if (request.content_length or 0) > MAX_BYTES:
        raise too_long()
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            raise too_long()
    return bytes(body)


async def _worked_out(request: web.Request, body: bytes, workers: ThreadPoolExecutor) -> bytes:
    """The answer to a request as JSON. Raises as answer_for does, and _StoppedError if it takes longer than
    PLAN_SECONDS or the client has left."""
    stopped, end = threading.Event(), time.monotonic() + PLAN_SECONDS

    def go_on() -> None:
        if stopped.is_set():
            raise _StoppedError

    work = asyncio.get_running_loop().run_in_executor(workers, lambda: _encoded(answer_for(body, go_on)))
    try:
        while not work.done():
            if time.monotonic() > end or request.transport is None or request.transport.is_closing():
                raise _StoppedError
            await asyncio.wait((work,), timeout=LEFT_SECONDS)
        return work.result()
    finally:
        stopped.set()
        work.cancel()


def _encoded(answer: dict[str, Any]) -> bytes:
    encoded = json.dumps(answer, allow_nan=False).encode()
    if len(encoded) > MAX_ANSWER_BYTES:
        raise RequestError(f"the plan is larger than {MAX_ANSWER_BYTES >> 20} MiB: shorten the film.")
    return encoded
