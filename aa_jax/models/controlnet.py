"""ControlNet (arXiv 2302.05543), the other way to bring in a reference image, to compare with (section 4.4).

A copy of the UNet's first half sees the noisy latents and, added to them, the reference's; what it finds goes through
convolutions that start at zero into the denoising UNet's skip connections, place by place.
"""

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.models.config import Policy, UNetConfig
from aa_jax.models.layers import conv, zeros_init
from aa_jax.models.transformer import Conditions, Control, share_rows
from aa_jax.models.unet import Residuals, UNetEncoder


class ControlNet(UNetEncoder):
    """Names are diffusers' `ControlNetModel`'s; but the hint is an image's latents, which one convolution reads."""

    def __init__(self, config: UNetConfig, *, policy: Policy | None = None, rngs: nnx.Rngs):
        policy = policy or Policy()
        super().__init__(config, policy=policy, rngs=rngs)
        channels = config.block_out_channels

        def zero_conv(width: int) -> nnx.Conv:
            return conv(width, width, 1, kernel_init=zeros_init, policy=policy, rngs=rngs)

        # Of each level its layers and, in all but the last, the downsampling convolution.
        widths = [channels[0]] + [width for width in channels for _ in range(config.layers_per_block + 1)][:-1]
        self.controlnet_cond_embedding = conv(
            config.in_channels, channels[0], 3, kernel_init=zeros_init, policy=policy, rngs=rngs
        )
        self.controlnet_down_blocks = nnx.List([zero_conv(width) for width in widths])
        self.controlnet_mid_block = zero_conv(channels[-1])

    def control(self, latents: Float[Array, "r h w c"], context: Float[Array, "r k d"]) -> Control:
        """What is needed of reference latents and image embedding tokens, once for all steps and frames."""
        return Control(hint=self.controlnet_cond_embedding(latents)[:, None], context=self.condition(context).context)

    def __call__(
        self, sample: Float[Array, "b t h w c"], time_embedding: Float[Array, "r d"], control: Control
    ) -> Residuals:
        """Residuals for the denoising UNet; `control` has as many rows as the sample or fewer, which consecutive rows
        share."""
        x = self.conv_in(sample) + share_rows(control.hint, len(sample))
        conditions = Conditions(context=control.context, reference={})
        x, skips, _ = self.encode(x, time_embedding, conditions)
        found = [through(skip) for through, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        return [*found, self.controlnet_mid_block(x)]


def without(residuals: Residuals, dropped: Array) -> Residuals:
    """Zeros in dropped rows (condition dropout in training); consecutive rows share one of `dropped` (r,)."""
    return [jnp.where(share_rows(dropped, len(x)).reshape(-1, 1, 1, 1, 1), 0, x) for x in residuals]
