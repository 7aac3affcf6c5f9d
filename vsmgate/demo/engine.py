"""What the renderer knows: its models, its lights, and how to look at them.

Used from one thread at a time. Rendering is work in `Steps`: it can be dropped between two.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from vsmgate.demo.camera import Camera, Lens, View
from vsmgate.demo.raycaster import cast
from vsmgate.demo.scene import Array, Bounds, Geometry, grow_neuron, merge
from vsmgate.demo.shading import (
    AmbientLight,
    DirectionalLight,
    Light,
    Look,
    Shade,
    ambient_directions,
    paint,
)
from vsmgate.demo.steps import Steps, finish, within

__all__ = ["Engine", "Hit", "Model", "Shot", "Style"]

Vector = tuple[float, float, float]
Size = tuple[int, int]

# Shades kept before all are thrown away; each is two megabytes.
MOST_SHADES = 96

NEURONS: tuple[tuple[int, Vector], ...] = (
    (11, (0.0, 0.0, 0.0)),
    (5, (-210.0, 40.0, -160.0)),
    (23, (230.0, -30.0, -210.0)),
    (31, (60.0, 90.0, -330.0)),
)
LIGHTS: tuple[Light, ...] = (
    AmbientLight((0.75, 0.85, 1.0), 0.5),
    DirectionalLight((1.0, 0.95, 0.85), 2.3, (-0.5, -0.75, -0.55)),
    DirectionalLight((0.3, 0.5, 1.0), 1.0, (0.8, 0.25, 0.35)),
)


@dataclass(frozen=True)
class Model:
    """Something in the scene: a neuron or a light."""

    id: int
    type: str
    content: Geometry | Light
    visible: bool = True
    info: dict[str, object] = field(default_factory=dict)

    @property
    def bounds(self) -> Bounds:
        """The box around it. A light has none: a point at the origin."""
        if isinstance(self.content, Geometry):
            return self.content.bounds
        return Bounds((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


@dataclass(frozen=True)
class Style:
    """A Brayns renderer and its parameters. ``samples``: frames that one image accumulates."""

    name: str
    samples: int
    bounces: int
    background: tuple[float, float, float, float] = (0.016, 0.024, 0.062, 1.0)
    shadows: bool = True
    occlusion: int = 8


@dataclass(frozen=True)
class Shot:
    """All that decides what one image looks like, but for the scene."""

    camera: Camera
    style: Style
    size: Size


@dataclass(frozen=True)
class Hit:
    """What a ray met."""

    position: Vector
    model_id: int


@dataclass
class _Film:
    """Frames of one shot added up."""

    shot: Shot
    scene: int
    light: Array
    frames: int = 0

    @classmethod
    def blank(cls, shot: Shot, scene: int) -> _Film:
        width, height = shot.size
        return cls(shot, scene, np.zeros((height, width, 4), dtype=np.float32))


class Engine:
    """The scene, and the shot that ``render-image`` takes of it.

    ``version`` grows with every change of the scene.
    """

    def __init__(self) -> None:
        self.shot = Shot(
            Camera(View((60.0, 20.0, 330.0), (10.0, 55.0, -20.0))),
            Style("interactive", samples=4, bounces=3),
            (640, 360),
        )
        self.models: dict[int, Model] = {}
        self._next_id = 0
        self.version = 0
        self._scene: Geometry | None = None
        self._shades: dict[Vector, Shade] = {}
        self._film: _Film | None = None
        for seed, origin in NEURONS:
            self.grow(seed, origin)
        for light in LIGHTS:
            self.add_light(light)

    # The scene ---------------------------------------------------------------

    def grow(self, seed: int, origin: Vector = (0.0, 0.0, 0.0)) -> Model:
        """Add a neuron."""
        geometry = grow_neuron(seed, self._next_id, origin)
        return self._add("neuron", geometry, {"seed": seed, "segments": len(geometry.bodies)})

    def add_light(self, light: Light) -> Model:
        """Add a light."""
        return self._add("light", light, {})

    def _add(self, kind: str, content: Geometry | Light, info: dict[str, object]) -> Model:
        model = Model(self._next_id, kind, content, info=info)
        self._next_id += 1
        self.put(model)
        return model

    def put(self, model: Model) -> None:
        """Add a model, or replace the one that has its id."""
        self.models[model.id] = model
        self._changed()

    def remove(self, ids: list[int]) -> None:
        """Remove models. Raises `KeyError` with the first unknown id, and removes none."""
        for identity in ids:
            self.models[identity]
        for identity in ids:
            self.models.pop(identity, None)
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._scene = None
        self._shades.clear()

    @property
    def scene(self) -> Geometry:
        """All visible neurons."""
        if self._scene is None:
            self._scene = merge(
                model.content
                for model in self.models.values()
                if model.visible and isinstance(model.content, Geometry)
            )
        return self._scene

    @property
    def lights(self) -> list[Light]:
        """All lights that are on."""
        return [
            model.content
            for model in self.models.values()
            if model.visible and not isinstance(model.content, Geometry)
        ]

    # Images ------------------------------------------------------------------

    @property
    def accumulation(self) -> int:
        """How many frames the current image has."""
        film = self._film
        fresh = film is not None and (film.shot, film.scene) == (self.shot, self.version)
        return film.frames if film is not None and fresh else 0

    def accumulate(self) -> Steps[None]:
        """Add one frame to the current image."""
        film = self._film
        if film is None or not self.accumulation:
            film = self._film = _Film.blank(self.shot, self.version)
        yield from self._expose(film)

    @property
    def image(self) -> Array | None:
        """The image so far (height, width, 4), 0 to 1; None when nothing was rendered."""
        film = self._film
        return film.light / film.frames if film is not None and film.frames else None

    def take(self, shot: Shot) -> Steps[Array]:
        """An image of its own, as `image`."""
        film = _Film.blank(shot, self.version)
        for frame in range(shot.style.samples):
            yield from within(
                frame / shot.style.samples, (frame + 1) / shot.style.samples, self._expose(film)
            )
        return np.asarray(film.light / film.frames)

    def _expose(self, film: _Film) -> Steps[None]:
        """Add one frame to a film."""
        scene, lights, style = self.scene, self.lights, film.shot.style
        look = Look(style.background, style.shadows, style.occlusion)
        yield from within(0.0, 0.0, self._shade(scene, lights, look))
        width, height = film.shot.size
        lens = Lens.look(film.shot.camera, width, height, *_scatter(film.frames))
        hits = yield from within(0.0, 0.5, cast(scene, lens))
        frame = yield from within(0.5, 1.0, paint(scene, lens, hits, lights, look, self._shades))
        film.light += frame
        film.frames += 1

    def _shade(self, scene: Geometry, lights: list[Light], look: Look) -> Steps[None]:
        """Make the shades that are missing."""
        wanted = set(ambient_directions(look.occlusion))
        if look.shadows:
            wanted |= {light.direction for light in lights if isinstance(light, DirectionalLight)}
        missing = wanted - self._shades.keys()
        if len(self._shades) + len(missing) > MOST_SHADES:
            self._shades.clear()
            missing = wanted
        for direction in missing:
            self._shades[direction] = yield from Shade.cast(scene, direction)

    def pick(self, across: float, down: float) -> Hit | None:
        """What is at a place of the image; both from 0 to 1, from the top left."""
        width, height = self.shot.size
        lens = Lens.look(self.shot.camera, width, height, (0.0, 0.0))
        corner = (
            lens.corner[0] + across * width * lens.step[0],
            lens.corner[1] + down * height * lens.step[1],
        )
        lens = replace(lens, corner=corner, width=1, height=1)
        hits = finish(cast(self.scene, lens))
        if hits.shape[0] < 0:
            return None
        depth, shape = float(hits.depth[0]), int(hits.shape[0])
        spread = depth if lens.perspective else 1.0
        point = lens.eye + np.array([corner[0] * spread, corner[1] * spread, depth]) @ lens.axes
        if shape >= len(self.scene.radii):
            shape = int(self.scene.bodies[shape - len(self.scene.radii), 0])
        x, y, z = point.tolist()
        return Hit((x, y, z), int(self.scene.owners[shape]))


def _scatter(frame: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where frame ``frame`` passes its pixels (0 to 1), and the lens (the unit disk).

    Halton sequences: any number of frames covers both evenly. The first is in the middle.
    """
    if frame == 0:
        return (0.5, 0.5), (0.0, 0.0)
    pixel = (_halton(frame, 2), _halton(frame, 3))
    radius, turn = _halton(frame, 5) ** 0.5, 2.0 * np.pi * _halton(frame, 7)
    return pixel, (radius * float(np.cos(turn)), radius * float(np.sin(turn)))


def _halton(index: int, base: int) -> float:
    share, value = 1.0, 0.0
    while index:
        share /= base
        index, digit = divmod(index, base)
        value += share * digit
    return value
