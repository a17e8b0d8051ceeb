"""The editor's route on a real server: whatever is asked, by whomever, it answers soon, with a sentence."""

import http.client
import json
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from devtools.server import Server

ROUTE = "/kv_share/plan"
JSON = {"Content-Type": "application/json"}


def graph_of(**inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": "LongVideoSegmenter", "inputs": {"prompts": "a fox\na fox sleeps", **inputs}}}


def body_of(**inputs: Any) -> bytes:
    return json.dumps({"node": "1", "graph": graph_of(**inputs)}).encode()


def post(server: Server, body: bytes, headers: Mapping[str, str] = JSON) -> tuple[int, dict[str, Any]]:
    """Status and answer; of answers by the host itself the status only."""
    address = urlsplit(server.url)
    assert address.hostname is not None
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.request("POST", ROUTE, body, dict(headers))
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text.startswith(b"{") else {}


def refused(server: Server, body: bytes, status: int = 400) -> str:
    """The sentence with which a request is refused."""
    found, answer = post(server, body)
    message = answer["error"]["message"]
    assert found == status, message
    assert message.endswith(".")
    return message


def test_a_plan_is_given_to_the_page_itself(server: Server) -> None:
    host = urlsplit(server.url).netloc
    for further in ({}, {"Origin": server.url}, {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}):
        status, answer = post(server, body_of(), {**JSON, **further})
        assert (status, answer["error"], len(answer["beats"])) == (200, None, 2)


@pytest.mark.parametrize(
    "headers",
    [
        {**JSON, "Origin": "null"},
        {**JSON, "Origin": "http://example.com"},
        {**JSON, "Origin": "http://127.0.0.1:1"},
        {**JSON, "Origin": "nonsense"},
        {**JSON, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_pages_of_other_sites_are_refused(server: Server, headers: dict[str, str]) -> None:
    assert post(server, body_of(), headers)[0] == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_read(server: Server, kind: str) -> None:
    """Other kinds of bodies are what a page of another site may send without being asked for its origin."""
    status, answer = post(server, body_of(), {"Content-Type": kind})
    assert status == 415
    assert "application/json" in answer["error"]["message"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"width": 0}, "width: 0; it must be from 16 to 16384"),
        ({"height": -1}, "height: -1"),
        ({"fps": 0}, "fps: 0"),
        ({"fps": 1e9}, "fps: 1000000000.0; it must be from 1.0 to 240.0"),
        ({"fps": "inf"}, "fps: 'inf'"),
        ({"sampling_num_frames": 10**6}, "sampling_num_frames: 1000000"),
        ({"batch_size": 10**400}, "batch_size: "),
        ({"width": [1, 2, 3]}, r"width: [1, 2, 3]; it must be a whole number"),
        ({"width": {"a": 1}}, "width: {"),
        ({"width": "wide"}, "width: 'wide'; it must be a whole number"),
        ({"width": None}, "width: None; it must be a whole number"),
        ({"prompts": {"a": 1}}, "prompts: {"),
        ({"prompts": None}, "prompts: None; it must be a text"),
    ],
)
def test_values_outside_the_node_s_own_ranges_are_refused(server: Server, inputs: Any, message: str) -> None:
    assert f"Long Video Segmenter: {message}" in refused(server, body_of(**inputs))


def bodies_that_are_no_request() -> list[tuple[str, bytes]]:
    fox = '{"node": "1", "graph": {"1": {"class_type": "LongVideoSegmenter", "inputs": {"prompts": "a", "fps": %s}}}}'
    return [
        ("empty", b""),
        ("cut off", body_of()[:-5]),
        ("no text", b"\xff\xfe\x00\xd8" * 10),
        ("infinity", (fox % "Infinity").encode()),
        ("nan", (fox % "NaN").encode()),
        ("overflowing number", (fox % "1e999").encode()),
        ("endless number", (fox % ("9" * 100_000)).encode()),
        ("deep list", b"[" * 200_000),
        ("deep list, closed", b"[" * 100_000 + b"]" * 100_000),
        ("deep value", (fox % ("[" * 500 + "]" * 500)).encode()),
        ("deep objects", (fox % ('{"a":' * 50_000 + "1" + "}" * 50_000)).encode()),
        ("number", b"7"),
        ("list", b"[1, 2]"),
        ("no graph", b'{"node": "1"}'),
        ("no node", b'{"graph": {}}'),
        ("unknown node", b'{"node": "2", "graph": {}}'),
        ("node is a list", b'{"node": [[1]], "graph": {}}'),
        ("graph is a text", b'{"node": "1", "graph": "1"}'),
        ("another node", b'{"node": "1", "graph": {"1": {"class_type": "KSampler", "inputs": {}}}}'),
        ("no prompts", b'{"node": "1", "graph": {"1": {"class_type": "LongVideoSegmenter", "inputs": {}}}}'),
        ("half a character in a key", b'{"node": "\\ud83d", "graph": {"\\ud83d": 3}}'),
        ("many nodes", json.dumps({"node": "1", "graph": {n: graph_of()["1"] for n in range(6000)}}).encode()),
    ]


@pytest.mark.parametrize(("name", "body"), bodies_that_are_no_request())
def test_what_is_no_request_is_refused_with_a_sentence(server: Server, name: str, body: bytes) -> None:
    assert len(refused(server, body)) < 1000


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    assert "larger" in refused(server, b" " * (8 << 20), 413)


def test_a_body_without_a_length_is_kept_no_further_than_allowed(server: Server) -> None:
    address, process = urlsplit(server.url), psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(3200):
            connection.sendall(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
    assert process.memory_info().rss - before < 100 << 20


@pytest.mark.parametrize(
    "inputs",
    [
        {"prompts": "[3600s] a", "fps": 240.0, "sampling_num_frames": 1, "overlap_size": 0},
        {"prompts": "\n".join(["[3600s] a"] * 8), "fps": 240.0, "sampling_num_frames": 1, "overlap_size": 0},
        {"prompts": "\n".join("a" for _ in range(20_000))},
        {"prompts": "\n".join(f"[1s] a {n} | subject: s{n} = {n}" for n in range(3000))},
        {"prompts": "\n".join(["[route 9000f]", "a"] * 3000), "sampling_num_frames": 1024},
        {"prompts": "[0.01s] a\n[cut]\n" * 5000, "fps": 240.0},
        {"prompts": "a\u0301" + "\u0301" * 100_000},
        {"prompts": "a" * 1_000_000},
    ],
)
def test_no_film_takes_much_time_or_memory(server: Server, inputs: dict[str, Any]) -> None:
    process = psutil.Process(server.process.pid)
    before, start = process.memory_info().rss, time.monotonic()
    status, answer = post(server, body_of(**inputs))
    seconds, grown = time.monotonic() - start, (process.memory_info().rss - before) >> 20
    assert status in (200, 400, 503)
    assert len(json.dumps(answer)) < 16 << 20
    assert seconds < 20, seconds
    assert grown < 500, grown


def test_a_long_chain_of_nodes_is_followed_in_time(server: Server) -> None:
    chain = {
        str(n): {"class_type": "LoraLoaderModelOnly", "inputs": {"model": [str(n + 1), 0], "steps": 3}}
        for n in range(10, 4000)
    }
    share = {"class_type": "MaskGuidedKVShare", "inputs": {"timeline": ["1", 0], "model": ["10", 0]}}
    graph = {**graph_of(model=["10", 0]), **chain, "4001": share}
    start = time.monotonic()
    status, _ = post(server, json.dumps({"node": "1", "graph": graph}).encode())
    assert status == 200
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "inputs",
    [
        {"step_idx": "0-999999999999"},
        {"step_idx": ["7"]},
        {"mode": {"a": 1}},
        {"mode": "unheard of"},
        {"strength": "much"},
        {"end_step": 10**30},
        {"ref_token_idx": 5},
        {"layer_preset": None},
    ],
)
def test_settings_that_a_run_would_refuse_are_a_problem(server: Server, inputs: dict[str, Any]) -> None:
    share = {"class_type": "MaskGuidedKVShare", "inputs": {"timeline": ["1", 0], "config": ["3", 0]}}
    config = {"class_type": "KVShareConfig", "inputs": inputs}
    body = json.dumps({"node": "1", "graph": {**graph_of(), "2": share, "3": config}}).encode()
    status, answer = post(server, body)
    assert status == 200
    known = inputs.keys() - {"ref_token_idx"}
    assert [name in problem["message"] for problem in answer["problems"] for name in known] == [True] * len(known)


def test_what_another_node_computes_is_assumed_with_a_note(server: Server) -> None:
    """Also of the settings' own nodes, whose inputs may all be linked."""
    share = {"class_type": "MaskGuidedKVShare", "inputs": {"timeline": ["1", 0], "config": ["3", 0]}}
    config = {"class_type": "KVShareConfig", "inputs": {"strength": ["4", 0], "mode": "extend"}}
    other = {"class_type": "SomeMaths", "inputs": {}}
    graph = {**graph_of(fps=["4", 0]), "2": share, "3": config, "4": other}
    status, answer = post(server, json.dumps({"node": "1", "graph": graph}).encode())
    assert (status, answer["problems"]) == (200, [])
    assert [note.split(";")[0] for note in answer["notes"]] == [
        "fps comes from another node",
        "KV Sharing Config: strength comes from another node",
    ]


@pytest.mark.parametrize(
    "inputs", [{"steps": 10**9}, {"steps": "many"}, {"steps": -3}, {"steps": [1]}, {"cfg": "inf"}, {"cfg": {}}]
)
def test_odd_values_of_samplers_are_as_good_as_unknown(server: Server, inputs: dict[str, Any]) -> None:
    share = {"class_type": "MaskGuidedKVShare", "inputs": {"timeline": ["1", 0], "model": ["9", 0]}}
    sampler = {"class_type": "KSampler", "inputs": {"model": ["2", 0], **inputs}}
    model = {"class_type": "LoadVideoDiT", "inputs": {"diffusion_model": "embedded"}}
    graph = {**graph_of(model=["9", 0]), "2": share, "3": sampler, "9": model}
    status, answer = post(server, json.dumps({"node": "1", "graph": graph}).encode())
    assert status == 200
    assert answer["sharing"]["all_steps"] is None


def test_what_a_client_that_left_had_asked_for_is_not_planned(server: Server) -> None:
    """The processor is free again soon after a hundred clients asked for much and left."""
    address = urlsplit(server.url)
    body = body_of(prompts="[1s] a | subject: b\n" * 3000)
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    for _ in range(100):
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    process = psutil.Process(server.process.pid)
    start = time.monotonic()
    assert post(server, body_of())[0] == 200
    assert time.monotonic() - start < 15
    used = sum(process.cpu_times()[:2])
    time.sleep(1)
    assert sum(process.cpu_times()[:2]) - used < 0.7


def test_many_at_once_are_all_answered(server: Server) -> None:
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda number: post(server, body_of(prompts=f"a {number}")), range(300)))
    assert [answer["beats"][0]["prompt"] for _, answer in answers] == [f"a {number}" for number in range(300)]
