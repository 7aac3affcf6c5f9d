"""Neurons as geometry: trees of tapered branches, grown from a seed.

A `Geometry` is spheres and *bodies*: a body is the skin around two of the spheres, so a
branch of shrinking spheres and the bodies between them is smooth. Lengths are micrometres.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Bounds", "Geometry", "grow_neuron", "merge"]

Array = NDArray[Any]
Vector = tuple[float, float, float]

SOMA_RADIUS = 9.0
STEP = 7.0
# Colours by distance along the tree, linear RGB: a warm soma, cool tips.
DENDRITE_COLORS = (
    (1.00, 0.36, 0.04),
    (0.95, 0.12, 0.12),
    (0.55, 0.06, 0.60),
    (0.08, 0.22, 0.95),
    (0.03, 0.70, 0.90),
)
AXON_COLORS = ((0.95, 0.45, 0.04), (0.45, 0.75, 0.10), (0.04, 0.65, 0.35))
SPINE_COLOR = (1.0, 0.80, 0.35)


@dataclass(frozen=True)
class Bounds:
    """An axis-aligned box, two corners of three coordinates."""

    low: Vector
    high: Vector


@dataclass(frozen=True)
class Geometry:
    """Spheres, and bodies between pairs of them.

    ``centers`` (n, 3), ``radii`` (n,), ``colors`` (n, 3) linear RGB, ``bodies`` (m, 2)
    indices of spheres, ``owners`` (n,) the model id of each sphere.
    """

    centers: Array
    radii: Array
    colors: Array
    bodies: Array
    owners: Array

    @property
    def bounds(self) -> Bounds:
        """The box around all spheres; a point at the origin when there are none."""
        if not len(self.radii):
            return Bounds((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
        low = (self.centers - self.radii[:, None]).min(axis=0)
        high = (self.centers + self.radii[:, None]).max(axis=0)
        return Bounds(tuple(low.tolist()), tuple(high.tolist()))


def merge(geometries: Iterable[Geometry]) -> Geometry:
    """All of them as one, indices shifted."""
    parts = [empty(), *geometries]
    shifts = np.cumsum([0] + [len(part.radii) for part in parts[:-1]])
    return Geometry(
        centers=np.concatenate([part.centers for part in parts]),
        radii=np.concatenate([part.radii for part in parts]),
        colors=np.concatenate([part.colors for part in parts]),
        bodies=np.concatenate(
            [part.bodies + shift for part, shift in zip(parts, shifts, strict=True)]
        ),
        owners=np.concatenate([part.owners for part in parts]),
    )


def empty() -> Geometry:
    """Nothing at all."""
    return Geometry(
        centers=np.zeros((0, 3)),
        radii=np.zeros(0),
        colors=np.zeros((0, 3)),
        bodies=np.zeros((0, 2), dtype=np.int64),
        owners=np.zeros(0, dtype=np.int64),
    )


@dataclass(frozen=True)
class Habit:
    """How one kind of branch grows.

    ``reach``: length of the whole branch. ``taper``: its radius at the end, as a share of
    the start. ``wander``: how far each step may turn. ``lift``: how much each step leans
    up (or down). ``fork`` and ``spines``: chances per step.
    """

    reach: float
    radius: float
    taper: float
    wander: float
    lift: float
    fork: float
    spines: float


APICAL = Habit(330.0, 3.4, 0.35, 0.16, 0.060, 0.05, 0.35)
BASAL = Habit(165.0, 2.3, 0.30, 0.26, -0.010, 0.085, 0.45)
OBLIQUE = Habit(120.0, 1.5, 0.35, 0.26, 0.006, 0.05, 0.55)
TUFT = Habit(130.0, 1.7, 0.28, 0.28, 0.012, 0.09, 0.45)
AXON = Habit(300.0, 1.3, 0.55, 0.22, -0.032, 0.05, 0.0)


def grow_neuron(seed: int = 11, owner: int = 0, origin: Vector = (0.0, 0.0, 0.0)) -> Geometry:
    """A pyramidal cell with its soma at ``origin``; the same seed gives the same cell."""
    growth = _Growth(seed)
    warm = DENDRITE_COLORS[0]
    soma = growth.sphere(origin, SOMA_RADIUS, warm)
    # The soma of a pyramidal cell is a drop: it runs out into the apical trunk.
    shoulder = growth.sphere(_along(origin, (0.0, 1.0, 0.0), 1.25 * SOMA_RADIUS), 4.2, warm, soma)

    last = shoulder
    for sphere, heading, share in growth.branch(
        shoulder, (0.05, 1.0, 0.05), APICAL, DENDRITE_COLORS, 0.0
    ):
        last = sphere
        if 0.12 < share < 0.85 and growth.chance(0.22):
            away = _along(growth.across(heading), heading, 0.25)
            growth.finish(sphere, away, OBLIQUE, DENDRITE_COLORS, 0.2 + 0.5 * share)
    for index in range(5):
        angle = 2.0 * math.pi * index / 5
        away = (math.cos(angle), 0.9, math.sin(angle))
        growth.finish(last, away, TUFT, DENDRITE_COLORS, 0.65)

    for index in range(7):
        angle = 2.0 * math.pi * index / 7 + growth.noise(0.15)
        away = _unit((math.cos(angle), growth.noise(0.3) - 0.25, math.sin(angle)))
        foot = growth.sphere(_along(origin, away, 0.95 * SOMA_RADIUS), 3.2, warm, soma)
        growth.finish(foot, away, BASAL, DENDRITE_COLORS, 0.08)

    hillock = growth.sphere(
        _along(origin, (0.0, -1.0, 0.0), SOMA_RADIUS), 2.2, AXON_COLORS[0], soma
    )
    growth.finish(hillock, (0.1, -1.0, 0.1), AXON, AXON_COLORS, 0.0)
    return growth.geometry(owner)


class _Growth:
    """A tree under construction. Plain numbers: its steps are many and each is tiny."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._centers: list[Vector] = []
        self._radii: list[float] = []
        self._colors: list[Vector] = []
        self._bodies: list[tuple[int, int]] = []

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def noise(self, width: float) -> float:
        return self._random.gauss(0.0, width)

    def anywhere(self, width: float = 1.0) -> Vector:
        return (self.noise(width), self.noise(width), self.noise(width))

    def across(self, heading: Vector) -> Vector:
        """Any direction at a right angle to ``heading``."""
        (ax, ay, az), (bx, by, bz) = heading, self.anywhere()
        return _unit((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx))

    def sphere(
        self, center: Vector, radius: float, color: Vector, parent: int | None = None
    ) -> int:
        """Add a sphere, with a body from ``parent`` to it; its index."""
        self._centers.append(center)
        self._radii.append(radius)
        self._colors.append(color)
        if parent is not None:
            self._bodies.append((parent, len(self._radii) - 1))
        return len(self._radii) - 1

    def finish(
        self, root: int, heading: Vector, habit: Habit, palette: Sequence[Vector], start: float
    ) -> None:
        """Grow a branch to its end."""
        for _ in self.branch(root, heading, habit, palette, start):
            pass

    def branch(
        self, root: int, heading: Vector, habit: Habit, palette: Sequence[Vector], start: float
    ) -> Iterator[tuple[int, Vector, float]]:
        """Grow one branch and its forks; yields (sphere, heading, share of the reach).

        ``start``: where on the palette (0 to 1) the branch begins.
        """
        stack = [(root, _unit(heading), habit.radius, habit.reach)]
        while stack:
            sphere, heading, radius, left = stack.pop()
            while left > 0:
                x, y, z = _along(heading, self.anywhere(habit.wander), 1.0)
                heading = _unit((x, y + habit.lift, z))
                share = 1.0 - left / habit.reach
                thin = radius * (1.0 - (1.0 - habit.taper) * share)
                color = _shade(palette, start + (1.0 - start) * share)
                sphere = self.sphere(
                    _along(self._centers[sphere], heading, STEP), thin, color, sphere
                )
                if self.chance(habit.spines):
                    self._spine(sphere, self.across(heading), thin, color)
                left -= STEP
                yield sphere, heading, share
                if left > 4 * STEP and self.chance(habit.fork):
                    away = _along(heading, _unit(self.anywhere()), 0.9)
                    stack.append((sphere, _unit(away), radius * 0.85, left * 0.85))

    def _spine(self, sphere: int, out: Vector, radius: float, color: Vector) -> None:
        base = self._centers[sphere]
        neck = self.sphere(_along(base, out, radius), 0.28, color)
        self.sphere(_along(base, out, radius + 2.0), 0.75, SPINE_COLOR, neck)

    def geometry(self, owner: int) -> Geometry:
        return Geometry(
            centers=np.array(self._centers),
            radii=np.array(self._radii),
            colors=np.array(self._colors),
            bodies=np.array(self._bodies, dtype=np.int64),
            owners=np.full(len(self._radii), owner, dtype=np.int64),
        )


def _along(point: Vector, direction: Vector, distance: float) -> Vector:
    return (
        point[0] + distance * direction[0],
        point[1] + distance * direction[1],
        point[2] + distance * direction[2],
    )


def _unit(vector: Vector) -> Vector:
    length = max(math.hypot(*vector), 1e-12)
    return (vector[0] / length, vector[1] / length, vector[2] / length)


def _shade(palette: Sequence[Vector], share: float) -> Vector:
    """The colour at ``share`` (0 to 1) of a palette."""
    place = share * (len(palette) - 1)
    index = min(int(place), len(palette) - 2)
    (r, g, b), (r2, g2, b2), s = palette[index], palette[index + 1], place - index
    return (r + s * (r2 - r), g + s * (g2 - g), b + s * (b2 - b))
