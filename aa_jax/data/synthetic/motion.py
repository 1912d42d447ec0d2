"""What the character does: seven families of motion, each a function of time with parameters from the motion's stream.

Angles are in degrees here. Signs are a person's: positive bends a limb forward (knees: the shin backward), `aside`
lifts it away from the body, `twist` turns its front outward.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from aa_jax.data.synthetic.dice import Dice
from aa_jax.data.synthetic.skeleton import Pose, rotation

FAMILIES = ("gait", "wave", "dance", "squat", "turn", "reach", "idle")
DRAWN = 440
# Targets of a reaching character; longer clips come back to the first.
NUM_TARGETS = 32
TAU = 2 * jnp.pi


@dataclasses.dataclass(frozen=True, kw_only=True)
class Posture:
    """Angles in degrees at several moments; sides are left, right.

    Attributes:
      place: (t, 3) metres aside, above the ground, and forward.
      yaw: (t,) of the whole character, positive to its left.
      spine: (t, 3) lean forward, twist to the left, lean to the right.
      head: (t, 3) nod, turn to the left, tilt to the right.
      shoulder: (t, 2, 3) forward, twist, aside.
      elbow: (t, 2) bend.
      wrist: (t, 2) bend.
      hip: (t, 2, 3) forward, twist, aside.
      knee: (t, 2) bend.
      ankle: (t, 2) toes down.
      curl: (t, 2) of the fingers.
      spread: (t, 2) of the fingers.
    """

    place: Float[Array, "t 3"]
    yaw: Float[Array, " t"]
    spine: Float[Array, "t 3"]
    head: Float[Array, "t 3"]
    shoulder: Float[Array, "t 2 3"]
    elbow: Float[Array, "t 2"]
    wrist: Float[Array, "t 2"]
    hip: Float[Array, "t 2 3"]
    knee: Float[Array, "t 2"]
    ankle: Float[Array, "t 2"]
    curl: Float[Array, "t 2"]
    spread: Float[Array, "t 2"]


def perform(family: Int[Array, ""] | int, number: Int[Array, ""] | int, times: Float[Array, " t"]) -> Pose:
    """The pose at each of `times` (seconds) of the motion `number` of a family (an index in `FAMILIES`)."""

    dice = Dice("motion", number, DRAWN)
    stance = _stance(dice, times)

    def branch(function: Callable[[Dice, Float[Array, " t"], Posture], Posture]) -> Callable[[], dict[str, Array]]:
        return lambda: vars(function(dice.copy(), times, stance))

    functions = (_gait, _wave, _dance, _squat, _turn, _reach, _idle)
    return _pose(Posture(**jax.lax.switch(family, [branch(function) for function in functions])))


def _pose(posture: Posture) -> Pose:
    """Rotations from angles."""
    zero = jnp.zeros_like(posture.knee)
    hinge = {
        "elbow": jnp.stack([-posture.elbow, zero, zero], -1),
        "wrist": jnp.stack([zero, zero, -posture.wrist], -1),
        "knee": jnp.stack([posture.knee, zero, zero], -1),
        "ankle": jnp.stack([posture.ankle, zero, zero], -1),
    }
    limb = jnp.array([-1.0, 1.0, 1.0])
    sides = [posture.shoulder * limb, hinge["elbow"], hinge["wrist"], posture.hip * limb, hinge["knee"], hinge["ankle"]]
    pelvis = jnp.stack([jnp.zeros_like(posture.yaw), posture.yaw, jnp.zeros_like(posture.yaw)], -1)
    return Pose(
        place=posture.place,
        central=rotation(jnp.deg2rad(jnp.stack([pelvis, posture.spine, posture.head], axis=1))),
        sides=rotation(jnp.deg2rad(jnp.stack(sides, axis=2))),
        curl=jnp.deg2rad(posture.curl),
        spread=jnp.deg2rad(posture.spread),
    )


def _stance(dice: Dice, t: Float[Array, " t"]) -> Posture:
    """Standing in a way of one's own, breathing and swaying: what every family starts from."""
    sway = jnp.sin(TAU * dice.uniform(0.12, 0.35, (8,)) * t[:, None] + dice.uniform(0, TAU, (8,)))
    amount = dice.uniform(0.4, 1.0, (8,))
    sway = sway * amount

    def both(forward: Array, twist: Array, aside: Array) -> Float[Array, "t 2 3"]:
        return jnp.broadcast_to(jnp.stack([forward, twist, aside], -1), (len(t), 2, 3))

    ones = jnp.ones((len(t), 2))
    hip_forward = dice.uniform(-3, 8, (2,))
    knee = hip_forward + dice.uniform(3, 8, (2,))
    shoulder = both(dice.uniform(-8, 14, (2,)), dice.uniform(-25, 10, (2,)), dice.uniform(9, 24, (2,)))
    zero = jnp.zeros_like(t)
    return Posture(
        place=jnp.stack([dice.uniform(-0.06, 0.06) + 0.015 * sway[:, 0], zero, zero], -1),
        yaw=dice.uniform(-55, 55) + 3 * sway[:, 1],
        spine=jnp.stack([dice.uniform(-2, 7) + 1.5 * sway[:, 2], dice.uniform(-8, 8) + 3 * sway[:, 3],
                         dice.uniform(-4, 4) + 1.5 * sway[:, 4]], -1),
        head=jnp.stack([dice.uniform(-6, 9) + 2 * sway[:, 5], dice.uniform(-22, 22) + 6 * sway[:, 6],
                        dice.uniform(-6, 6) + 2 * sway[:, 7]], -1),
        shoulder=shoulder + 1.5 * sway[:, 2, None, None],
        elbow=dice.uniform(8, 38, (2,)) * ones,
        wrist=dice.uniform(-10, 15, (2,)) * ones,
        hip=both(hip_forward, dice.uniform(2, 16, (2,)), dice.uniform(2, 8, (2,))),
        knee=knee * ones,
        ankle=(hip_forward - knee) * ones,
        curl=dice.uniform(8, 45, (2,)) * ones,
        spread=dice.uniform(0, 12, (2,)) * ones,
    )  # fmt: skip


