"""The renderer's methods about models and lights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vsmgate.demo.engine import Engine, Model
from vsmgate.demo.entrypoints import Entrypoint, Registry
from vsmgate.demo.jsonrpc import InvalidParams
from vsmgate.demo.messages import BOUNDS, MODEL, write_bounds, write_model
from vsmgate.demo.schemas import array, check, number, record, text, truth, vector
from vsmgate.demo.shading import AmbientLight, DirectionalLight

__all__ = ["add_scene_methods"]

LOADER = "demo-neuron"
NEURON = record(
    "NeuronParameters",
    seed=number("The same seed grows the same neuron", "integer", minimum=0, default=1),
    origin=vector("Center of the soma XYZ", 3, default=[0, 0, 0]),
)


def add_scene_methods(registry: Registry, engine: Engine) -> None:
    """The scene, its models, a loader that grows neurons, and lights."""

    def find(identity: int) -> Model:
        try:
            return engine.models[identity]
        except KeyError:
            raise InvalidParams(f"No models found with ID {identity}") from None

    def get_scene(*_: object) -> dict[str, Any]:
        models = [write_model(model) for model in engine.models.values()]
        return {"bounds": write_bounds(engine.scene.bounds), "models": models}

    def update_model(params: Any, _: bytes) -> dict[str, Any]:
        model = find(params["model_id"])
        change = params["model"]
        if (
            change.get("transform", write_model(model)["transform"])
            != write_model(model)["transform"]
        ):
            raise InvalidParams("The models of the demo cannot be moved")
        model = replace(model, visible=change.get("is_visible", model.visible))
        engine.put(model)
        return write_model(model)

    def remove(params: Any, _: bytes) -> None:
        for identity in params["ids"]:
            find(identity)
        engine.remove(params["ids"])

    def remove_type(kind: str | None) -> None:
        engine.remove([m.id for m in engine.models.values() if kind in (None, m.type)])

    def add_model(params: Any, _: bytes) -> list[dict[str, Any]]:
        if params["loader_name"] != LOADER:
            raise InvalidParams(f"No loader '{params['loader_name']}'; known: {LOADER}")
        wanted = check(params["loader_properties"], NEURON)
        x, y, z = wanted["origin"]
        return [write_model(engine.grow(wanted["seed"], (x, y, z)))]

    def add_ambient(params: Any, _: bytes) -> dict[str, Any]:
        light = AmbientLight(tuple(params["color"]), params["intensity"])
        return write_model(engine.add_light(light))

    def add_directional(params: Any, _: bytes) -> dict[str, Any]:
        if not any(params["direction"]):
            raise InvalidParams("A light cannot shine in no direction")
        light = DirectionalLight(
            tuple(params["color"]), params["intensity"], tuple(params["direction"])
        )
        return write_model(engine.add_light(light))

    light = {
        "color": vector("Light color RGB normalized", 3, minimum=0, maximum=1, default=[1, 1, 1]),
        "intensity": number("Light intensity", minimum=0, default=1),
    }
    model_id = number("Model ID", "integer")
    registry.add(
        Entrypoint(
            "get-scene",
            "Get the current state of the scene",
            get_scene,
            returns=record("Scene", bounds=BOUNDS, models=array("All models", MODEL)),
        ),
        Entrypoint(
            "get-model",
            "Get all the information of the given model",
            lambda params, _: write_model(find(params["id"])),
            params=record("GetModelMessage", ("id",), id=model_id),
            returns=MODEL,
        ),
        Entrypoint(
            "update-model",
            "Update the model with the given values and return its new state",
            update_model,
            params=record(
                "UpdateModelMessage",
                ("model_id", "model"),
                model_id=model_id,
                model=record(
                    "ModelInstance",
                    transform=MODEL["properties"]["transform"],
                    is_visible=truth("Whether the model is being rendered or not"),
                ),
            ),
            returns=MODEL,
        ),
        Entrypoint(
            "remove-model",
            "Remove the model(s) from the ID list from the scene",
            remove,
            params=record("RemoveModelMessage", ("ids",), ids=array("IDs of models", model_id)),
        ),
        Entrypoint("clear-models", "Clear all models in the scene", lambda *_: remove_type(None)),
        Entrypoint(
            "clear-renderables",
            "Clear all renderable models in the scene",
            lambda *_: remove_type("neuron"),
        ),
        Entrypoint("clear-lights", "Clear all lights", lambda *_: remove_type("light")),
        Entrypoint(
            "get-loaders",
            "Get all loaders",
            lambda *_: [
                {
                    "plugin": "Core",
                    "name": LOADER,
                    "extensions": [],
                    "binary": False,
                    "input_parameters_schema": NEURON,
                }
            ],
            returns=array("Loaders", {"type": "object"}),
        ),
        Entrypoint(
            "add-model",
            "Add model and return model descriptors on success",
            add_model,
            params=record(
                "AddModelParams",
                ("loader_name",),
                path=text("Path of the file to load (the demo reads none)"),
                loader_name=text("Name of the loader"),
                loader_properties={
                    "type": "object",
                    "description": "Loader specific parameters",
                    "default": {},
                },
            ),
            returns=array("Models", MODEL),
        ),
        Entrypoint(
            "add-light-ambient",
            "Adds an ambient light which iluminates the scene from all directions",
            add_ambient,
            params=record("AmbientLight", **light),
            returns=MODEL,
        ),
        Entrypoint(
            "add-light-directional",
            "Adds a directional light which iluminates the scene from a given direction",
            add_directional,
            params=record(
                "DirectionalLight",
                **light,
                direction=vector("Light direction XYZ", 3, default=[-1, -1, 0]),
            ),
            returns=MODEL,
        ),
    )
