"""A ray caster for spheres and tapered branches, in numpy.

`cast` finds, for the ray of every pixel, the nearest surface. Instead of a tree it uses
the image: a shape is intersected only with the rays of the pixels that its exact bounding
rectangle covers. All pairs of a shape and a pixel are laid out in flat arrays and solved
together, a bounded number at a time, so the caller may stop between two slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vsmgate.demo.camera import Lens
from vsmgate.demo.scene import Array, Geometry
from vsmgate.demo.steps import Steps

__all__ = ["Hits", "cast"]

# Pairs of a shape and a pixel in one slice: some ten milliseconds of work.
SLICE = 1 << 17


@dataclass
class Hits:
    """What the rays met, one entry per pixel, row by row from the top left.

    ``depth``: along the line of sight, infinite where nothing was met. ``shape``: the
    sphere's index, or the number of spheres plus the body's; -1 where nothing was met.
    """

    depth: Array
    shape: Array


@dataclass(frozen=True)
class _Shapes:
    """Spheres or bodies in camera space.

    ``start`` (n, 3) and ``radius`` (n,) belong to the (first) sphere. For bodies, ``axis``
    (n, 3) is the unit vector to the second one, ``slope`` the loss of radius per length,
    and a point of the skin lies between ``low`` and ``high`` along the axis.
    """

    start: Array
    radius: Array
    axis: Array
    slope: Array
    low: Array
    high: Array
    first: int


def cast(geometry: Geometry, lens: Lens) -> Steps[Hits]:
    """What the rays of all pixels meet."""
    pixels = lens.width * lens.height
    hits = Hits(np.full(pixels, np.inf), np.full(pixels, -1, dtype=np.int32))
    centers = lens.place(geometry.centers)
    bodies, whole = _bodies(geometry, centers)
    boxes = [
        lens.footprint(centers, geometry.radii),
        lens.hull_footprint(centers, geometry.radii, geometry.bodies[whole]),
    ]
    total = max(1, sum(int(((b - a) * (d - c)).sum()) for a, b, c, d in boxes))
    done = 0
    for shapes, box in zip((_spheres(geometry, centers), bodies), boxes, strict=True):
        for which, column, row in _pairs(*box):
            _intersect(shapes, lens, which, column, row, hits)
            done += len(which)
            yield done / total
    return hits


def _spheres(geometry: Geometry, centers: Array) -> _Shapes:
    none = np.zeros(len(centers))
    return _Shapes(centers, geometry.radii, np.zeros_like(centers), none, none, none, 0)


def _bodies(geometry: Geometry, centers: Array) -> tuple[_Shapes, Array]:
    """The bodies, and which of the geometry's they are: not those inside one of their spheres."""
    one, two = geometry.bodies[:, 0], geometry.bodies[:, 1]
    axis = centers[two] - centers[one]
    length = np.sqrt((axis * axis).sum(axis=1))
    loss = geometry.radii[one] - geometry.radii[two]
    whole = np.flatnonzero(length > np.abs(loss))
    one, two, length, loss = one[whole], two[whole], length[whole], loss[whole]
    slope = loss / length
    start, end = geometry.radii[one], geometry.radii[two]
    shapes = _Shapes(
        start=centers[one],
        radius=start,
        axis=axis[whole] / length[:, None],
        slope=slope,
        low=start * slope,
        high=length + end * slope,
        first=len(geometry.radii),
    )
    return shapes, whole


def _pairs(
    columns: Array, column_ends: Array, rows: Array, row_ends: Array
) -> Iterator[tuple[Array, Array, Array]]:
    """The (shape, column, row) of every pixel of every rectangle, in slices."""
    widths = column_ends - columns
    shape_of_row, offset = _spread(row_ends - rows, widths > 0)
    row = rows[shape_of_row] + offset
    ends = np.cumsum(widths[shape_of_row])
    begin = 0
    while begin < len(row):
        before = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + SLICE, side="right")))
        shapes = shape_of_row[begin:end]
        line, offset = _spread(widths[shapes], np.ones(len(shapes), dtype=bool))
        which = shapes[line]
        yield which, columns[which] + offset, row[begin:end][line]
        begin = end


def _spread(counts: Array, wanted: Array) -> tuple[Array, Array]:
    """Each index as often as its count says, and the running number within it."""
    counts = np.where(wanted, counts, 0)
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index]


def _intersect(
    shapes: _Shapes, lens: Lens, which: Array, column: Array, row: Array, hits: Hits
) -> None:
    """Solve the pairs and keep what is nearer than the hits so far.

    A ray is o + t d. With q = o + t d - start and x its part along the axis, a sphere is
    q.q = r^2, and the tangent cone around a body is m q.q - x^2 + 2 r k x - r^2 = 0, where
    k is the slope and m = 1 - k^2 (k is the sine of the cone's half angle). A body whose
    axis is zero is a sphere: one equation serves both.
    """
    u = lens.corner[0] + column * lens.step[0]
    v = lens.corner[1] + row * lens.step[1]
    sx, sy, sz = (shapes.start[which, i] for i in range(3))
    radius = shapes.radius[which]
    if lens.perspective:
        dd = u * u + v * v + 1.0
        qd = -(sx * u + sy * v + sz)
        qq = (shapes.start * shapes.start).sum(axis=1)[which]
    else:
        ox, oy = u - sx, v - sy
        dd = np.ones(len(which))
        qd = -sz
        qq = ox * ox + oy * oy + sz * sz
    bodies = shapes.first > 0
    if bodies:
        ax, ay, az = (shapes.axis[which, i] for i in range(3))
        slope = shapes.slope[which]
        if lens.perspective:
            qx = -(shapes.start * shapes.axis).sum(axis=1)[which]
            dx = ax * u + ay * v + az
        else:
            qx = ox * ax + oy * ay - sz * az
            dx = az
        m = 1.0 - slope * slope
        lean = radius * slope
        qq = m * qq + qx * (2.0 * lean - qx)
        qd = m * qd + dx * (lean - qx)
        dd = m * dd - dx * dx
    inside = qd * qd - dd * (qq - radius * radius)
    met = np.flatnonzero((inside > 0.0) & (np.abs(dd) > 1e-12))
    # Where the ray comes in: at the first root or, when it is steeper than the cone (dd < 0),
    # at the second, having left the cone's mirror image at the first. One formula gives both.
    depth = (-qd[met] - np.sqrt(inside[met])) / dd[met]
    good = depth > lens.near
    if bodies:
        along = qx[met] + depth * dx[met]
        good &= (along >= shapes.low[which[met]]) & (along <= shapes.high[which[met]])
    met, depth = met[good], depth[good]
    pixel = row[met] * lens.width + column[met]
    np.minimum.at(hits.depth, pixel, depth)
    nearest = depth == hits.depth[pixel]
    hits.shape[pixel[nearest]] = which[met[nearest]] + shapes.first
