"""The parts that scenes are made of, against geometry and physics worked out otherwise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.data.synthetic.camera import DISTANCE, STATURE, View, views
from aa_jax.data.synthetic.character import BONES, character, look
from aa_jax.data.synthetic.dice import Dice
from aa_jax.data.synthetic.dynamics import GRAVITY, swing
from aa_jax.data.synthetic.motion import FAMILIES, perform
from aa_jax.data.synthetic.paint import pack, unpack
from aa_jax.data.synthetic.skeleton import FOREARM, SHIN, THIGH, UPPER_ARM, pose_skeleton, rotation
from aa_jax.data.synthetic.tube import Tube, locate, on_front, outline, surface

TIMES = jnp.arange(24) / 12
PERFORM = jax.jit(perform)


@pytest.fixture(scope="module")
def poses():
    return {family: PERFORM(FAMILIES.index(family), 5, TIMES) for family in FAMILIES}


@pytest.fixture(scope="module")
def skeletons(poses):
    pose = jax.jit(pose_skeleton)
    lengths = character(3).lengths
    return {family: pose(lengths, performed) for family, performed in poses.items()}


def view(pitch: float = 0.0) -> View:
    return View(
        focal=jnp.float32(60.0), pitch=jnp.array([np.cos(pitch), np.sin(pitch)], jnp.float32), zoom=jnp.float32(1.0),
        centre=jnp.array([48.0, 64.0]), pan=jnp.zeros(2), middle=jnp.array([48.0, 64.0]),
    )  # fmt: skip


def tubes(count: int, seed: int, layer: float = 0.0) -> Tube:
    """Tubes of all directions and proportions near the middle."""
    draw = np.random.default_rng(seed).uniform
    start = draw(-0.3, 0.3, (count, 3)) + np.array([0, STATURE / 2, 0])
    fields = {
        "start": start, "end": start + draw(-0.4, 0.4, (count, 3)), "side": draw(-1, 1, (count, 3)),
        "start_width": draw(0.06, 0.2, count), "end_width": draw(0.06, 0.2, count), "depth": draw(0.6, 1.3, count),
        "start_cap": draw(0.3, 1.0, count), "end_cap": draw(0.3, 1.0, count), "layer": np.full(count, layer),
        "hem": draw(0.3, 0.7, count), "present": np.ones(count),
    }  # fmt: skip
    return Tube(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def test_a_ball_is_seen_as_a_disc():
    """A tube of no length with round ends: the disc's area, its depth, and material that covers the front half."""
    centre = jnp.array([[0.1, STATURE / 2 + 0.05, 0.2]])
    one = jnp.ones(1)
    ball = Tube(
        start=centre, end=centre + jnp.array([[0.0, 1e-4, 0.0]]), side=jnp.array([[1.0, 0.0, 0.0]]),
        start_width=0.3 * one, end_width=0.3 * one, depth=one,
        start_cap=one, end_cap=one, layer=0 * one, hem=0 * one, present=one,
    )  # fmt: skip
    seen = jax.tree.map(lambda value: value[0], outline(ball, view()))
    shown = surface(seen, jnp.arange(96) + 0.5, jnp.arange(128) + 0.5)
    scale = 60 * DISTANCE / (DISTANCE - 0.2)
    assert float(shown.cover.sum()) == pytest.approx(np.pi * (0.3 * scale) ** 2, rel=0.01)
    assert float((shown.depth * (shown.cover == 1)).max()) == pytest.approx(0.5, abs=0.005)
    inside = np.asarray(shown.cover == 1)
    along, across, front = (np.asarray(value)[inside] for value in (shown.along, shown.across, shown.front))
    np.testing.assert_allclose(across**2 + front**2 + (along / 0.3) ** 2, 1, atol=0.01)
    assert front.min() > 0


