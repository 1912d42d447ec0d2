"""ReferenceNet: a UNet that reads the character's detail off one latent image (section 3.2 of the paper)."""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.models.config import Policy, UNetConfig
from aa_jax.models.unet import Features, UNet


class ReferenceNet(UNet):
    """SD-1.5's UNet without its last norm and convolution. No pose and no noise go in: the timestep is 0."""

    def __init__(self, config: UNetConfig, *, policy: Policy | None = None, rngs: nnx.Rngs):
        super().__init__(config, policy=policy or Policy(), rngs=rngs)

    def __call__(self, latents: Float[Array, "b h w c"], context: Float[Array, "b k d"]) -> Features:
        """The feature bank, one entry `(b, tokens, channels)` per attention site.

        Only the bank is returned, so whatever follows the last site's norm is not computed in a compiled program. Its
        weights are kept because published files hold them.
        """
        time_embedding = self.embed_time(jnp.zeros(1))
        return self.trunk(latents[:, None], time_embedding, self.condition(context))[1]
