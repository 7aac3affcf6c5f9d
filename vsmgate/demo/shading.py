"""From what the rays met to colours: lights, shadows and a depth cue.

Shadows and ambient occlusion are cast as well: a `Shade` is an orthographic depth image
from a light's direction, and a point is lit when nothing in it is nearer to the light.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vsmgate.demo.camera import Camera, Lens, Orthographic, View
from vsmgate.demo.raycaster import Hits, cast
from vsmgate.demo.scene import Array, Geometry
from vsmgate.demo.steps import Steps

__all__ = ["AmbientLight", "DirectionalLight", "Light", "Look", "Shade", "paint"]

Vector = tuple[float, float, float]

SHADE_SIZE = 768
# Pixels that are painted in one step.
SLICE = 1 << 15
# How much of a colour the farthest point of the scene loses to the background.
HAZE = 0.72


@dataclass(frozen=True)
class AmbientLight:
    """Light from everywhere. ``color`` linear RGB."""

    color: Vector = (1.0, 1.0, 1.0)
    intensity: float = 1.0


@dataclass(frozen=True)
class DirectionalLight:
    """Light that travels along ``direction``, from infinitely far."""

    color: Vector = (1.0, 1.0, 1.0)
    intensity: float = 1.0
    direction: Vector = (0.0, 0.0, -1.0)


Light = AmbientLight | DirectionalLight


@dataclass(frozen=True)
class Look:
    """How an image is painted.

    ``background``: RGBA as shown. ``shadows``: whether directional lights cast them.
    ``occlusion``: from how many directions ambient light is tested, 0 for not at all.
    """

    background: tuple[float, float, float, float]
    shadows: bool = True
    occlusion: int = 0


@dataclass(frozen=True)
class Shade:
    """How far light from one direction reaches. Made once per scene and direction."""

    lens: Lens
    depth: Array

    @classmethod
    def cast(cls, geometry: Geometry, direction: Vector) -> Steps[Shade]:
        """The shade of a scene for light that travels along ``direction``."""
        low, high = np.array(geometry.bounds.low), np.array(geometry.bounds.high)
        center, reach = (low + high) / 2.0, float(np.linalg.norm(high - low)) / 2.0 + 1e-3
        away = _unit(direction)
        position = center - 2.0 * reach * away
        up = (0.0, 1.0, 0.0) if abs(away[1]) < 0.9 else (1.0, 0.0, 0.0)
        view = View(tuple(position), tuple(center), up)
        lens = Lens.look(Camera(view, Orthographic(2.0 * reach)), SHADE_SIZE, SHADE_SIZE)
        hits = yield from cast(geometry, lens)
        return cls(lens, hits.depth.astype(np.float32))

    def lit(self, points: Array, normals: Array) -> Array:
        """Whether light reaches the points (n, 3): 0 or 1 each."""
        pixel = abs(self.lens.step[1])
        # Points are moved off their own surface, by what one pixel of the shade covers.
        placed = self.lens.place(points + 1.5 * pixel * normals)
        column = np.rint((placed[:, 0] - self.lens.corner[0]) / self.lens.step[0])
        row = np.rint((placed[:, 1] - self.lens.corner[1]) / self.lens.step[1])
        index = np.clip(row, 0, SHADE_SIZE - 1) * SHADE_SIZE + np.clip(column, 0, SHADE_SIZE - 1)
        return np.asarray(placed[:, 2] <= self.depth[index.astype(np.int64)] + 0.5 * pixel)


def ambient_directions(count: int) -> list[Vector]:
    """``count`` directions spread evenly over the sphere (a Fibonacci lattice)."""
    golden = math.pi * (3.0 - math.sqrt(5.0))
    directions = []
    for index in range(count):
        height = 1.0 - 2.0 * (index + 0.5) / count
        radius = math.sqrt(1.0 - height * height)
        turn = golden * index
        directions.append((radius * math.cos(turn), height, radius * math.sin(turn)))
    return directions


def paint(
    geometry: Geometry,
    lens: Lens,
    hits: Hits,
    lights: Sequence[Light],
    look: Look,
    shades: Mapping[Vector, Shade],
) -> Steps[Array]:
    """The image (height, width, 4): RGBA as shown, 0 to 1.

    ``shades``: one for each direction that ``look`` and ``lights`` ask for.
    """
    image = np.empty((lens.height * lens.width, 4), dtype=np.float32)
    image[:] = look.background
    seen = np.flatnonzero(hits.shape >= 0)
    for begin in range(0, len(seen), SLICE):
        part = seen[begin : begin + SLICE]
        image[part, :3] = _colors(geometry, lens, hits, part, lights, look, shades)
        image[part, 3] = 1.0
        yield min(1.0, (begin + SLICE) / len(seen))
    return image.reshape(lens.height, lens.width, 4)


def _colors(
    geometry: Geometry,
    lens: Lens,
    hits: Hits,
    seen: Array,
    lights: Sequence[Light],
    look: Look,
    shades: Mapping[Vector, Shade],
) -> Array:
    """The colours of pixels that met something, as shown."""
    points, normals, albedo = _surface(geometry, lens, seen, hits)
    world = lens.eye + points @ lens.axes
    facing = normals @ lens.axes
    light = np.zeros_like(albedo)
    for source in lights:
        color = np.array(source.color) * source.intensity
        if isinstance(source, AmbientLight):
            light += _open(world, facing, look, shades)[:, None] * color
            continue
        strength = np.maximum(-(facing @ _unit(source.direction)), 0.0)
        if look.shadows:
            strength *= shades[source.direction].lit(world, facing)
        light += strength[:, None] * color
    sight = np.array([0.0, 0.0, 1.0])
    if lens.perspective:
        sight = points / np.linalg.norm(points, axis=1)[:, None]
    # Tissue scatters light towards its rim.
    rim = (1.0 - np.clip(-(normals * sight).sum(axis=1), 0.0, 1.0)) ** 3
    shown = 1.0 - np.exp(-albedo * light * (0.9 + 1.1 * rim[:, None]))
    shown **= 1.0 / 2.2
    haze = HAZE * _depth_share(geometry, lens, points[:, 2])[:, None]
    return np.asarray(shown * (1.0 - haze) + np.array(look.background[:3]) * haze)


def _open(points: Array, normals: Array, look: Look, shades: Mapping[Vector, Shade]) -> Array:
    """The share of ambient light that reaches each point."""
    if not look.occlusion:
        return np.ones(len(points))
    reached = np.zeros(len(points))
    facing = np.zeros(len(points))
    for direction in ambient_directions(look.occlusion):
        weight = np.maximum(-(normals @ np.array(direction)), 0.0)
        facing += weight
        reached += weight * shades[direction].lit(points, normals)
    return reached / np.maximum(facing, 1e-6)


def _surface(geometry: Geometry, lens: Lens, seen: Array, hits: Hits) -> tuple[Array, Array, Array]:
    """Points and normals in camera space, and colours, of the pixels that met something."""
    row, column = np.divmod(seen, lens.width)
    u = lens.corner[0] + column * lens.step[0]
    v = lens.corner[1] + row * lens.step[1]
    depth = hits.depth[seen]
    spread = depth if lens.perspective else np.ones(len(seen))
    points = np.stack([u * spread, v * spread, depth], axis=1)
    spheres = len(geometry.radii)
    shape = hits.shape[seen].astype(np.int64)
    body = shape >= spheres
    one = np.where(body, geometry.bodies[np.where(body, shape - spheres, 0), 0], shape)
    two = np.where(body, geometry.bodies[np.where(body, shape - spheres, 0), 1], shape)
    start = lens.place(geometry.centers[one])
    axis = lens.place(geometry.centers[two]) - start
    length = np.sqrt((axis * axis).sum(axis=1))
    axis /= np.maximum(length, 1e-12)[:, None]
    radius, end = geometry.radii[one], geometry.radii[two]
    slope = np.where(body, (radius - end) / np.maximum(length, 1e-12), 0.0)
    q = points - start
    x = (q * axis).sum(axis=1)
    # The gradient of the cone's equation (see raycaster); for a sphere it is q.
    normals = (1.0 - slope * slope)[:, None] * q + (radius * slope - x)[:, None] * axis
    normals /= np.maximum(np.linalg.norm(normals, axis=1), 1e-12)[:, None]
    low, high = radius * slope, length + end * slope
    share = np.clip((x - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)[:, None]
    colors = geometry.colors[one] * (1.0 - share) + geometry.colors[two] * share
    return points, normals, colors


def _depth_share(geometry: Geometry, lens: Lens, depth: Array) -> Array:
    """0 at the near side of the scene, 1 at the far side."""
    box = np.array([geometry.bounds.low, geometry.bounds.high])
    corners = np.array([[box[i, 0], box[j, 1], box[k, 2]] for i, j, k in np.ndindex(2, 2, 2)])
    depths = lens.place(corners)[:, 2]
    near, far = max(float(depths.min()), 0.0), float(depths.max())
    return np.asarray(np.clip((depth - near) / max(far - near, 1e-9), 0.0, 1.0))


def _unit(direction: Vector) -> Array:
    return np.array(direction) / max(math.hypot(*direction), 1e-12)