def _gait(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Walking on the spot, with a slow drift aside."""
    phase = TAU * dice.uniform(0.7, 1.1) * t + dice.uniform(0, TAU)
    legs = phase[:, None] + jnp.array([0.0, jnp.pi])
    swing, lift = jnp.sin(legs), jnp.maximum(jnp.cos(legs), 0.0)
    hip = 4 + dice.uniform(20, 34) * swing + 6 * lift
    knee = 6 + dice.uniform(35, 62) * lift
    drift = dice.uniform(0.04, 0.14) * jnp.sin(TAU * dice.uniform(0.05, 0.15) * t + dice.uniform(0, TAU))
    return dataclasses.replace(
        stance,
        place=stance.place.at[:, 0].add(drift + 0.012 * jnp.sin(phase)),
        spine=stance.spine.at[:, 1].add(-dice.uniform(3, 9) * jnp.sin(phase)).at[:, 0].add(3),
        shoulder=stance.shoulder.at[..., 0].add(-dice.uniform(16, 40) * swing),
        elbow=stance.elbow + dice.uniform(4, 30) * (1 - swing) / 2,
        hip=stance.hip.at[..., 0].set(hip),
        knee=knee,
        ankle=0.7 * (hip - knee),
    )


def _wave(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Waving with one hand or both."""
    raised = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])[dice.below(3)]
    beat = jnp.sin(TAU * dice.uniform(0.7, 1.6) * t[:, None] + dice.uniform(0, TAU, (2,)))
    upper = jnp.stack([dice.uniform(0, 30, (2,)), dice.uniform(70, 100, (2,)), dice.uniform(75, 135, (2,))], -1)
    elbow = dice.uniform(30, 80, (2,)) + dice.uniform(15, 32) * beat
    shoulder = upper + jnp.stack([0 * beat, 0 * beat, 6 * beat], -1)
    return dataclasses.replace(
        stance,
        shoulder=stance.shoulder + raised[:, None] * (shoulder - stance.shoulder),
        elbow=stance.elbow + raised * (elbow - stance.elbow),
        wrist=stance.wrist + raised * (12 * beat - stance.wrist),
        curl=stance.curl + raised * (5 - stance.curl),
        spread=stance.spread + raised * (dice.uniform(8, 20) - stance.spread),
    )


