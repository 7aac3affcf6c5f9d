from __future__ import annotations

import io
from dataclasses import replace
from time import perf_counter

import numpy as np
import pytest
from PIL import Image

from vsmgate.demo.camera import Perspective, View
from vsmgate.demo.engine import Engine, Shot
from vsmgate.demo.pictures import encode
from vsmgate.demo.scene import Array
from vsmgate.demo.shading import AmbientLight, DirectionalLight
from vsmgate.demo.steps import finish

SIZE = (160, 90)


@pytest.fixture
def engine() -> Engine:
    engine = Engine()
    engine.shot = replace(engine.shot, size=SIZE)
    return engine


def one(engine: Engine, **changes: object) -> Array:
    """An image of one frame, with some of the style's values changed."""
    style = replace(engine.shot.style, **{"samples": 1, **changes})
    return finish(engine.take(replace(engine.shot, style=style)))


def moved(shot: Shot, **changes: object) -> Shot:
    return replace(shot, camera=replace(shot.camera, **changes))


def test_the_default_view_shows_neurons_on_a_dark_ground(engine: Engine) -> None:
    image = one(engine)
    background = np.array(engine.shot.style.background[:3])
    shown = np.abs(image[..., :3] - background).max(axis=2) > 0.02
    assert 0.05 < shown.mean() < 0.6
    assert image[..., :3][shown].max() > 0.6
    assert (image[~shown][:, :3] < 0.1).all()


def test_a_default_frame_is_quick() -> None:
    engine = Engine()
    finish(engine.accumulate())
    times = []
    for _ in range(5):
        before = perf_counter()
        finish(engine.accumulate())
        times.append(perf_counter() - before)
    assert min(times) < 0.15


def test_the_image_follows_the_camera(engine: Engine) -> None:
    before = one(engine)
    assert np.array_equal(one(engine), before)
    engine.shot = moved(engine.shot, view=View((0, 50, 400), (0, 50, 0)))
    assert (np.abs(one(engine) - before) > 0.05).mean() > 0.05


def test_frames_add_up_to_smooth_edges(engine: Engine) -> None:
    finish(engine.accumulate())
    rough = engine.image
    assert (engine.accumulation, rough is not None) == (1, True)
    for _ in range(7):
        finish(engine.accumulate())
    smooth = engine.image
    assert rough is not None
    assert smooth is not None
    assert engine.accumulation == 8

    def steps(image: Array) -> float:
        return float(np.abs(np.diff(image[..., :3], axis=1)).max(axis=2).mean())

    assert steps(smooth) < 0.8 * steps(rough)


def test_any_change_starts_the_image_anew(engine: Engine) -> None:
    finish(engine.accumulate())
    engine.shot = moved(engine.shot, near=1.0)
    assert engine.accumulation == 0
    finish(engine.accumulate())
    engine.add_light(AmbientLight())
    assert engine.accumulation == 0


def test_a_snapshot_leaves_the_image_alone(engine: Engine) -> None:
    finish(engine.accumulate())
    before = engine.image
    finish(engine.take(moved(engine.shot, view=View((0, 0, 500), (0, 0, 0)))))
    assert engine.accumulation == 1
    assert before is not None
    assert np.array_equal(engine.image, before)


def test_work_that_is_dropped_leaves_no_half_frame(engine: Engine) -> None:
    steps = engine.accumulate()
    next(steps)
    steps.close()
    assert engine.accumulation == 0
    finish(engine.accumulate())
    assert engine.accumulation == 1


def test_shadows_and_occlusion_take_light_away(engine: Engine) -> None:
    plain = one(engine, shadows=False, occlusion=0)
    assert one(engine, shadows=True, occlusion=0).mean() < plain.mean()
    assert one(engine, shadows=False, occlusion=8).mean() < plain.mean()


def test_lights_light(engine: Engine) -> None:
    engine.remove([model.id for model in engine.models.values() if model.type == "light"])
    dark = one(engine)
    assert dark[..., :3].max() < 0.1
    engine.add_light(DirectionalLight(direction=(0.0, 0.0, -1.0)))
    assert one(engine)[..., :3].max() > 0.5


def test_what_is_hidden_is_not_seen(engine: Engine) -> None:
    before = one(engine)
    hidden = replace(engine.models[0], visible=False)
    engine.put(hidden)
    assert not np.array_equal(one(engine), before)
    engine.put(replace(hidden, visible=True))
    assert np.array_equal(one(engine), before)


def test_an_open_aperture_blurs(engine: Engine) -> None:
    sharp = finish(engine.take(engine.shot))
    lens = Perspective(aperture_radius=8.0, focus_distance=120.0)
    blurred = finish(engine.take(moved(engine.shot, projection=lens)))
    assert not np.allclose(sharp, blurred, atol=0.05)


def test_picking_finds_what_is_seen(engine: Engine) -> None:
    neurons = [model for model in engine.models.values() if model.type == "neuron"]
    places = [(x / 32, y / 18) for x in range(32) for y in range(18)]
    hits = [hit for hit in (engine.pick(*place) for place in places) if hit]
    assert {hit.model_id for hit in hits} <= {model.id for model in neurons}
    assert len(hits) > 20
    for hit in hits:
        bounds = engine.models[hit.model_id].bounds
        low, high = np.array(bounds.low) - 1e-3, np.array(bounds.high) + 1e-3
        assert (low <= hit.position).all()
        assert (hit.position <= high).all()
    assert engine.pick(2.0, 2.0) is None


def test_pictures_are_what_they_say(engine: Engine) -> None:
    clear = one(engine, background=(0.0, 0.0, 0.0, 0.0))
    png = Image.open(io.BytesIO(encode(clear, "png", metadata={"title": "a neuron"})))
    assert (png.format, png.mode, png.size) == ("PNG", "RGBA", SIZE)
    assert png.info["title"] == "a neuron"
    assert np.asarray(png)[..., 3].min() == 0
    jpeg = Image.open(io.BytesIO(encode(clear, "jpg", 90)))
    assert (jpeg.format, jpeg.mode, jpeg.size) == ("JPEG", "RGB", SIZE)
    assert len(encode(clear, "jpg", 10)) < len(encode(clear, "jpg", 100))
    assert Image.open(io.BytesIO(encode(one(engine), "png"))).mode == "RGB"
