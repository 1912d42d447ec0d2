"""The denoising UNet: SD-1.5's UNet over clips, with reference tokens, pose features and temporal layers (section 3
of the paper)."""

import jax
from flax import nnx
from jaxtyping import Array, Float

from aa_jax.models.config import Policy, UNetConfig
from aa_jax.models.layers import GroupNorm, conv
from aa_jax.models.parts import in_parts
from aa_jax.models.transformer import Conditions
from aa_jax.models.unet import Residuals, UNet


class DenoisingUNet(UNet):
    """Predicts what the noise schedule's `prediction_type` says. Without `config.motion` it is SD-1.5's UNet, applied
    frame by frame."""

    def __init__(self, config: UNetConfig, *, policy: Policy | None = None, rngs: nnx.Rngs):
        policy = policy or Policy()
        super().__init__(config, policy=policy, rngs=rngs)
        channels = config.block_out_channels[0]
        axes = 3 if config.group_norm_over_frames else 2
        self.frames_alone = not config.group_norm_over_frames
        self.conv_norm_out = GroupNorm(channels, config.norm_num_groups, epsilon=1e-5, spatial_axes=axes)
        self.conv_out = conv(channels, config.out_channels, 3, policy=policy, rngs=rngs)

    def __call__(
        self,
        sample: Float[Array, "b t h w c"],
        time_embedding: Float[Array, "r d"],
        conditions: Conditions,
        pose: Float[Array, "b t h w d"] | None = None,
        residuals: Residuals | None = None,
    ) -> Float[Array, "rb t h w c"]:
        """One evaluation; see `evaluate`."""
        return self.evaluate(sample, time_embedding, conditions, pose, residuals)[0]

    def evaluate(
        self,
        sample: Float[Array, "b t h w c"],
        time_embedding: Float[Array, "r d"],
        conditions: Conditions,
        pose: Float[Array, "b t h w d"] | None = None,
        residuals: Residuals | None = None,
        inner: Float[Array, "rb t h w d"] | None = None,
    ) -> tuple[Float[Array, "rb t h w c"], Float[Array, "rb t h w d"]]:
        """One evaluation, which can be used for another.

        Args:
          sample: noisy latents (scaled by the VAE's factor); a clip per row, of which a guided evaluation makes two.
          time_embedding: from `embed_time`, one row or as many as `sample`.
          conditions: from `condition`.
          pose: pose features to add to conv_in's output.
          residuals: a ControlNet's, for the conditional rows.
          inner: from an evaluation nearby; see `UNet.trunk`.

        Returns:
          A prediction per row; of guided `conditions`, all unconditional ones and then all conditional ones. And what
          to give as `inner` to an evaluation nearby.
        """
        x, _, inner = self.trunk(sample, time_embedding, conditions, pose, residuals, inner)
        at_once = conditions.layer_frames if self.frames_alone else None
        prediction = in_parts(lambda x: self.conv_out(jax.nn.silu(self.conv_norm_out(x))), x, axis=1, size=at_once)
        return prediction, inner
