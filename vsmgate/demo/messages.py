"""How the renderer's values look on the wire: schemas, and both directions of reading them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vsmgate.demo.camera import Camera, Orthographic, Perspective, View
from vsmgate.demo.engine import Model, Style
from vsmgate.demo.jsonrpc import InvalidParams
from vsmgate.demo.scene import Bounds
from vsmgate.demo.schemas import Schema, array, choice, number, record, text, truth, vector

__all__ = [
    "APPLICATION",
    "BOUNDS",
    "LENGTH",
    "MODEL",
    "PROJECTIONS",
    "REGION",
    "SNAPSHOT",
    "STYLES",
    "STYLE_SCHEMAS",
    "VIEW",
    "read_projection",
    "read_region",
    "read_size",
    "read_style",
    "read_view",
    "write_bounds",
    "write_model",
    "write_projection",
    "write_style",
    "write_view",
]

LARGEST_IMAGE = 1 << 24

VIEW = record(
    "View",
    ("position", "target", "up"),
    position=vector("Camera position XYZ", 3),
    target=vector("Camera target XYZ", 3),
    up=vector("Camera up vector XYZ", 3),
)
LENGTH = record(
    "CameraNearClipMessage", ("distance",), distance=number("Near clipping distance", minimum=0)
)
REGION = record(
    "CameraRegionMessage",
    ("image_start", "image_end"),
    image_start=vector("Camera image region lower bound XY normalized", 2),
    image_end=vector("Camera image region upper bound XY normalized", 2),
)
PROJECTIONS: dict[str, Schema] = {
    "perspective": record(
        "Perspective",
        fovy=number("Vertical field of view", exclusiveMinimum=0, exclusiveMaximum=180, default=45),
        aperture_radius=number("Lens aperture radius", minimum=0, default=0),
        focus_distance=number("Camera focus distance", exclusiveMinimum=0, default=1),
    ),
    "orthographic": record(
        "Orthographic",
        ("height",),
        height=number("Height of the projection plane", exclusiveMinimum=0),
    ),
}
_STYLE = {
    "samples_per_pixel": number("Ray samples per pixel", "integer", minimum=1, maximum=65536),
    "max_ray_bounces": number("Maximum ray bounces (the demo has none)", "integer", minimum=0),
    "background_color": vector("Background color", 4, minimum=0, maximum=1),
}
STYLE_SCHEMAS: dict[str, Schema] = {
    "interactive": record(
        "Interactive",
        **_STYLE,
        enable_shadows=truth("Enable casted shadows when rendering"),
        ao_samples=number("Ambient occlusion samples", "integer", minimum=0, maximum=64),
    ),
    "production": record("Production", **_STYLE),
}
STYLES: dict[str, Style] = {
    "interactive": Style("interactive", samples=4, bounces=3),
    "production": Style("production", samples=128, bounces=7, occlusion=32),
}
BOUNDS = record(
    "Bounds", ("min", "max"), min=vector("Lower corner", 3), max=vector("Upper corner", 3)
)
MODEL = record(
    "ModelInstance",
    model_id=number("Model ID", "integer"),
    model_type=text("Model type"),
    bounds=BOUNDS,
    info={"type": "object", "description": "Model-specific info"},
    transform=record(
        "Transform",
        translation=vector("Translation XYZ", 3),
        rotation=vector("Rotation quaternion XYZW", 4),
        scale=vector("Scale XYZ", 3),
    ),
    is_visible=truth("Whether the model is being rendered or not"),
)
# The schema of width and height, as numbers of pixels.
_SIZE = vector("Width and height in pixels", 2, "integer", minimum=1, maximum=8192)
APPLICATION = record(
    "ApplicationParameters",
    plugins=array("Plugins loaded when the application was started", {"type": "string"}),
    viewport={
        **vector("", 2, "integer", minimum=64, maximum=8192),
        "description": "Framebuffer resolution in pixels",
    },
)
_OBJECT = record(
    "EngineObjectData",
    ("name",),
    name=text("Object type name"),
    params={"type": "object", "description": "Object parameters", "default": {}},
)
SNAPSHOT = record(
    "SnapshotParams",
    image_settings=record(
        "ImageSettings",
        format=choice("Image format (jpg or png)", "jpg", "png", default="png"),
        quality=number("Image quality", "integer", minimum=0, maximum=100, default=100),
        size=_SIZE,
    ),
    camera=_OBJECT,
    camera_view=VIEW,
    camera_near_clip=number("Camera near clipping distance", minimum=0),
    image_start=vector("Image region start XY normalized", 2),
    image_end=vector("Image region end XY normalized", 2),
    renderer=_OBJECT,
    simulation_frame=number("Simulation frame (the demo has none)", "integer", minimum=0),
    file_path=text("Path to save image (the demo writes no files)", maxLength=0),
    metadata={"type": "object", "description": "Text to embed into the image"},
)


def read_view(message: dict[str, Any]) -> View:
    """A view; raises `InvalidParams` when the camera is at its target."""
    position, target, up = (tuple(message[name]) for name in ("position", "target", "up"))
    if position == target:
        raise InvalidParams("Camera position and target are the same")
    return View(position, target, up)


def write_view(view: View) -> dict[str, Any]:
    """The message of a view."""
    return {"position": list(view.position), "target": list(view.target), "up": list(view.up)}


def read_projection(name: str, message: dict[str, Any]) -> Perspective | Orthographic:
    """A projection, from a checked message."""
    if name == "perspective":
        return Perspective(message["fovy"], message["aperture_radius"], message["focus_distance"])
    return Orthographic(message["height"])


def write_projection(projection: Perspective | Orthographic) -> dict[str, Any]:
    """The message of a projection."""
    if isinstance(projection, Orthographic):
        return {"height": projection.height}
    return {
        "fovy": projection.fovy,
        "aperture_radius": projection.aperture_radius,
        "focus_distance": projection.focus_distance,
    }


def read_region(camera: Camera, start: list[float], end: list[float]) -> Camera:
    """The camera with another part of the image; it may be mirrored, not empty."""
    if start[0] == end[0] or start[1] == end[1]:
        raise InvalidParams("The image region is empty")
    return replace(camera, start=(start[0], start[1]), end=(end[0], end[1]))


def read_size(message: list[int]) -> tuple[int, int]:
    """Width and height; raises `InvalidParams` over sixteen million pixels."""
    width, height = message
    if width * height > LARGEST_IMAGE:
        raise InvalidParams(f"{width}x{height} is more than {LARGEST_IMAGE} pixels")
    return width, height


def read_style(name: str, message: dict[str, Any]) -> Style:
    """A renderer, from a checked message; what it leaves out has its default."""
    style = STYLES[name]
    return replace(
        style,
        samples=message.get("samples_per_pixel", style.samples),
        bounces=message.get("max_ray_bounces", style.bounces),
        background=tuple(message.get("background_color", style.background)),
        shadows=message.get("enable_shadows", style.shadows),
        occlusion=message.get("ao_samples", style.occlusion),
    )


def write_style(style: Style) -> dict[str, Any]:
    """The message of a renderer."""
    message: dict[str, Any] = {
        "samples_per_pixel": style.samples,
        "max_ray_bounces": style.bounces,
        "background_color": list(style.background),
    }
    if style.name == "interactive":
        message |= {"enable_shadows": style.shadows, "ao_samples": style.occlusion}
    return message


def write_bounds(bounds: Bounds) -> dict[str, Any]:
    """The message of a box."""
    return {"min": list(bounds.low), "max": list(bounds.high)}


def write_model(model: Model) -> dict[str, Any]:
    """The message of a model. All models stand where they were made."""
    return {
        "model_id": model.id,
        "model_type": model.type,
        "bounds": write_bounds(model.bounds),
        "info": dict(model.info),
        "transform": {"translation": [0, 0, 0], "rotation": [0, 0, 0, 1], "scale": [1, 1, 1]},
        "is_visible": model.visible,
    }
