"""The VAE's own objective: images are given back, and latents stay near a standard normal (arXiv 2112.10752,
appendix G)."""

import dataclasses
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Key

from aa_jax.models.config import require
from aa_jax.models.vae import symmetric
from aa_jax.training.networks import Networks
from aa_jax.training.objective import Batch, Losses
from aa_jax.training.state import Params

Reconstruction = Literal["l1", "l2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderObjective:
    """Reconstruction + KL.

    Attributes:
      reconstruction: "l1" or "l2" of pixels in [-1, 1].
      kl_weight: of the divergence from a standard normal, summed over an image's latents and divided by its pixels'
        values, as the reconstruction is.
    """

    reconstruction: Reconstruction = "l1"
    kl_weight: float = 1e-6

    def __post_init__(self) -> None:
        require(
            self.reconstruction in get_args(Reconstruction),
            f"autoencoder.reconstruction is {self.reconstruction!r}, expected one of {get_args(Reconstruction)}",
        )
        require(self.kl_weight >= 0, f"autoencoder.kl_weight is {self.kl_weight}, expected 0 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """The loss on the references and targets of a batch, each an image by itself.

    Attributes:
      networks: the VAE among them.
      objective: see there.
    """

    networks: Networks
    objective: AutoencoderObjective

    def __call__(self, params: Params, batch: Batch, keys: Key[Array, " b"], shared_key: Key[Array, ""]) -> Losses:
        """See `aa_jax.training.objective.DenoisingLoss`; latents are drawn with the samples' keys."""
        del shared_key
        images = symmetric(jnp.concatenate([batch["reference"][:, None], batch["target"]], axis=1))
        vae = self.networks.module("vae", params)
        posterior = vae.encode(rearrange(images, "b t h w c -> (b t) h w c"))
        posterior = jax.tree.map(
            lambda x: rearrange(x.astype(jnp.float32), "(b t) h w c -> b t h w c", b=len(keys)), posterior
        )
        latents = jax.vmap(lambda gaussian, key: gaussian.sample(key))(posterior, keys)
        found = vae.decode(rearrange(latents, "b t h w c -> (b t) h w c")).astype(jnp.float32)
        errors = found.reshape(images.shape) - images
        size = jnp.abs(errors) if self.objective.reconstruction == "l1" else jnp.square(errors)
        reconstruction = size.mean(axis=(1, 2, 3, 4))
        variance = jnp.exp(posterior.log_variance)
        divergence = (jnp.square(posterior.mean) + variance - 1 - posterior.log_variance).sum(axis=(1, 2, 3, 4)) / 2
        divergence = divergence / errors[0].size
        parts = {"reconstruction": reconstruction, "kl": divergence, "mse": jnp.square(errors).mean(axis=(1, 2, 3, 4))}
        return Losses(total=reconstruction + self.objective.kl_weight * divergence, parts=parts)


def latent_scale(networks: Networks, params: Params, batch: Batch) -> Float[Array, ""]:
    """One over the standard deviation of a batch's latents: `VAEConfig.scaling_factor`, by which the UNets see
    latents of about unit variance (arXiv 2112.10752, appendix G)."""
    latents = networks.module("vae", params).encode(symmetric(batch["reference"])).mean.astype(jnp.float32)
    return 1 / latents.std()
