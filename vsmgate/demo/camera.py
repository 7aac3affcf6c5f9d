"""The camera: where it stands, how it projects, and which part of the image is wanted.

A `Lens` is a camera made ready for one image: it moves points into *camera space* (x to
the right, y up, z along the line of sight) and maps pixels to the image plane. A pixel
is a pair (u, v) there. Perspective: all rays start at the eye and run along (u, v, 1).
Orthographic: they start at (u, v, 0) and run along (0, 0, 1). Either way the ray's
parameter is the depth z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

try:
    import numpy as np
except ImportError as error:  # this module is the first that needs it; users read the last line
    raise ImportError(f"{error}: install it with pip install 'vsmgate[demo]'") from None

from vsmgate.demo.scene import Array

__all__ = ["Box", "Camera", "Lens", "Orthographic", "Perspective", "View"]

Vector = tuple[float, float, float]
Pair = tuple[float, float]
# First and end columns, first and end rows.
Box = tuple[Array, Array, Array, Array]


@dataclass(frozen=True)
class View:
    """Position, target and up vector, in world coordinates."""

    position: Vector
    target: Vector
    up: Vector = (0.0, 1.0, 0.0)


@dataclass(frozen=True)
class Perspective:
    """``fovy``: vertical field of view in degrees. An open aperture blurs what is off focus."""

    fovy: float = 45.0
    aperture_radius: float = 0.0
    focus_distance: float = 1.0


@dataclass(frozen=True)
class Orthographic:
    """``height``: of the image plane, in world units."""

    height: float = 1.0


@dataclass(frozen=True)
class Camera:
    """What the camera methods set.

    ``start`` and ``end``: the wanted part of the image as normalised corners, v upwards;
    the default is the whole image, first row on top.
    """

    view: View
    projection: Perspective | Orthographic = field(default_factory=Perspective)
    near: float = 1e-6
    start: Pair = (0.0, 1.0)
    end: Pair = (1.0, 0.0)


@dataclass(frozen=True)
class Lens:
    """A camera for one image of ``width`` by ``height`` pixels.

    ``axes`` (3, 3): right, up and forward as rows. ``eye`` (3,). ``corner`` and ``step``:
    the image plane coordinates of the first pixel's corner, and of one pixel.
    """

    perspective: bool
    axes: Array
    eye: Array
    corner: Pair
    step: Pair
    width: int
    height: int
    near: float

    @classmethod
    def look(
        cls,
        camera: Camera,
        width: int,
        height: int,
        jitter: Pair = (0.5, 0.5),
        aperture: Pair = (0.0, 0.0),
    ) -> Lens:
        """Make the camera ready.

        ``jitter``: where in each pixel its ray passes, 0 to 1. ``aperture``: where on the
        unit disk of the lens the rays start. Both differ from one accumulated frame to
        the next.
        """
        axes = _axes(camera.view)
        eye = np.array(camera.view.position, dtype=float)
        projection = camera.projection
        perspective = isinstance(projection, Perspective)
        tall = (
            2.0 * math.tan(math.radians(projection.fovy) / 2.0)
            if isinstance(projection, Perspective)
            else projection.height
        )
        wide = tall * width / height
        step = (
            wide * (camera.end[0] - camera.start[0]) / width,
            tall * (camera.end[1] - camera.start[1]) / height,
        )
        left = wide * (camera.start[0] - 0.5) + jitter[0] * step[0]
        top = tall * (camera.start[1] - 0.5) + jitter[1] * step[1]
        if isinstance(projection, Perspective) and projection.aperture_radius > 0.0:
            # A shifted eye with the plane of focus held still is a sheared image plane.
            shift = (
                aperture[0] * projection.aperture_radius,
                aperture[1] * projection.aperture_radius,
            )
            eye = eye + shift[0] * axes[0] + shift[1] * axes[1]
            left -= shift[0] / projection.focus_distance
            top -= shift[1] / projection.focus_distance
        return cls(perspective, axes, eye, (left, top), step, width, height, camera.near)

    def place(self, points: Array) -> Array:
        """World points (n, 3) in camera space."""
        return np.asarray((points - self.eye) @ self.axes.T)

    def turn(self, vectors: Array) -> Array:
        """World directions (n, 3) in camera space."""
        return np.asarray(vectors @ self.axes.T)

    def footprint(self, centers: Array, radii: Array) -> Box:
        """The pixels that hold the spheres' images.

        ``centers`` (n, 3) in camera space. Exact for spheres in front of the eye, generous
        for those beside it, empty for those behind it.
        """
        spans = [self._span(centers[:, axis], centers[:, 2], radii) for axis in (0, 1)]
        return self._box(spans)

    def hull_footprint(self, centers: Array, radii: Array, ends: Array) -> Box:
        """The same for the hulls of pairs of spheres; ``ends`` (m, 2) are their indices."""
        one, two = ends[:, 0], ends[:, 1]
        depth = centers[:, 2]
        front, behind = depth > radii, depth < -radii
        beside = ~(front[one] & front[two]) & ~(behind[one] & behind[two])
        far = np.maximum((depth + radii)[one], (depth + radii)[two])
        spans = []
        for axis in (0, 1):
            across = centers[:, axis]
            low, high = self._span(across, depth, radii)
            # The image of a hull is the hull of the images, unless it passes the eye.
            low, high = np.minimum(low[one], low[two]), np.maximum(high[one], high[two])
            if self.perspective:
                least = np.minimum((across - radii)[one], (across - radii)[two])
                most = np.maximum((across + radii)[one], (across + radii)[two])
                wide_low, wide_high = _beside(least, most, far)
                low, high = np.where(beside, wide_low, low), np.where(beside, wide_high, high)
            spans.append((low, high))
        return self._box(spans)

    def _span(self, across: Array, depth: Array, radii: Array) -> tuple[Array, Array]:
        """The image plane interval of each sphere, along one axis."""
        if not self.perspective:
            return across - radii, across + radii
        # The tangents from the eye to the circle in the plane of this axis and the sight.
        square = depth * depth - radii * radii
        front = (depth > radii) & (square > 1e-12 * depth * depth)
        safe = np.where(front, square, 1.0)
        spread = radii * np.sqrt(np.maximum(across * across + safe, 0.0))
        low, high = _beside(across - radii, across + radii, depth + radii)
        low = np.where(front, (across * depth - spread) / safe, low)
        high = np.where(front, (across * depth + spread) / safe, high)
        behind = depth < -radii
        return np.where(behind, np.inf, low), np.where(behind, -np.inf, high)

    def _box(self, spans: list[tuple[Array, Array]]) -> Box:
        (left, right), (bottom, top) = spans
        columns = _pixels(left, right, self.corner[0], self.step[0], self.width)
        rows = _pixels(bottom, top, self.corner[1], self.step[1], self.height)
        return (*columns, *rows)


def _beside(low: Array, high: Array, far: Array) -> tuple[Array, Array]:
    """The image plane interval of what reaches from before the eye to behind it.

    It lies between ``low`` and ``high`` across, and up to the depth ``far``: what is wholly
    on one side stays on that side.
    """
    far = np.maximum(far, 1e-12)
    return np.where(low > 0, low / far, -np.inf), np.where(high < 0, high / far, np.inf)


def _pixels(low: Array, high: Array, corner: float, step: float, count: int) -> tuple[Array, Array]:
    first, last = (low - corner) / step, (high - corner) / step
    if step < 0:
        first, last = last, first
    start = np.clip(np.ceil(first), 0, count).astype(np.int64)
    end = np.clip(np.floor(last) + 1, 0, count).astype(np.int64)
    return start, np.maximum(start, end)


def _axes(view: View) -> Array:
    forward = _unit(np.subtract(view.target, view.position), np.array([0.0, 0.0, -1.0]))
    up = np.asarray(view.up, dtype=float)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9 * max(1.0, float(np.linalg.norm(up))):
        # Looking along the up vector: any other one does.
        right = np.cross(forward, np.eye(3)[np.argmin(np.abs(forward))])
    right = _unit(right, np.array([1.0, 0.0, 0.0]))
    return np.stack([right, np.cross(right, forward), forward])


def _unit(vector: Array, fallback: Array) -> Array:
    length = float(np.linalg.norm(vector))
    return fallback if length < 1e-12 else vector / length
