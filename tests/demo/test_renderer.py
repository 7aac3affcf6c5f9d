"""The renderer as its clients meet it: a child process, raw sockets."""

from __future__ import annotations

import io
import json
import signal
import socket
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tests.demo.conftest import Program
from tests.demo.wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, RawClient

Start = Callable[..., tuple[Program, int]]
VERSION = b'{"jsonrpc":"2.0","id":0,"method":"get-version"}'


def client(port: int) -> RawClient:
    client = RawClient(port)
    assert client.upgrade().startswith("HTTP/1.1 101 ")
    return client


# HTTP -------------------------------------------------------------------------


def test_health(renderer_port: int) -> None:
    with RawClient(renderer_port) as http:
        head = http.get("/healthz", Connection="close")
        assert head.startswith("HTTP/1.1 200 OK")
        assert http.body(2) == b"Ok"
        assert http.ended()


def test_a_health_check_keeps_its_connection_unless_asked(renderer_port: int) -> None:
    with RawClient(renderer_port) as http:
        for _ in range(2):
            http.get("/healthz")
            assert http.body(2) == b"Ok"
        assert http.upgrade().startswith("HTTP/1.1 101 ")


def test_health_is_exactly_that_uri(renderer_port: int) -> None:
    for path in ("/healthz?x=1", "/healthz/", "/", "/health"):
        with RawClient(renderer_port) as http:
            assert http.get(path).startswith("HTTP/1.1 400 "), path


def test_a_handshake_works_at_any_path_and_negotiates_nothing(renderer_port: int) -> None:
    for path in ("/", "/ws", "/any/where?token=x", "/healthz?x"):
        with RawClient(renderer_port) as ws:
            head = ws.upgrade(
                path,
                Sec_WebSocket_Protocol="rockets, other",
                Sec_WebSocket_Extensions="permessage-deflate; client_max_window_bits",
                Origin="https://anywhere.example.org",
            ).lower()
            assert head.startswith("http/1.1 101 ")
            assert "s3pplmbitxaq9kygzzhzrbk+xoo=" in head
            assert "sec-websocket-protocol" not in head
            assert "sec-websocket-extensions" not in head


@pytest.mark.parametrize("name", ["Upgrade", "Connection", "Sec-WebSocket-Key"])
def test_a_bad_handshake_is_a_400(renderer_port: int, name: str) -> None:
    headers = RawClient.handshake()
    del headers[name]
    with RawClient(renderer_port) as http:
        assert http.get("/", **headers).startswith("HTTP/1.1 400 ")


# What hurts -------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"are you there"])
def test_a_ping_or_pong_drops_the_connection(
    renderer_port: int, opcode: int, payload: bytes
) -> None:
    with client(renderer_port) as ws:
        ws.send(opcode, payload)
        assert ws.ended()


