"""The judge: the Brayns client of the package index, against the renderer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.demo.conftest import Program
from vsmgate.demo.client import brayns

SMALL = brayns.Resolution(192, 108)


@pytest.fixture
def instance() -> Iterator[brayns.Instance]:
    program = Program("renderer", "--uri", "127.0.0.1:0", "--plugin", "braynsCircuitExplorer")
    try:
        port = program.start(r"Brayns service started\.$")
        uri = f"127.0.0.1:{port}/job/renderer?token=abc"
        with brayns.Connector(uri).connect() as instance:
            yield instance
    finally:
        program.stop()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=float)


def test_a_session(instance: brayns.Instance, tmp_path: Path) -> None:
    brayns.check_version(instance)
    assert brayns.get_application(instance).plugins == ["braynsCircuitExplorer"]
    brayns.set_resolution(instance, SMALL)
    assert brayns.get_application(instance).resolution == SMALL

    scene = brayns.get_scene(instance)
    controller = brayns.CameraController(scene.bounds, SMALL.aspect_ratio)
    images = []
    for rotation in (brayns.CameraRotation.front, brayns.CameraRotation.left):
        controller.rotation = rotation
        camera = controller.camera
        brayns.set_camera(instance, camera)
        got = brayns.get_camera(instance, brayns.PerspectiveProjection)
        assert got.position == pytest.approx(camera.position)
        assert got.projection.fovy.degrees == pytest.approx(45.0)
        images.append(brayns.Snapshot().download(instance))
        jpeg = brayns.Snapshot(jpeg_quality=95).download(instance, brayns.ImageFormat.JPEG)
        assert np.abs(pixels(jpeg) - pixels(images[-1])).mean() < 6
    assert pixels(images[0]).shape == (108, 192, 3)
    assert (np.abs(pixels(images[0]) - pixels(images[1])).max(axis=2) > 40).mean() > 0.02

    path = tmp_path / "snapshot.png"
    brayns.Snapshot(resolution=brayns.Resolution(64, 64)).save(instance, str(path))
    with Image.open(path) as picture:
        assert picture.size == (64, 64)


def test_every_entrypoint_has_schemas(instance: brayns.Instance) -> None:
    names = brayns.get_methods(instance)
    assert len(names) == len(set(names))
    entrypoints = {e.method: e for e in brayns.get_entrypoints(instance)}
    assert list(entrypoints) == names
    assert [name for name, e in entrypoints.items() if e.asynchronous] == ["snapshot"]
    assert all(entrypoint.description for entrypoint in entrypoints.values())
    view = entrypoints["set-camera-view"].params
    assert view is not None
    assert sorted(view.properties) == ["position", "target", "up"]
    assert (view.properties["up"].min_items, view.properties["up"].max_items) == (3, 3)
    for name in names:
        message = instance.request("schema", {"endpoint": name})
        for key in ("params", "returns"):
            if key in message:
                jsonschema.Draft202012Validator.check_schema(message[key])


def test_results_fit_their_schemas(instance: brayns.Instance) -> None:
    for name in brayns.get_methods(instance):
        if not name.startswith("get-") or name in ("get-model", "get-camera-orthographic"):
            continue
        if name == "get-renderer-production":
            continue
        schema = instance.request("schema", {"endpoint": name})["returns"]
        jsonschema.validate(instance.request(name), schema)


def test_projections_and_renderers(instance: brayns.Instance) -> None:
    brayns.set_camera_projection(instance, brayns.OrthographicProjection(500.0))
    assert brayns.get_camera_name(instance) == "orthographic"
    projection = brayns.get_camera_projection(instance, brayns.OrthographicProjection)
    assert projection.height == 500.0
    with pytest.raises(brayns.JsonRpcError) as caught:
        brayns.get_camera_projection(instance, brayns.PerspectiveProjection)
    assert caught.value.code == -32603

    white = brayns.InteractiveRenderer(background_color=brayns.Color4.white)
    brayns.set_renderer(instance, white)
    assert brayns.get_renderer(instance, brayns.InteractiveRenderer) == white
    snapshot = brayns.Snapshot(resolution=SMALL)
    assert pixels(snapshot.download(instance))[0, 0].tolist() == [255, 255, 255]
    snapshot.renderer = brayns.ProductionRenderer(
        samples_per_pixel=2, background_color=brayns.Color4.black
    )
    assert pixels(snapshot.download(instance))[0, 0].tolist() == [0, 0, 0]
    assert brayns.get_renderer_name(instance) == "interactive"


def test_images_accumulate(instance: brayns.Instance) -> None:
    brayns.set_resolution(instance, SMALL)
    image = brayns.Image(accumulate=False, force_download=False)
    seen = [image.download(instance, brayns.ImageFormat.JPEG) for _ in range(5)]
    assert [one.accumulation for one in seen] == [1, 2, 3, 4, 4]
    assert [bool(one.data) for one in seen] == [True, True, True, True, False]
    assert seen[3].full_quality
    assert brayns.Image().download(instance).data


def test_lights_models_and_picking(instance: brayns.Instance) -> None:
    brayns.clear_lights(instance)
    light = brayns.add_light(instance, brayns.DirectionalLight(2.0, direction=brayns.Axis.down))
    assert brayns.get_model(instance, light.id).type == "light"
    for model in brayns.get_models(instance):
        if model.type == "neuron":
            assert brayns.update_model(instance, model.id, visible=False).visible is False
    assert brayns.pick(instance, brayns.Vector2(0.47, 0.66)) is None
    neuron = brayns.get_models(instance)[0]
    brayns.update_model(instance, neuron.id, visible=True)
    hit = brayns.pick(instance, brayns.Vector2(0.47, 0.66))
    assert hit is not None
    assert hit.model_id == neuron.id
    assert hit.position in neuron.bounds


def test_progress_and_cancel(instance: brayns.Instance) -> None:
    snapshot = brayns.Snapshot(renderer=brayns.ProductionRenderer(samples_per_pixel=5000))
    task = snapshot.download_task(instance)
    for progress in task:
        assert progress.operation
        task.cancel()
        break
    with pytest.raises(brayns.JsonRpcError) as caught:
        task.wait_for_result()
    assert caught.value.code == 20
    brayns.check_version(instance)
