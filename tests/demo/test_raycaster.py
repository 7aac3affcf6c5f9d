from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vsmgate.demo.camera import Camera, Lens, Orthographic, Perspective, View
from vsmgate.demo.raycaster import cast
from vsmgate.demo.scene import Array, Geometry, grow_neuron, merge
from vsmgate.demo.steps import finish

FRONT = View((0.0, 0.0, 10.0), (0.0, 0.0, 0.0))


def shapes(centers: list[list[float]], radii: list[float], *bodies: tuple[int, int]) -> Geometry:
    return Geometry(
        centers=np.array(centers, dtype=float),
        radii=np.array(radii),
        colors=np.ones((len(radii), 3)),
        bodies=np.array(bodies, dtype=np.int64).reshape(-1, 2),
        owners=np.zeros(len(radii), dtype=np.int64),
    )


def depths(geometry: Geometry, camera: Camera, width: int = 33, height: int = 33) -> Array:
    hits = finish(cast(geometry, Lens.look(camera, width, height)))
    return np.asarray(hits.depth.reshape(height, width))


def test_a_sphere_is_met_where_it_stands() -> None:
    ball = shapes([[0, 0, 0]], [1.0])
    for projection in (Perspective(30.0), Orthographic(4.0)):
        depth = depths(ball, Camera(FRONT, projection))
        assert depth[16, 16] == pytest.approx(9.0)
        assert np.isinf(depth[0, 0])
    # Orthographic: the image of a sphere of radius 1 on a plane 4 high covers pi/16 of it.
    share = np.isfinite(depths(ball, Camera(FRONT, Orthographic(4.0)), 200, 200)).mean()
    assert share == pytest.approx(math.pi / 16, rel=0.01)
    # Perspective: the tangent cone of the sphere, cut by the image plane.
    share = np.isfinite(depths(ball, Camera(FRONT, Perspective(30.0)), 200, 200)).mean()
    radius = 1.0 / math.sqrt(99.0) / (2.0 * math.tan(math.radians(15.0)))
    assert share == pytest.approx(math.pi * radius**2, rel=0.01)


def test_a_cylinder_is_met_between_its_ends() -> None:
    rod = shapes([[-2, 0, 0], [2, 0, 0]], [0.5, 0.5], (0, 1))
    depth = depths(rod, Camera(FRONT, Orthographic(6.0)), 60, 60)
    assert depth[30, 30] == pytest.approx(9.5, abs=0.01)
    share = np.isfinite(depths(rod, Camera(FRONT, Orthographic(6.0)), 300, 300)).mean()
    assert share == pytest.approx((4.0 + math.pi * 0.25) / 36.0, rel=0.01)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=6, max_size=6),
    st.floats(0.2, 1.5),
    st.floats(0.2, 1.5),
    st.booleans(),
)
def test_a_body_is_the_hull_of_many_spheres(
    ends: list[float], first: float, second: float, perspective: bool
) -> None:
    """The closed form agrees with what a body is: spheres that shrink along a line."""
    one, two = np.array(ends[:3]), np.array(ends[3:])
    share = np.linspace(0.0, 1.0, 400)[:, None]
    beads = shapes(
        (one + share * (two - one)).tolist(), (first + share[:, 0] * (second - first)).tolist()
    )
    body = shapes([one.tolist(), two.tolist()], [first, second], (0, 1))
    projection = Perspective(60.0) if perspective else Orthographic(10.0)
    camera = Camera(View((1.0, 2.0, 12.0), (0.0, 0.0, 0.0)), projection)
    found, expected = depths(body, camera), depths(beads, camera)
    # The beads never stick out; and they are met everywhere but along the outline.
    assert (found <= expected + 1e-6).all()
    both = np.isfinite(found) & np.isfinite(expected)
    assert (np.isfinite(found) & ~both).sum() <= 0.04 * found.size
    if both.any():
        assert np.median(expected[both] - found[both]) < 0.01


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-4, 4), min_size=6, max_size=6), st.floats(0.2, 1.0))
def test_a_body_around_or_beside_the_eye_is_cut_off_nowhere(ends: list[float], end: float) -> None:
    share = np.linspace(0.0, 1.0, 400)[:, None]
    one, two = np.array(ends[:3]), np.array(ends[3:])
    beads = shapes((one + share * (two - one)).tolist(), (0.2 + share[:, 0] * (end - 0.2)).tolist())
    body = shapes([one.tolist(), two.tolist()], [0.2, end], (0, 1))
    camera = Camera(View((0.0, 0.0, 0.0), (0.0, 0.0, -1.0)), Perspective(90.0))
    # Inside a body, its skin is not met.
    assume(min(np.linalg.norm(beads.centers, axis=1) - beads.radii) > 0.1)
    missed = np.isfinite(depths(beads, camera)) & np.isinf(depths(body, camera))
    assert not missed.any()


