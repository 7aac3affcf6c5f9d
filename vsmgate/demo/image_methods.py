"""The renderer's methods that make images."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vsmgate.demo.engine import Engine, Shot
from vsmgate.demo.entrypoints import Entrypoint, Registry, Reply
from vsmgate.demo.jsonrpc import InvalidParams
from vsmgate.demo.messages import (
    PROJECTIONS,
    SNAPSHOT,
    STYLE_SCHEMAS,
    read_projection,
    read_region,
    read_size,
    read_style,
    read_view,
)
from vsmgate.demo.pictures import encode
from vsmgate.demo.scene import Array
from vsmgate.demo.schemas import Schema, check, choice, number, record, truth, vector
from vsmgate.demo.steps import Steps

__all__ = ["add_image_methods"]

SMALLEST_SIDE = 64


def add_image_methods(registry: Registry, engine: Engine) -> None:
    """``render-image``, ``snapshot``, ``inspect`` and the framebuffers."""
    canvas = _Canvas(engine)
    registry.add(
        Entrypoint(
            "render-image",
            "Render an image of the current context and retreive it according to given params",
            canvas.render,
            params=record(
                "RenderImageParams",
                send=truth("Send image once rendered", default=True),
                force=truth("Send image even if nothing new was rendered", default=False),
                accumulate=truth("Render all images until max accumulation", default=False),
                format=choice("Encoding of the image (jpg or png)", "jpg", "png", default="jpg"),
                jpeg_quality=number(
                    "Quality if using JPEG encoding",
                    "integer",
                    minimum=0,
                    maximum=100,
                    default=100,
                ),
                render=truth("Disable render if set to false (download only)", default=True),
            ),
            returns=record(
                "RenderImageResult",
                accumulation=number("Current frame accumulation", "integer"),
                max_accumulation=number("Maximum frame accumulation", "integer"),
            ),
        ),
        Entrypoint(
            "snapshot",
            "Take a snapshot with given parameters",
            canvas.snapshot,
            params=SNAPSHOT,
            returns=record(
                "SnapshotResult",
                color_buffer=record(
                    "ColorBufferMessage",
                    offset=number("Data offset in attached binary", "integer"),
                    size=number("Data size in attached binary", "integer"),
                ),
            ),
            cancellable=True,
        ),
        Entrypoint(
            "inspect",
            "Inspect the scene at x-y position",
            canvas.inspect,
            params=record(
                "InspectMessage",
                ("position",),
                position=vector("Normalized screen position XY", 2),
            ),
            returns=record(
                "InspectResult",
                hit=truth("True if a model was at given position, otherwise the rest is invalid"),
                position=vector("World position XYZ where the model was hit", 3),
                model_id=number("ID of the model that was hit", "integer"),
                metadata={"type": "object", "description": "Attributes of what was hit"},
            ),
        ),
        Entrypoint(
            "set-framebuffer-static", "Set the static framebuffer", lambda *_: canvas.scale_by(1)
        ),
        Entrypoint(
            "set-framebuffer-progressive",
            "Set the progressive framebuffer: the first frame is smaller",
            lambda params, _: canvas.scale_by(params["scale"]),
            params=record(
                "ProgressiveFrame",
                scale=number("Reduction of the first frame", "integer", minimum=1, default=4),
            ),
        ),
    )


class _Canvas:
    """The image methods, and the framebuffer's scale."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scale = 1
        self._previewed: object = None

    def scale_by(self, scale: int) -> None:
        self._scale = scale
        self._previewed = None

    def render(self, params: Any, _: bytes) -> Steps[Reply]:
        if params["force"] and not params["send"]:
            raise InvalidParams("Cannot force sending if send is disabled")
        engine = self._engine
        image: Array | None = None
        fresh = False
        if params["render"]:
            preview = self._preview_size()
            if preview is not None and not params["accumulate"]:
                style = replace(engine.shot.style, samples=1)
                image = yield from engine.take(replace(engine.shot, size=preview, style=style))
                fresh = True
            while image is None and engine.accumulation < engine.shot.style.samples:
                yield from engine.accumulate()
                fresh = True
                if not params["accumulate"]:
                    break
        result = {
            "accumulation": engine.accumulation,
            "max_accumulation": engine.shot.style.samples,
        }
        if image is None:
            image = engine.image
        if image is None or not params["send"] or not (fresh or params["force"]):
            return Reply(result)
        return Reply(result, encode(image, params["format"], params["jpeg_quality"]))

    def _preview_size(self) -> tuple[int, int] | None:
        """The size of the small first frame, when one is due."""
        engine = self._engine
        state = (engine.shot, engine.version)
        if self._scale == 1 or engine.accumulation or self._previewed == state:
            return None
        self._previewed = state
        width, height = engine.shot.size
        scale = max(1, min(self._scale, width // SMALLEST_SIDE, height // SMALLEST_SIDE))
        return width // scale, height // scale

    def snapshot(self, params: Any, _: bytes) -> Steps[Reply]:
        settings = check(params.get("image_settings", {}), SNAPSHOT["properties"]["image_settings"])
        shot = _shot(self._engine.shot, params, settings.get("size"))
        image = yield from self._engine.take(shot)
        metadata = params.get("metadata")
        data = encode(image, settings["format"], settings["quality"], metadata)
        return Reply({"color_buffer": {"offset": 0, "size": len(data)}}, data)

    def inspect(self, params: Any, _: bytes) -> dict[str, Any]:
        across, down = params["position"]
        hit = self._engine.pick(across, down)
        if hit is None:
            return {"hit": False, "position": [0, 0, 0], "model_id": 0, "metadata": None}
        info = self._engine.models[hit.model_id].info
        return {
            "hit": True,
            "position": list(hit.position),
            "model_id": hit.model_id,
            "metadata": dict(info),
        }


def _shot(current: Shot, params: dict[str, Any], size: list[int] | None) -> Shot:
    """The current shot with what a snapshot asks for otherwise."""
    camera = current.camera
    if "camera" in params:
        name, message = _named(params["camera"], PROJECTIONS)
        camera = replace(camera, projection=read_projection(name, message))
    if "camera_view" in params:
        camera = replace(camera, view=read_view(params["camera_view"]))
    if "camera_near_clip" in params:
        camera = replace(camera, near=params["camera_near_clip"])
    start, end = params.get("image_start", camera.start), params.get("image_end", camera.end)
    camera = read_region(camera, start, end)
    style = current.style
    if "renderer" in params:
        name, message = _named(params["renderer"], STYLE_SCHEMAS)
        style = read_style(name, message)
    return Shot(camera, style, current.size if size is None else read_size(size))


def _named(message: dict[str, Any], schemas: dict[str, Schema]) -> tuple[str, dict[str, Any]]:
    """The name of an object, and its parameters checked."""
    name = message["name"]
    if name not in schemas:
        known = ", ".join(sorted(schemas))
        raise InvalidParams(f"Unknown type '{name}'; known: {known}")
    return name, check(message["params"], schemas[name])