@pytest.mark.parametrize(("pitch", "layer"), [(0.0, 0.0), (0.3, 0.0), (0.3, 0.03)])
def test_material_and_pixels_are_inverses(pitch, layer):
    """Every visible pixel's material coordinates lead back to it."""
    every = outline(tubes(40, 1, layer), view(pitch))
    x, y = jnp.arange(96) + 0.5, jnp.arange(128) + 0.5
    checked = 0
    for index in range(40):
        tube = jax.tree.map(lambda value, index=index: value[index], every)
        shown = surface(tube, x, y)
        place, facing = locate(tube, shown.across, shown.front, shown.along)
        # Ends on are degenerate; the hem is a step, at which a pixel may fall on either side.
        inside = np.asarray(shown.cover) == 1
        at_hem = np.abs(np.asarray(shown.fraction) - float(tube.hem)) * float(tube.bone) < 0.02 + layer
        if float(tube.length) < 2:
            continue
        inside &= ~at_hem if layer else True
        expected = np.stack(np.meshgrid(x, y), axis=-1)
        np.testing.assert_allclose(np.asarray(place)[inside], expected[inside], atol=0.02)
        assert np.asarray(facing)[inside].min() >= -1e-4
        checked += inside.sum()
    assert checked > 5000


def test_surfaces_are_those_of_projected_tubes():
    """A point on the true surface in space, projected by the camera, is where its material coordinates are located."""
    camera = view()
    solid = tubes(30, 2)
    every = outline(solid, camera)
    generator = np.random.default_rng(3)
    errors = []
    for index in range(30):
        start, end, side = (np.asarray(getattr(solid, name)[index], float) for name in ("start", "end", "side"))
        axis = (end - start) / np.linalg.norm(end - start)
        side = side - (side @ axis) * axis
        side /= np.linalg.norm(side)
        angle, fraction = generator.uniform(0, 2 * np.pi, 50), generator.uniform(0.05, 0.95, 50)
        width = np.asarray(solid.start_width[index] + fraction * (solid.end_width[index] - solid.start_width[index]))
        point = start + fraction[:, None] * (end - start) + width[:, None] * (
            np.cos(angle)[:, None] * side + float(solid.depth[index]) * np.sin(angle)[:, None] * np.cross(side, axis)
        )  # fmt: skip
        tube = jax.tree.map(lambda value, index=index: jnp.broadcast_to(value[index], (50, *value.shape[1:])), every)
        bone = np.linalg.norm(end - start)
        place, _ = locate(tube, jnp.cos(angle), jnp.sin(angle), jnp.asarray(fraction * bone))
        if abs(axis[2]) < 0.4:
            errors.append(
                np.linalg.norm(np.asarray(place) - np.asarray(camera.project(jnp.asarray(point))[0]), axis=-1)
            )
    # Perspective and taper within a tube are approximated: a fraction of a pixel of tubes 20 pixels wide.
    assert np.mean(errors) < 0.6 and len(errors) >= 8, np.mean(errors)


def test_points_on_the_front_have_the_distance_asked_for():
    tube = jax.tree.map(lambda value: value[:1], outline(tubes(1, 4), view()))
    across, front = on_front(tube, jnp.array([0.03]), jnp.array([0.02]))
    fraction = 0.02 / float(tube.bone[0])
    width = float(tube.start_width[0] + fraction * (tube.end_width[0] - tube.start_width[0]))
    assert float(across[0]) == pytest.approx(0.03 / width) and float(front[0]) > 0
    assert float(across[0] ** 2 + front[0] ** 2) == pytest.approx(1, abs=1e-5)


