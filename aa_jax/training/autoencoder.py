"""The VAE's own objective: images are given back, if asked for also to a network's eye, and latents stay near a
standard normal (arXiv 2112.10752, appendix G)."""

import dataclasses
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float, Key

from aa_jax.metrics.weights import load_metric_network
from aa_jax.models.config import require
from aa_jax.models.vae import symmetric
from aa_jax.training.networks import Networks
from aa_jax.training.objective import Batch, Losses
from aa_jax.training.state import Params

Reconstruction = Literal["l1", "l2"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderObjective:
    """Reconstruction + KL + perceptual distance.

    Attributes:
      reconstruction: "l1" or "l2" of pixels in [-1, 1], counted by the weights of regions where samples have them.
      kl_weight: of the divergence from a standard normal, summed over an image's latents and divided by its pixels'
        values, as the reconstruction is.
      perceptual_weight: of LPIPS by VGG-16 (arXiv 1801.03924); 0 does without.
      perceptual_networks: folder with its network, `lpips_vgg.safetensors` (`tools.convert_weights metrics`).
    """

    reconstruction: Reconstruction = "l1"
    kl_weight: float = 1e-6
    perceptual_weight: float = 0.0
    perceptual_networks: str | None = None

    def __post_init__(self) -> None:
        require(
            self.reconstruction in get_args(Reconstruction),
            f"autoencoder.reconstruction is {self.reconstruction!r}, expected one of {get_args(Reconstruction)}",
        )
        for name in ("kl_weight", "perceptual_weight"):
            require(getattr(self, name) >= 0, f"autoencoder.{name} is {getattr(self, name)}, expected 0 or more")
        require(
            (self.perceptual_weight > 0) == (self.perceptual_networks is not None),
            f"autoencoder.perceptual_weight is {self.perceptual_weight} and perceptual_networks "
            f"{self.perceptual_networks}: set both or neither",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class AutoencoderLoss:
    """The loss on the references and targets of a batch, each an image by itself.

    Attributes:
      networks: the VAE among them.
      objective: see there.
      perceptual: distances of pairs of images in [-1, 1], where the objective has a weight of it.
    """

    networks: Networks
    objective: AutoencoderObjective
    perceptual: Callable[..., Float[Array, " m"]] | None = None

    @classmethod
    def of(cls, networks: Networks, objective: AutoencoderObjective) -> "AutoencoderLoss":
        """With the network that the objective names.

        Raises:
          FileNotFoundError: it is not there.
          ValueError: its file is damaged.
        """
        folder = objective.perceptual_networks
        perceptual = None if folder is None else load_metric_network(folder, "lpips-vgg").apply
        return cls(networks=networks, objective=objective, perceptual=perceptual)

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
        if "weight" in batch:
            size = size * _pixel_weights(batch["weight"].astype(jnp.float32), images.shape)
        reconstruction = size.mean(axis=(1, 2, 3, 4))
        variance = jnp.exp(posterior.log_variance)
        divergence = (jnp.square(posterior.mean) + variance - 1 - posterior.log_variance).sum(axis=(1, 2, 3, 4)) / 2
        divergence = divergence / errors[0].size
        total = reconstruction + self.objective.kl_weight * divergence
        parts = {"reconstruction": reconstruction, "kl": divergence, "mse": jnp.square(errors).mean(axis=(1, 2, 3, 4))}
        if self.perceptual is not None:
            distances = self.perceptual(found, rearrange(images, "b t h w c -> (b t) h w c"))
            parts["perceptual"] = distances.reshape(len(keys), -1).mean(axis=1)
            total = total + self.objective.perceptual_weight * parts["perceptual"]
        return Losses(total=total, parts=parts)


def _pixel_weights(weight: Float[Array, "b t h2 w2"], shape: tuple[int, ...]) -> Float[Array, "b n h w 1"]:
    """The weights of latent places at the pixels of a sample's images, 1 on average over each target; the references,
    which come first, have none."""
    b, n, h, w, _ = shape
    weight = weight / weight.mean(axis=(2, 3), keepdims=True)
    pixels = jnp.repeat(jnp.repeat(weight, h // weight.shape[2], axis=2), w // weight.shape[3], axis=3)
    return jnp.concatenate([jnp.ones((b, n - weight.shape[1], h, w)), pixels], axis=1)[..., None]


def latent_scale(networks: Networks, params: Params, batch: Batch) -> Float[Array, ""]:
    """One over the standard deviation of a batch's latents: `VAEConfig.scaling_factor`, by which the UNets see
    latents of about unit variance (arXiv 2112.10752, appendix G)."""
    latents = networks.module("vae", params).encode(symmetric(batch["reference"])).mean.astype(jnp.float32)
    return 1 / latents.std()