def _dance(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Three harmonics of a slow beat in every joint."""
    frequency = dice.uniform(0.15, 0.3) * jnp.arange(1, 4)

    def beat(count: int) -> Float[Array, "t count"]:
        amount = dice.uniform(0.2, 1.0, (3, count)) / jnp.array([1.0, 1.4, 2.2])[:, None]
        phase = dice.uniform(0, TAU, (3, count))
        waves = jnp.sin(TAU * frequency[:, None] * t[:, None, None] + phase)
        return (amount * waves).sum(axis=1) / 1.2

    arms, trunk, legs = beat(10), beat(8), beat(6)
    arms = arms.reshape(-1, 2, 5)
    hip_aside = 7 + 7 * (1 + legs[:, :2])
    knee = 10 + 24 * (1 + legs[:, 2:4])
    hip = 0.5 * knee + 12 * legs[:, 4:6]
    forward, aside = 25 + 45 * arms[..., 0], 55 + 50 * arms[..., 1]
    return dataclasses.replace(
        stance,
        place=stance.place + jnp.stack([0.1 * trunk[:, 0], 0 * t, 0 * t], -1),
        yaw=stance.yaw * 0.5 + 35 * trunk[:, 1],
        spine=stance.spine + jnp.stack([6 * trunk[:, 2], 16 * trunk[:, 3], 12 * trunk[:, 4]], -1),
        head=stance.head + jnp.stack([8 * trunk[:, 5], 22 * trunk[:, 6], 10 * trunk[:, 7]], -1),
        shoulder=jnp.stack([forward, 35 + 50 * arms[..., 2], jnp.maximum(aside, 5)], -1),
        elbow=55 + 50 * arms[..., 3],
        wrist=20 * arms[..., 4],
        hip=stance.hip.at[..., 0].set(hip).at[..., 2].set(hip_aside),
        knee=knee,
        ankle=hip - knee,
        curl=stance.curl * (1 + 0.6 * arms[..., 4]),
    )


def _squat(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Bending the knees deep and rising again, arms forward as a counterweight."""
    deep = dice.uniform(0.6, 1.0) * (1 - jnp.cos(TAU * dice.uniform(0.25, 0.55) * t + dice.uniform(0, TAU))) / 2
    both = deep[:, None] * jnp.ones(2)
    arms = jnp.stack([dice.uniform(30, 95), 0 * dice.uniform(), dice.uniform(-5, 25)])
    hip = stance.hip[..., 0] + 92 * both
    knee = stance.knee + 118 * both
    return dataclasses.replace(
        stance,
        spine=stance.spine.at[:, 0].add(dice.uniform(12, 30) * deep),
        head=stance.head.at[:, 0].add(-12 * deep),
        shoulder=stance.shoulder + both[..., None] * (arms - stance.shoulder * jnp.array([0.0, 0.6, 0.0])),
        elbow=stance.elbow + both * dice.uniform(-5, 70),
        hip=stance.hip.at[..., 0].set(hip).at[..., 2].add(dice.uniform(4, 18) * both).at[..., 1].add(14 * both),
        knee=knee,
        ankle=hip - knee,
    )


def _turn(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Turning round on the spot with small steps."""
    rate = dice.uniform(60, 130) * (2 * dice.chance(0.5) - 1)
    phase = TAU * dice.uniform(0.8, 1.2) * t[:, None] + jnp.array([0.0, jnp.pi])
    lift = jnp.maximum(jnp.sin(phase), 0.0)
    hip, knee = stance.hip[..., 0] + 18 * lift, stance.knee + 34 * lift
    swing = dice.uniform(4, 18) * jnp.sin(phase)
    return dataclasses.replace(
        stance,
        yaw=stance.yaw + rate * t + dice.uniform(-90, 90),
        head=stance.head.at[:, 1].add(jnp.sign(rate) * 12),
        shoulder=stance.shoulder.at[..., 0].add(swing).at[..., 2].add(dice.uniform(0, 45, (2,))),
        hip=stance.hip.at[..., 0].set(hip),
        knee=knee,
        ankle=hip - knee,
    )


def _reach(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Moving the hands from place to place, each move of least jerk."""
    step = t / dice.uniform(0.6, 1.3) + dice.uniform(0, NUM_TARGETS)
    done = jnp.clip((step - jnp.floor(step)) / 0.8, 0.0, 1.0)
    done = (done**3 * (10 - 15 * done + 6 * done**2))[:, None]
    current = jnp.floor(step).astype(jnp.int32) % NUM_TARGETS
    targets = dice.uniform(shape=(NUM_TARGETS, 10))

    moved = targets[current] + done * (targets[(current + 1) % NUM_TARGETS] - targets[current])
    arms = moved[:, :8].reshape(-1, 2, 4)
    shoulder = jnp.stack([-10 + 140 * arms[..., 0], -10 + 80 * arms[..., 1], 5 + 60 * arms[..., 2]], -1)
    bend = 22 * moved[:, 8]
    return dataclasses.replace(
        stance,
        spine=stance.spine + jnp.stack([bend, 40 * (moved[:, 9] - 0.5), 0 * bend], -1),
        head=stance.head + jnp.stack([bend * 0.5, 30 * (moved[:, 9] - 0.5), 0 * bend], -1),
        shoulder=shoulder,
        elbow=5 + 80 * arms[..., 3],
        hip=stance.hip.at[..., 0].add(0.5 * bend[:, None]),
        knee=stance.knee + 0.8 * bend[:, None],
        ankle=stance.ankle - 0.3 * bend[:, None],
        curl=stance.curl * 0.6,
    )


def _idle(dice: Dice, t: Float[Array, " t"], stance: Posture) -> Posture:
    """Standing with the arms held somehow: at the sides, on the hips, before the chest."""
    slow = jnp.sin(TAU * dice.uniform(0.15, 0.4, (2,)) * t[:, None] + dice.uniform(0, TAU, (2,)))
    #                 forward, twist, aside, elbow
    held = jnp.array([[5, -10, 14, 15], [-18, -50, 42, 88], [25, -55, 8, 92], [-10, -60, 12, 55], [20, 10, 30, 110]])
    arms = held[dice.below(len(held), (2,))] + dice.uniform(-8, 8, (2, 4))
    weight = 5 * slow[:, :1] * jnp.array([1.0, -1.0])
    return dataclasses.replace(
        stance,
        spine=stance.spine.at[:, 2].add(2.5 * slow[:, 0]),
        shoulder=arms[:, :3] + 2 * slow[..., None],
        elbow=arms[:, 3] + 3 * slow,
        hip=stance.hip.at[..., 2].add(weight * 0.6),
        curl=stance.curl,
    )
