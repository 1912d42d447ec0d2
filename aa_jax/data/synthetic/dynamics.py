"""What swings: hair and skirt as damped pendulums hung on the moving body.

Their state depends on the motion's history, not on the pose: the same pose is seen with different hair.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

GRAVITY = 9.81
STEEPEST = 1.1


def swing(
    anchor: Float[Array, "t 3"], frequency: Float[Array, ""], damping: Float[Array, ""], step: Float[Array, ""] | float
) -> Float[Array, "t 2"]:
    """Angles of a damped pendulum whose anchor moves.

    theta'' = -omega^2 theta - 2 zeta omega theta' - a / l with omega^2 = g / l: semi-implicit Euler steps from rest.

    Args:
      anchor: its place at equal steps of time, metres; the first two are taken to be at rest.
      frequency: of the free pendulum, Hz.
      damping: damping ratio zeta.
      step: seconds between anchors; well below a period.

    Returns:
      Radians by which it hangs to +x and to +z, within +-1.1.
    """
    omega = 2 * jnp.pi * frequency
    acceleration = jnp.diff(anchor[:, ::2], n=2, axis=0) / step**2
    acceleration = jnp.concatenate([jnp.zeros((2, 2)), acceleration])
    force = -jnp.clip(acceleration, -3 * GRAVITY, 3 * GRAVITY) * omega**2 / GRAVITY

    def advance(
        state: tuple[Float[Array, "2"], Float[Array, "2"]], push: Float[Array, "2"]
    ) -> tuple[tuple[Float[Array, "2"], Float[Array, "2"]], Float[Array, "2"]]:
        angle, speed = state
        speed = speed + step * (push - omega**2 * jnp.sin(angle) - 2 * damping * omega * speed)
        angle = jnp.clip(angle + step * speed, -STEEPEST, STEEPEST)
        return (angle, speed), angle

    rest = jnp.zeros(2)
    return jax.lax.scan(advance, (rest, rest), force)[1]