def test_a_close_is_not_answered(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        ws.send(CLOSE, b"\x03\xe8bye")
        assert ws.ended()


def test_an_empty_frame_drops_the_connection(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        ws.send(TEXT, b"")
        assert ws.ended()


def test_what_follows_a_ping_is_not_served(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        ws.send(PING, b"")
        ws.send(TEXT, VERSION)
        assert ws.ended()


def test_fragments_are_requests_of_their_own(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        ws.send(TEXT, VERSION, final=False)
        message, _ = ws.reply()
        assert message["result"]["major"] == 3
        ws.send(CONTINUATION, VERSION)
        message, _ = ws.reply()
        assert message["id"] is None
        assert message["error"]["code"] == -32600
        # And a request cut in two is none at all.
        ws.send(TEXT, VERSION[:20], final=False)
        ws.send(CONTINUATION, VERSION[20:])
        codes = [ws.reply()[0]["error"]["code"] for _ in range(2)]
        assert codes == [-32700, -32600]


def test_slots(start: Start) -> None:
    _, port = start("renderer", "--uri", "127.0.0.1:0", "--max-clients", "1")
    served = client(port)
    with RawClient(port) as waiting:
        waiting.ask("/healthz", Connection="close")
        assert waiting.silent(0.3)
        with RawClient(port) as refused:
            assert refused.ended()
        assert served.call("get-version")["minor"] == 10
        # A ping is one way to leave.
        served.send(PING, b"")
        assert waiting.head().startswith("HTTP/1.1 200 ")
    served.socket.close()
    with client(port) as ws:
        assert ws.call("get-version")["patch"] == 1


def test_a_client_that_went_while_it_waited_frees_its_place(start: Start) -> None:
    _, port = start("renderer", "--uri", "127.0.0.1:0", "--max-clients", "1")
    served = client(port)
    with RawClient(port) as waiting:
        waiting.socket.shutdown(socket.SHUT_WR)
        assert waiting.silent(0.3)
        served.socket.close()
        assert waiting.ended()
    with client(port) as ws:
        assert ws.call("get-version")["patch"] == 1


# A web client's habits --------------------------------------------------------


def test_requests_in_binary_frames_with_ids_of_text(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        assert ws.call("get-version", id="MA==") == {
            "major": 3,
            "minor": 10,
            "patch": 1,
            "revision": "demo",
        }
        # No payload, no binary frame: the reply to set-up requests is text.
        ws.request("get-camera-type", id="MQ==")
        assert ws.receive().opcode == TEXT


def test_the_first_requests_of_the_web_client(start: Start) -> None:
    _, port = start("renderer", "--uri", "127.0.0.1:0")
    with client(port) as ws:
        assert ws.call("set-camera-orthographic", {"height": 600}) is None
        view = {"position": [0, 60, 900], "target": [0, 60, 0], "up": [0, 1, 0]}
        assert ws.call("set-camera-view", view) is None
        style = {
            "ao_samples": 0,
            "enable_shadows": True,
            "max_ray_bounces": 1,
            "samples_per_pixel": 3,
            "background_color": [0.002, 0.008, 0.051, 0],
        }
        assert ws.call("set-renderer-interactive", style) is None
        assert ws.call("set-framebuffer-progressive", {"scale": 8}) is None
        assert ws.call("clear-lights") is None
        for direction in ([1, 0, 0], [0, 1, 0], [0, 0, -1]):
            light = {"direction": direction, "color": [0.8, 0.8, 0.8], "intensity": 2.5}
            assert ws.call("add-light-directional", light)["model_type"] == "light"
        assert ws.call("set-application-parameters", {"viewport": [256, 128]}) is None
        assert ws.call("get-application-parameters")["viewport"] == [256, 128]

        # It asks for the next frame as soon as it has one, until there is no better.
        seen = []
        for _ in range(6):
            ws.request("render-image", {"format": "jpg"}, "Mg==")
            message, data = ws.reply()
            assert message["result"]["max_accumulation"] == 3
            size = Image.open(io.BytesIO(data)).size if data else None
            seen.append((message["result"]["accumulation"], size))
        small, whole = (128, 64), (256, 128)
        assert seen == [(0, small), (1, whole), (2, whole), (3, whole), (3, None), (3, None)]
        ws.request("render-image", {"force": True, "format": "png"}, "Mw==")
        assert Image.open(io.BytesIO(ws.reply()[1])).format == "PNG"
        ws.request("render-image", {"force": True, "send": False}, "NA==")
        assert ws.reply()[0]["error"]["code"] == -32602

        scene = ws.call("get-scene")
        models = [m["model_id"] for m in scene["models"] if m["model_type"] != "light"]
        assert ws.call("remove-model", {"ids": models}) is None
        assert ws.call("remove-model", {"ids": models[:1]})["code"] == -32602
        assert ws.call("get-scene")["bounds"] == {"min": [0, 0, 0], "max": [0, 0, 0]}
        loader = {"loader_name": "demo-neuron", "loader_properties": {"seed": 5}}
        (model,) = ws.call("add-model", loader)
        hidden = {"model_id": model["model_id"], "model": {"is_visible": False}}
        assert ws.call("update-model", hidden)["is_visible"] is False


def test_cancel_as_text_without_an_id(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        settings = {"size": [1280, 720], "format": "png"}
        style = {"name": "production", "params": {"samples_per_pixel": 5000}}
        ws.request("snapshot", {"image_settings": settings, "renderer": style}, "MTI=")
        progress, _ = ws.reply()
        assert progress["method"] == "snapshot"
        assert progress["params"]["id"] == "MTI="
        assert "id" not in progress
        cancel = {"jsonrpc": "2.0", "method": "cancel", "params": {"id": "MTI="}}
        ws.send(TEXT, json.dumps(cancel).encode())
        while "id" not in (message := ws.reply()[0]):
            assert 0 <= message["params"]["amount"] < 0.1
        assert message == {
            "jsonrpc": "2.0",
            "id": "MTI=",
            "error": {"code": 20, "message": "Task has been cancelled"},
        }


def test_a_client_that_leaves_ends_its_snapshot(renderer_port: int) -> None:
    ws = client(renderer_port)
    style = {"name": "production", "params": {"samples_per_pixel": 60000}}
    ws.request("snapshot", {"renderer": style})
    ws.reply()
    ws.socket.close()
    with client(renderer_port) as other:
        # Requests run one at a time: this one would wait for minutes.
        assert other.call("get-version")["major"] == 3


def test_health_is_answered_while_it_renders(renderer_port: int) -> None:
    with client(renderer_port) as ws, RawClient(renderer_port, timeout=3.0) as http:
        style = {"name": "production", "params": {"samples_per_pixel": 60000}}
        ws.request("snapshot", {"renderer": style})
        ws.reply()
        assert http.get("/healthz", Connection="close").startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("nowhere", None, -32601),
        ("schema", {"endpoint": "nowhere"}, -32601),
        ("schema", {}, -32602),
        ("set-camera-view", {"position": [0, 0], "target": [0, 0, 0], "up": [0, 1, 0]}, -32602),
        ("set-camera-view", {"position": [0] * 3, "target": [0] * 3, "up": [0, 1, 0]}, -32602),
        ("set-camera-perspective", {"fovy": 180}, -32602),
        ("get-camera-orthographic", None, -32603),
        ("set-camera-region", {"image_start": [0, 0], "image_end": [0, 1]}, -32602),
        ("set-application-parameters", {"viewport": [63, 64]}, -32602),
        ("set-application-parameters", {"viewport": [8192, 8192]}, -32602),
        ("snapshot", {"file_path": "/tmp/picture.png"}, -32602),
        ("snapshot", {"camera": {"name": "fisheye"}}, -32602),
        ("snapshot", {"image_settings": {"format": "gif"}}, -32602),
        ("get-model", {"id": 999}, -32602),
        ("cancel", {"id": "nobody"}, -32602),
        ("add-model", {"loader_name": "circuit"}, -32602),
    ],
)
def test_what_cannot_be_done(renderer_port: int, method: str, params: object, code: int) -> None:
    with client(renderer_port) as ws:
        assert ws.call(method, params)["code"] == code


def test_jpeg_and_png_follow_the_camera(renderer_port: int) -> None:
    with client(renderer_port) as ws:

        def snapshot(kind: str, x: float) -> np.ndarray:
            params = {
                "image_settings": {"format": kind, "size": [160, 90], "quality": 90},
                "camera": {"name": "perspective", "params": {"fovy": 50}},
                "camera_view": {"position": [x, 50, 400], "target": [0, 50, 0], "up": [0, 1, 0]},
            }
            ws.request("snapshot", params)
            while not (reply := ws.reply())[1]:
                assert "method" in reply[0]
            message, data = reply
            assert message["result"] == {"color_buffer": {"offset": 0, "size": len(data)}}
            return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)

        for kind in ("png", "jpg"):
            here, there = snapshot(kind, 0.0), snapshot(kind, 150.0)
            assert (np.abs(here - there).max(axis=2) > 40).mean() > 0.05
            assert np.array_equal(here, snapshot(kind, 0.0))
        assert np.abs(snapshot("png", 0.0) - snapshot("jpg", 0.0)).mean() < 6


# Beginning and end ------------------------------------------------------------


def test_the_log_lines_of_the_start(start: Start) -> None:
    program, port = start("renderer", "--uri", "127.0.0.1:0", "--plugin", "braynsDTI")
    words = [line.split("] ")[-1] for line in program.lines]
    assert words == [
        "Starting Brayns service.",
        f"Server started on '127.0.0.1:{port}'.",
        "Brayns service started.",
    ]
    with client(port) as ws:
        assert ws.call("get-application-parameters")["plugins"] == ["braynsDTI"]


def test_quit_answers_and_ends(start: Start) -> None:
    program, port = start("renderer", "--uri", "127.0.0.1:0")
    with client(port) as ws:
        assert ws.call("quit") is None
        assert ws.ended()
    assert program.process.wait(10) == 0


def test_sigterm_ends_it_in_the_middle_of_an_image(start: Start) -> None:
    program, port = start("renderer", "--uri", "127.0.0.1:0")
    with client(port) as ws:
        style = {"name": "production", "params": {"samples_per_pixel": 60000}}
        ws.request("snapshot", {"renderer": style})
        ws.reply()
        program.process.send_signal(signal.SIGTERM)
        output, _ = program.process.communicate(timeout=10)
    assert program.process.returncode == 0
    assert output.endswith("Brayns service stopped.\n")


def test_what_it_cannot_start_with(start: Start) -> None:
    _, port = start("renderer", "--uri", "127.0.0.1:0")
    for arguments, words in (
        (["--uri", f"127.0.0.1:{port}"], "Cannot listen on"),
        (["--uri", "127.0.0.1:0", "--plugin", "nothing"], "Cannot load plugin 'nothing'"),
        (["--uri", "127.0.0.1"], "expected HOST:PORT"),
        (["--uri", "127.0.0.1:0", "--max-clients", "0"], "at least 1"),
    ):
        program = Program("renderer", *arguments)
        output, _ = program.process.communicate(timeout=30)
        assert program.process.returncode in (1, 2)
        assert words in output


def test_a_frame_over_the_limit_drops_the_connection(renderer_port: int) -> None:
    with client(renderer_port) as ws:
        size = (2**31).to_bytes(8, "big")
        ws.socket.sendall(bytes([0x80 | BINARY, 0x80 | 127]) + size + b"\0\0\0\0")
        assert ws.ended()