def test_the_nearest_surface_wins() -> None:
    two = shapes([[0, 0, 0], [0, 0, 5]], [1.0, 0.5])
    hits = finish(cast(two, Lens.look(Camera(FRONT), 33, 33)))
    assert hits.shape.reshape(33, 33)[16, 16] == 1
    assert hits.depth.reshape(33, 33)[16, 16] == pytest.approx(4.5)


def test_what_is_behind_or_nearer_than_the_near_clip_is_not_met() -> None:
    behind = shapes([[0, 0, 20]], [1.0])
    assert np.isinf(depths(behind, Camera(FRONT))).all()
    ball = shapes([[0, 0, 0]], [1.0])
    clipped = depths(ball, Camera(FRONT, near=9.5))
    assert np.isinf(clipped[16, 16])
    assert clipped[np.isfinite(clipped)].min() > 9.5


def test_an_eye_inside_a_sphere_sees_the_rest() -> None:
    both = shapes([[0, 0, 10], [0, 0, 0]], [2.0, 1.0])
    assert depths(both, Camera(FRONT))[16, 16] == pytest.approx(9.0)


def test_up_is_up_and_right_is_right() -> None:
    ball = shapes([[2, 2, 0]], [0.5])
    depth = depths(ball, Camera(FRONT, Orthographic(6.0)))
    row, column = np.argwhere(np.isfinite(depth)).mean(axis=0)
    assert row < 12
    assert column > 20
    mirrored = Camera(FRONT, Orthographic(6.0), start=(0.0, 0.0), end=(1.0, 1.0))
    assert np.array_equal(depths(ball, mirrored), depth[::-1], equal_nan=True)


def test_a_region_is_a_part_of_the_image() -> None:
    camera = Camera(View((60, 20, 330), (10, 55, -20)))
    neuron = grow_neuron()
    whole = depths(neuron, camera, 160, 90)
    # A quarter has its own aspect ratio, that of the whole: the same rays again.
    quarter = replace(camera, start=(0.5, 0.5), end=(1.0, 0.0))
    assert np.allclose(depths(neuron, quarter, 80, 45), whole[45:, 80:])


def test_looking_along_the_up_vector_works() -> None:
    ball = shapes([[0, 0, 0]], [1.0])
    assert depths(ball, Camera(View((0, 10, 0), (0, 0, 0))))[16, 16] == pytest.approx(9.0)


def test_the_work_can_be_dropped_between_two_steps() -> None:
    camera = Camera(View((60, 20, 330), (10, 55, -20)))
    steps = cast(grow_neuron(), Lens.look(camera, 3840, 2160))
    shares = [next(steps) for _ in range(3)]
    assert 0.0 < shares[0] < shares[1] < shares[2] < 1.0
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_the_same_seed_grows_the_same_neuron() -> None:
    one, same, other = grow_neuron(3), grow_neuron(3), grow_neuron(4)
    assert np.array_equal(one.centers, same.centers)
    assert one.centers.shape != other.centers.shape or not np.array_equal(
        one.centers, other.centers
    )


def test_a_neuron_is_one_tree_and_merging_keeps_it() -> None:
    neuron = grow_neuron(3)
    assert (neuron.radii > 0).all()
    assert neuron.bodies.max() < len(neuron.radii)
    both = merge([neuron, grow_neuron(4, owner=7)])
    assert len(both.bodies) == len(neuron.bodies) + len(grow_neuron(4).bodies)
    assert set(both.owners.tolist()) == {0, 7}
    second = both.bodies[len(neuron.bodies) :]
    assert (both.owners[second] == 7).all()


def test_nothing_can_be_cast() -> None:
    assert np.isinf(depths(merge([]), Camera(FRONT))).all()