def test_colours_survive_packing():
    values = jnp.asarray(np.random.default_rng(0).uniform(size=(3, 50)), jnp.float32)
    np.testing.assert_allclose(jnp.stack(unpack(pack(tuple(values)))), values, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_bones_keep_their_lengths(skeletons, family):
    bones = skeletons[family]
    pairs = {
        "thigh": (bones.hip, bones.knee, THIGH), "shin": (bones.knee, bones.ankle, SHIN),
        "upper_arm": (bones.shoulder, bones.elbow, UPPER_ARM), "forearm": (bones.elbow, bones.wrist, FOREARM),
    }  # fmt: skip
    for name, (start, end, length) in pairs.items():
        expected = length * np.asarray(bones.factors[0, BONES.index(name)])
        np.testing.assert_allclose(np.linalg.norm(start - end, axis=-1), expected, rtol=1e-4)
    fingers = np.asarray(bones.hands).reshape(len(TIMES), 2, 21, 3)
    phalanges = np.linalg.norm(fingers[:, :, 6:9] - fingers[:, :, 5:8], axis=-1)
    np.testing.assert_allclose(phalanges, np.broadcast_to(phalanges[:1, :1], phalanges.shape), rtol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_characters_stand_on_the_ground(skeletons, family):
    bones = skeletons[family]
    np.testing.assert_allclose(np.asarray(bones.feet)[..., 1].min(axis=(1, 2)), 0, atol=1e-5)
    assert np.asarray(bones.head)[:, 1].min() > 0.5


def test_sides_mirror_each_other(poses):
    """The same angles on both sides make a figure that is its own mirror image."""
    pose = poses["dance"]
    same = type(pose)(
        place=jnp.zeros_like(pose.place), central=jnp.broadcast_to(jnp.eye(3), pose.central.shape),
        sides=jnp.repeat(pose.sides[:, :1], 2, axis=1), curl=jnp.repeat(pose.curl[:, :1], 2, axis=1),
        spread=jnp.repeat(pose.spread[:, :1], 2, axis=1),
    )  # fmt: skip
    bones = jax.jit(pose_skeleton)(character(3).lengths, same)
    for name in ("elbow", "wrist", "knee", "ankle", "hands", "feet"):
        left, right = (np.asarray(getattr(bones, name))[:, side] for side in (0, 1))
        np.testing.assert_allclose(left * np.array([-1, 1, 1]), right, atol=1e-5)


def test_rotations_turn_about_y_then_x_then_z():
    angles = jnp.array([0.3, -0.5, 0.7])
    about_x, about_y, about_z = (rotation(angles * jnp.eye(3)[axis]) for axis in range(3))
    np.testing.assert_allclose(rotation(angles), about_z @ about_x @ about_y, atol=1e-6)
    np.testing.assert_allclose(about_y @ jnp.array([0.0, 0.0, 1.0]), [np.sin(-0.5), 0, np.cos(0.5)], atol=1e-6)


def test_families_are_what_they_say(skeletons, poses):
    yaw = np.unwrap(np.arctan2(poses["turn"].central[:, 0, 0, 2], poses["turn"].central[:, 0, 2, 2]))
    assert abs(yaw[-1] - yaw[0]) > np.deg2rad(100)
    for family in ("gait", "wave", "reach", "idle", "squat"):
        fixed = np.arctan2(poses[family].central[:, 0, 0, 2], poses[family].central[:, 0, 2, 2])
        assert np.abs(fixed).max() < np.deg2rad(70), family
    height = {family: np.asarray(bones.pelvis)[:, 1] for family, bones in skeletons.items()}
    assert np.ptp(height["squat"]) > 0.2 > 5 * np.ptp(height["idle"])
    bones = skeletons["wave"]
    assert (np.asarray(bones.wrist)[..., 1].max(axis=1) > np.asarray(bones.neck)[:, 1]).all()
    ankles = np.asarray(skeletons["gait"].ankle)[..., 2]
    assert np.corrcoef(ankles[:, 0], ankles[:, 1])[0, 1] < -0.5


def test_a_pendulum_swings_at_its_frequency_and_comes_to_rest():
    """The anchor is moved once; the period and the decay are those of a damped oscillator."""
    step, frequency, damping = 1 / 240, 1.2, 0.15
    anchor = np.zeros((1200, 3), np.float32)
    anchor[20:, 0] = 0.01
    angle = np.asarray(swing(jnp.asarray(anchor), frequency, damping, step))[:, 0]
    crossings = np.nonzero(np.diff(np.sign(angle[30:800])))[0]
    period = 2 * np.diff(crossings).mean() * step
    assert period == pytest.approx(1 / (frequency * np.sqrt(1 - damping**2)), rel=0.03)
    peaks = [np.abs(angle[30 + a : 30 + b]).max() for a, b in zip(crossings[:-1], crossings[1:], strict=True)]
    decay = np.exp(-np.pi * damping / np.sqrt(1 - damping**2))
    np.testing.assert_allclose(np.array(peaks[1:4]) / peaks[:3], decay, rtol=0.06)
    assert np.abs(angle[-100:]).max() < 0.01 * np.abs(angle).max()


def test_a_pendulum_hangs_back_under_acceleration():
    """Steady acceleration a to +x holds it at an angle of sine -a / g."""
    time = np.arange(3000) / 240
    anchor = np.stack([0.5 * 3.0 * time**2, 0 * time, 0 * time], axis=-1)
    # In double precision: second differences of large places.
    with jax.enable_x64(True):
        angle = np.asarray(swing(jnp.asarray(anchor), 1.2, 0.3, 1 / 240))
    assert angle[-1, 0] == pytest.approx(-np.arcsin(3.0 / GRAVITY), abs=0.01)
    assert np.abs(angle[:, 1]).max() < 1e-6


def test_hair_depends_on_the_past():
    """The same pose at the same moment after other motions finds other angles."""
    path = np.zeros((200, 3), np.float32)
    other = path.copy()
    other[:150, 0] = 0.1 * np.sin(np.arange(150) / 8)
    still, moved = (np.asarray(swing(jnp.asarray(anchor), 1.2, 0.2, 1 / 48)) for anchor in (path, other))
    assert np.abs(moved[160] - still[160]).max() > 0.02


def test_streams_are_independent():
    """The same integer in two streams, and two integers in one, give unrelated numbers; the same gives the same."""
    draw = {(stream, number): np.asarray(Dice(stream, number, 2000).uniform(shape=(2000,)))
            for stream in ("identity", "motion", "camera", "background") for number in (0, 1)}  # fmt: skip
    table = np.corrcoef(np.stack(list(draw.values())))
    assert np.abs(table - np.eye(8)).max() < 0.1
    np.testing.assert_array_equal(draw["motion", 1], Dice("motion", 1, 2000).uniform(shape=(2000,)))
    with pytest.raises(ValueError, match="more are asked for"):
        Dice("motion", 1, 3).uniform(shape=(4,))


def test_thickness_is_independent_of_length():
    people = jax.jit(jax.vmap(character))(jnp.arange(200))
    assert people.lengths.min() >= 0.75 and people.lengths.max() <= 1.3
    assert np.abs(np.corrcoef(people.lengths.T, people.build.T)[: len(BONES), len(BONES) :]).max() < 0.3
    looks = np.asarray(jax.vmap(look)(people))
    assert len(np.unique(looks, axis=0)) == 200 and np.isfinite(looks).all()


def test_cameras():
    """Still ones do not move, moving ones do, and both show the same at the same size."""
    still, moving = (views(4, TIMES, height=96, width=72, moving=flag) for flag in (False, True))
    assert np.ptp(still.zoom) == 0 and np.ptp(np.asarray(still.pan), axis=0).max() == 0
    assert np.ptp(moving.zoom) > 0.005 and np.ptp(np.asarray(moving.pan), axis=0).max() > 0.2
    larger = views(4, TIMES, height=192, width=144, moving=True)
    point = jnp.array([0.3, 1.2, 0.2])
    first, double = (jax.tree.map(lambda value: value[7], camera).project(point)[0] for camera in (moving, larger))
    np.testing.assert_allclose(2 * first, double, rtol=1e-5)
