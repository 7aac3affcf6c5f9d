"""The renderer's methods about itself: what it is, what it offers, how to look at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vsmgate.demo.camera import Camera, Orthographic
from vsmgate.demo.engine import Engine
from vsmgate.demo.entrypoints import Entrypoint, Registry
from vsmgate.demo.jsonrpc import InternalError
from vsmgate.demo.messages import (
    APPLICATION,
    LENGTH,
    PROJECTIONS,
    REGION,
    STYLE_SCHEMAS,
    VIEW,
    read_projection,
    read_region,
    read_size,
    read_style,
    read_view,
    write_projection,
    write_style,
    write_view,
)
from vsmgate.demo.schemas import array, number, record, text, truth
from vsmgate.demo.tasks import CANCEL

__all__ = ["VERSION", "add_camera_methods", "add_core_methods", "add_style_methods"]

VERSION = (3, 10, 1)


def add_core_methods(
    registry: Registry, engine: Engine, plugins: list[str], leave: Callable[[], None]
) -> None:
    """Version, introspection, application. ``leave`` ends the program, and may be called late."""

    def describe(params: Any, _: bytes) -> dict[str, Any]:
        entrypoint = registry.find(params["endpoint"])
        schema: dict[str, Any] = {
            "plugin": "Core",
            "title": entrypoint.name,
            "description": entrypoint.description,
            "async": entrypoint.cancellable,
            "deprecated": False,
        }
        if entrypoint.params is not None:
            schema["params"] = entrypoint.params
        if entrypoint.returns is not None:
            schema["returns"] = entrypoint.returns
        return schema

    def set_application(params: Any, _: bytes) -> None:
        if "viewport" in params:
            engine.shot = replace(engine.shot, size=read_size(params["viewport"]))

    major, minor, patch = VERSION
    version = {"major": major, "minor": minor, "patch": patch, "revision": "demo"}
    registry.add(
        Entrypoint(
            "get-version",
            "Get the version of the Brayns instance",
            lambda *_: version,
            returns=record(
                "VersionMessage",
                major=number("Major version", "integer"),
                minor=number("Minor version", "integer"),
                patch=number("Patch version", "integer"),
                revision=text("SCM revision"),
            ),
        ),
        Entrypoint(
            "registry",
            "Get the names of all the entrypoints of the application",
            lambda *_: registry.names,
            returns=array("Names of the entrypoints", {"type": "string"}),
        ),
        Entrypoint(
            "schema",
            "Get the JSON schema of the given entrypoint",
            describe,
            params=record("SchemaParams", ("endpoint",), endpoint=text("Name of the endpoint")),
            returns=record(
                "SchemaResult",
                plugin=text("Name of the plugin that loads the entrypoint"),
                title=text("Name of the entrypoint (method)"),
                description=text("Description of the entrypoint"),
                deprecated=truth("If true, the entrypoint will be removed"),
                params={"type": "object", "description": "Input schema"},
                returns={"type": "object", "description": "Output schema"},
                **{"async": truth("Check if it sends progress and can be cancelled")},
            ),
        ),
        CANCEL,
        Entrypoint("quit", "Quit the application", lambda *_: leave()),
        Entrypoint(
            "get-application-parameters",
            "Get the current state of the application parameters",
            lambda *_: {"plugins": plugins, "viewport": list(engine.shot.size)},
            returns=APPLICATION,
        ),
        Entrypoint(
            "set-application-parameters",
            "Set the current state of the application parameters",
            set_application,
            params=APPLICATION,
        ),
    )


def add_camera_methods(registry: Registry, engine: Engine) -> None:
    """View, projection, near clipping and image region."""

    def aim(camera: Camera) -> None:
        engine.shot = replace(engine.shot, camera=camera)

    def kind() -> str:
        flat = isinstance(engine.shot.camera.projection, Orthographic)
        return "orthographic" if flat else "perspective"

    def get_region(*_: object) -> dict[str, Any]:
        camera = engine.shot.camera
        return {"image_start": list(camera.start), "image_end": list(camera.end)}

    def set_view(params: Any, _: bytes) -> None:
        aim(replace(engine.shot.camera, view=read_view(params)))

    def set_near(params: Any, _: bytes) -> None:
        aim(replace(engine.shot.camera, near=params["distance"]))

    def set_region(params: Any, _: bytes) -> None:
        aim(read_region(engine.shot.camera, params["image_start"], params["image_end"]))

    def near(*_: object) -> dict[str, float]:
        return {"distance": engine.shot.camera.near}

    def add_projection(name: str) -> None:
        def get(*_: object) -> dict[str, Any]:
            if kind() != name:
                raise InternalError(f"The camera is not {name} but {kind()}")
            return write_projection(engine.shot.camera.projection)

        def put(params: Any, _: bytes) -> None:
            aim(replace(engine.shot.camera, projection=read_projection(name, params)))

        schema = PROJECTIONS[name]
        registry.add(
            Entrypoint(f"get-camera-{name}", f"Get the {name} camera", get, returns=schema),
            Entrypoint(f"set-camera-{name}", f"Set the camera to {name}", put, params=schema),
        )

    type_name = text("Type of the camera")
    registry.add(
        Entrypoint(
            "get-camera-type", "Get the type of the camera", lambda *_: kind(), returns=type_name
        ),
        Entrypoint(
            "get-camera-view",
            "Get the current camera view",
            lambda *_: write_view(engine.shot.camera.view),
            returns=VIEW,
        ),
        Entrypoint("set-camera-view", "Set the current camera view", set_view, params=VIEW),
        Entrypoint("get-camera-near-clip", "Get the near clipping", near, returns=LENGTH),
        Entrypoint("set-camera-near-clip", "Set the near clipping", set_near, params=LENGTH),
        Entrypoint("get-camera-region", "Get the image region", get_region, returns=REGION),
        Entrypoint("set-camera-region", "Set the image region", set_region, params=REGION),
    )
    for name in PROJECTIONS:
        add_projection(name)


def add_style_methods(registry: Registry, engine: Engine) -> None:
    """The interactive and the production renderer."""

    def add(name: str) -> None:
        def get(*_: object) -> dict[str, Any]:
            if engine.shot.style.name != name:
                raise InternalError(f"The renderer is not {name} but {engine.shot.style.name}")
            return write_style(engine.shot.style)

        def put(params: Any, _: bytes) -> None:
            engine.shot = replace(engine.shot, style=read_style(name, params))

        schema = STYLE_SCHEMAS[name]
        registry.add(
            Entrypoint(f"get-renderer-{name}", f"Get the {name} renderer", get, returns=schema),
            Entrypoint(f"set-renderer-{name}", f"Set the {name} renderer", put, params=schema),
        )

    registry.add(
        Entrypoint(
            "get-renderer-type",
            "Returns the type of the renderer currently being used",
            lambda *_: engine.shot.style.name,
            returns=text("Type of the renderer"),
        )
    )
    for name in STYLE_SCHEMAS:
        add(name)
