"""The backend as its clients meet it: a child process, the websockets library, raw sockets."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

from tests.demo.conftest import Program
from tests.demo.wire import BINARY, CONTINUATION, PING, PONG, TEXT, RawClient


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files").resolve()
    (root / "inner").mkdir()
    (root / "volume.nrrd").write_text("NRRD0004\ntype: float\n\n")
    return root


@pytest.fixture(scope="module")
def port(root: Path) -> Iterator[int]:
    options = ["--host", "127.0.0.1", "--port", "0", "--base_directory", str(root)]
    program = Program("backend", *options, "--max_frame_size", str(1 << 20))
    yield program.start(r"Server running on ")
    program.stop()


def call(port: int, method: str, params: Any = None) -> Any:
    with RawClient(port) as ws:
        assert ws.upgrade("/some/job/backend?token=x").startswith("HTTP/1.1 101 ")
        return ws.call(method, params)


def test_health(port: int) -> None:
    with RawClient(port) as http:
        assert http.get("/healthz").startswith("HTTP/1.1 200 ")
        assert http.body(3) == b"OK\n"
        assert http.ended()


def test_introspection(port: int) -> None:
    assert call(port, "version") == {"version": "3.0.0"}
    names = call(port, "registry")
    assert {"version", "registry", "schema", "quit", "fs-list-dir"} <= set(names)
    for name in names:
        schema = call(port, "schema", {"endpoint": name})
        assert schema["method"] == name
        assert schema["params"]["type"] in ("object", "null")
        assert schema["description"]
    assert call(port, "schema", {"endpoint": "nowhere"})["code"] == -32602
    assert call(port, "cancel", {"id": 1})["code"] == -32601


def test_files(port: int, root: Path) -> None:
    assert call(port, "fs-get-root") == str(root)
    upload = {"path": f"{root}/inner/new.bin", "content": "AP8=", "base64": True}
    assert call(port, "fs-upload-content", upload) is None
    assert (root / "inner/new.bin").read_bytes() == b"\x00\xff"
    text = {"path": f"{root}/inner/new.txt", "content": "Grüße", "base64": False}
    assert call(port, "fs-upload-content", text) is None
    assert call(port, "fs-list-dir", {"path": f"{root}/inner"}) == {
        "directories": [],
        "files": [
            {"name": "new.bin", "path": f"{root}/inner/new.bin", "size": 2},
            {"name": "new.txt", "path": f"{root}/inner/new.txt", "size": 7},
        ],
    }
    assert call(port, "fs-exists", {"path": f"{root}/inner"}) == {
        "exists": True,
        "type": "directory",
    }
    assert call(port, "fs-exists", {"path": f"{root}/no"}) == {"exists": False, "type": None}
    header = call(port, "volume-parse-header", {"path": f"{root}/volume.nrrd"})
    assert header == {"NRRD version": "0004", "type": "float"}


def test_nothing_outside_the_base_directory(port: int, root: Path) -> None:
    for path in ("/etc", f"{root}/..", f"{root}/inner/../../x", "inner"):
        assert call(port, "fs-list-dir", {"path": path})["code"] == -32602
        upload = {"path": f"{path}/evil", "content": "", "base64": False}
        assert call(port, "fs-upload-content", upload)["code"] == -32602
    bad = {"path": f"{root}/x", "content": "not base64!", "base64": True}
    assert call(port, "fs-upload-content", bad)["code"] == -32602
    assert not (root / "x").exists()


def test_stored_values_are_the_process_s(port: int) -> None:
    assert call(port, "storage-session-get", {"key": "k"})["code"] == -32602
    assert call(port, "storage-session-set", {"key": "k", "value": "v"}) is None
    assert call(port, "storage-session-get", {"key": "k"}) == {"value": "v"}


def test_memory(port: int) -> None:
    memory = call(port, "get-memory-info")
    assert 0 < memory["virtual_memory"]["available"] <= memory["virtual_memory"]["total"]
    assert memory["swap_memory"]["total"] >= 0


def test_the_version_may_be_left_out(port: int) -> None:
    with RawClient(port) as ws:
        ws.upgrade()
        ws.send(TEXT, b'{"method": "version", "id": "MA=="}')
        assert ws.reply()[0]["result"] == {"version": "3.0.0"}
        ws.send(TEXT, b'{"method": "version", "jsonrpc": "1.0"}')
        assert ws.reply()[0]["error"]["code"] == -32600


def test_it_is_a_well_behaved_server(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/", max_size=None) as ws:
        assert ws.ping(b"are you there").wait(10)
        # Sent in fragments, they come as one message.
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "version"})
        ws.send(iter([request[:10], request[10:20], request[20:]]))
        assert json.loads(ws.recv(10))["result"] == {"version": "3.0.0"}
    assert ws.close_code == 1000

    with RawClient(port) as raw:
        raw.upgrade()
        raw.send(TEXT, request[:10].encode(), final=False)
        raw.send(PING, b"in between")
        frame = raw.receive()
        assert (frame.opcode, frame.payload) == (PONG, b"in between")
        raw.send(CONTINUATION, request[10:].encode())
        assert raw.reply()[0]["result"] == {"version": "3.0.0"}


def test_requests_of_a_connection_run_in_order(port: int) -> None:
    with RawClient(port) as ws:
        ws.upgrade()
        for number in range(50):
            ws.request("storage-session-set", {"key": "n", "value": str(number)}, 2 * number)
            ws.request("storage-session-get", {"key": "n"}, 2 * number + 1)
        replies = [ws.reply()[0] for _ in range(100)]
        assert [reply["id"] for reply in replies] == list(range(100))
        assert [reply["result"]["value"] for reply in replies[1::2]] == [str(n) for n in range(50)]


def test_too_large_a_request_is_told_before_it_is_read(port: int) -> None:
    with connect(f"ws://127.0.0.1:{port}/") as ws:
        ws.send(base64.b64encode(bytes(1 << 20)).decode())
        with pytest.raises(ConnectionClosedError) as caught:
            ws.recv(10)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
    with RawClient(port) as raw:
        raw.upgrade()
        size = (2**31 + 1).to_bytes(8, "big")
        raw.socket.sendall(bytes([0x80 | BINARY, 0x80 | 127]) + size + b"\0\0\0\0")
        assert raw.receive().payload[:2] == (1009).to_bytes(2, "big")


def test_quit_answers_and_ends(start: Callable[..., tuple[Program, int]], tmp_path: Path) -> None:
    options = ["--host", "127.0.0.1", "--port", "0", "--base_directory", str(tmp_path)]
    program, port = start("backend", *options)
    assert call(port, "quit") is None
    assert program.process.wait(10) == 0


def test_what_it_cannot_start_with(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "missing", tmp_path / "file"):
        program = Program("backend", "--port", "0", "--base_directory", str(path))
        output, _ = program.process.communicate(timeout=30)
        assert program.process.returncode == 1
        assert "Base directory" in output
