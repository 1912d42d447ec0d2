"""What training minimises: per-sample losses of a batch, a pure function of parameters, batch and keys.

Axes: b samples (one reference each), t targets of a sample, h, w, c of latents; m images.
"""

import dataclasses
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int, Key

from aa_jax.config import ModelConfig
from aa_jax.data.encode_frames import EMBEDDING, MOMENTS
from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.clip_vision import clip_pixels
from aa_jax.models.config import VAEConfig, needed, require
from aa_jax.models.controlnet import without
from aa_jax.models.precision import widen
from aa_jax.models.vae import DiagonalGaussian, symmetric
from aa_jax.training.networks import Networks
from aa_jax.training.state import Params

Batch = dict[str, Array]
"""`aa_jax.data.sample.Sample`'s with a leading axis."""
DropoutUnit = Literal["sample", "batch"]
# Streams of a sample's random numbers.
LATENTS, TIMESTEPS, NOISE, OFFSET, DROPOUT = range(5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """The denoising objective; what is predicted and the noise schedule are the model's (`ModelConfig.schedule`).

    Attributes:
      min_snr_gamma: losses are weighted by min(SNR, gamma), counted in the predicted quantity's terms (arXiv
        2303.09556, section 3.4); None for equal weights, as in the paper. Published systems: 5.
      noise_offset: of each channel's mean noise, added in training (published systems: 0.05).
      condition_dropout: probability that a sample sees no reference and the unconditional embedding, as in the
        unconditional half of guidance; the pose stays.
      dropout_unit: each "sample" is drawn for itself, or the whole "batch" at once (published systems).
    """

    min_snr_gamma: float | None = None
    noise_offset: float = 0.0
    condition_dropout: float = 0.1
    dropout_unit: DropoutUnit = "sample"

    def __post_init__(self) -> None:
        gamma = self.min_snr_gamma
        require(gamma is None or gamma > 0, f"objective.min_snr_gamma is {gamma}, expected a positive number or none")
        require(
            self.noise_offset >= 0, f"objective.noise_offset is {self.noise_offset}, expected 0 or a positive number"
        )
        require(
            0 <= self.condition_dropout < 1,
            f"objective.condition_dropout is {self.condition_dropout}, expected a probability below 1",
        )
        require(
            self.dropout_unit in get_args(DropoutUnit),
            f"objective.dropout_unit is {self.dropout_unit!r}, expected one of {', '.join(get_args(DropoutUnit))}",
        )


class Losses(NamedTuple):
    """Of each sample of a batch.

    Attributes:
      total: what is minimised.
      parts: what else is worth telling, by name.
    """

    total: Float[Array, " b"]
    parts: dict[str, Float[Array, " b"]]


class Drawn(NamedTuple):
    """What a sample's key gives.

    Attributes:
      timesteps: of each target; the same for all of a clip.
      noise: of each target.
    """

    timesteps: Int[Array, "*b t"]
    noise: Float[Array, "*b t h w c"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DenoisingLoss:
    """The loss of both stages of the paper (section 4.1).

    Attributes:
      networks: all of the model's.
      model: their configuration, with the noise schedule and the unconditional embedding.
      objective: see there.
      clip: the targets of a sample are consecutive frames, which share a timestep and see each other through the
        temporal layers (stage 2); else each is an image by itself (stage 1).
    """

    networks: Networks
    model: ModelConfig
    objective: Objective
    clip: bool

    def __call__(self, params: Params, batch: Batch, keys: Key[Array, " b"], shared_key: Key[Array, ""]) -> Losses:
        """Mean squared errors of the samples, weighted.

        Args:
          params: of all networks.
          batch: see the top of this file.
          keys: one of each sample, from which all its random numbers come.
          shared_key: what the whole batch draws from, where dropout is of batches.
        """
        latents = self._latents(params, batch, keys)
        drawn = jax.vmap(lambda key: self._draw(key, latents.shape[1:]))(keys)
        dropped = self._dropped(keys, shared_key)
        noisy = self.model.schedule.add_noise(latents, drawn.noise, drawn.timesteps)
        prediction = self._predict(params, batch, noisy, drawn.timesteps, dropped)
        errors = jnp.square(prediction - self._target(latents, drawn))
        if "weight" in batch:
            weight = batch["weight"].astype(jnp.float32)
            errors = errors * (weight / weight.mean(axis=(1, 2, 3), keepdims=True))[..., None]
        errors = errors.mean(axis=(2, 3, 4))
        weights = jnp.asarray(snr_weights(self.model.schedule, self.objective.min_snr_gamma))[drawn.timesteps]
        return Losses(total=(errors * weights).mean(axis=1), parts={"mse": errors.mean(axis=1)})

    def _latents(self, params: Params, batch: Batch, keys: Key[Array, " b"]) -> Float[Array, "b t h w c"]:
        """Scaled latents of the targets, drawn from the VAE's distribution."""
        if f"target_{MOMENTS}" in batch:
            moments = batch[f"target_{MOMENTS}"]
        else:
            images = rearrange(symmetric(batch["target"]), "b t h w c -> (b t) h w c")
            moments = rearrange(self._moments(params, images), "(b t) h w c -> b t h w c", b=len(keys))
        latents = jax.vmap(lambda m, key: _gaussian(m).sample(jax.random.fold_in(key, LATENTS)))(moments, keys)
        return latents * self._vae.scaling_factor

    def _moments(self, params: Params, images: Float[Array, "m h w 3"]) -> Float[Array, "m h2 w2 c"]:
        """Means and logarithms of the variances, side by side in the channels."""
        found = self.networks.module("vae", params).encode(images)
        return jax.lax.stop_gradient(widen(jnp.concatenate(found, axis=-1)))

    @property
    def _vae(self) -> VAEConfig:
        return needed(self.model.vae, "VAE")

    def _draw(self, key: Key[Array, ""], shape: tuple[int, ...]) -> Drawn:
        frames, *_, channels = shape
        rows = 1 if self.clip else frames
        timesteps = jax.random.randint(
            jax.random.fold_in(key, TIMESTEPS), (rows,), 0, self.model.schedule.num_train_timesteps
        )
        noise = jax.random.normal(jax.random.fold_in(key, NOISE), shape)
        if self.objective.noise_offset:
            offset = jax.random.normal(jax.random.fold_in(key, OFFSET), (rows, 1, 1, channels))
            noise = noise + self.objective.noise_offset * offset
        return Drawn(jnp.broadcast_to(timesteps, (frames,)), noise)

    def _dropped(self, keys: Key[Array, " b"], shared_key: Key[Array, ""]) -> Bool[Array, " b"] | None:
        rate = self.objective.condition_dropout
        if not rate:
            return None
        if self.objective.dropout_unit == "batch":
            return jnp.broadcast_to(jax.random.bernoulli(shared_key, rate), keys.shape)
        return jax.vmap(lambda key: jax.random.bernoulli(jax.random.fold_in(key, DROPOUT), rate))(keys)

    def _predict(
        self,
        params: Params,
        batch: Batch,
        noisy: Float[Array, "b t h w c"],
        timesteps: Int[Array, "b t"],
        dropped: Bool[Array, " b"] | None,
    ) -> Float[Array, "b t h w c"]:
        embedding, unconditional = self._embeddings(params, batch)
        networks, reference, bank = self.networks, self._reference(params, batch), None
        if "reference_unet" in networks.graphs:
            bank = networks.module("reference_unet", params)(reference, embedding)
        unet = networks.module("denoising_unet", params)
        context = embedding if dropped is None else jnp.where(dropped[:, None, None], unconditional, embedding)
        conditions = dataclasses.replace(unet.condition(context, bank), dropped=dropped)
        pose = self._pose(params, batch)
        if self.clip:
            times = timesteps[:, 0]
        else:
            noisy, pose = (rearrange(x, "b t h w c -> (b t) 1 h w c") for x in (noisy, pose))
            times = timesteps.reshape(-1)
        into_latent = needed(self.model.pose_guider, "pose guider").into_latent
        sample, features = (noisy + pose, None) if into_latent else (noisy, pose)
        residuals = None
        if "controlnet" in networks.graphs:
            controlnet = networks.module("controlnet", params)
            residuals = controlnet(noisy, controlnet.embed_time(times), controlnet.control(reference, embedding))
            residuals = residuals if dropped is None else without(residuals, dropped)
        prediction = unet(sample, unet.embed_time(times), conditions, features, residuals)
        return widen(prediction.reshape(len(timesteps), -1, *noisy.shape[2:]))

    def _reference(self, params: Params, batch: Batch) -> Float[Array, "b h w c"]:
        """Scaled latents of the references: the mean, as in inference."""
        if f"reference_{MOMENTS}" in batch:
            moments = batch[f"reference_{MOMENTS}"]
        else:
            moments = self._moments(params, symmetric(batch["reference"]))
        return _gaussian(moments).mean * self._vae.scaling_factor

    def _embeddings(self, params: Params, batch: Batch) -> tuple[Float[Array, "b 1 d"], Float[Array, "1 1 d"]]:
        """Of the references, and the unconditional one that inference uses."""
        if self.model.image_encoder is None:
            width = needed(self.model.denoising_unet, "denoising UNet").cross_attention_dim
            return jnp.zeros((len(batch["pose"]), 1, width)), jnp.zeros((1, 1, width))
        encoder = self.networks.module("image_encoder", params)
        cached = batch.get(f"reference_{EMBEDDING}")
        embedding = encoder(clip_pixels(batch["whole_reference"])) if cached is None else cached
        if self.model.inference.unconditional_embedding == "zeros":
            unconditional = jnp.zeros_like(embedding[:1])
        else:
            size = self.model.image_encoder.image_size
            unconditional = encoder(jnp.zeros((1, size, size, 3)))
        return embedding[:, None], unconditional[:, None]

    def _pose(self, params: Params, batch: Batch) -> Float[Array, "b t h w c"]:
        config = needed(self.model.pose_guider, "pose guider")
        drawn = symmetric(batch["pose"]) if config.input_range == "symmetric" else batch["pose"] / jnp.float32(255)
        return self.networks.module("pose_guider", params)(drawn)

    def _target(self, latents: Float[Array, "b t h w c"], drawn: Drawn) -> Float[Array, "b t h w c"]:
        schedule = self.model.schedule
        if schedule.prediction_type == "epsilon":
            return drawn.noise
        if schedule.prediction_type == "sample":
            return latents
        return schedule.velocity(latents, drawn.noise, drawn.timesteps)


def snr_weights(schedule: NoiseSchedule, gamma: float | None) -> Float[np.ndarray, " T"]:
    """The weight of a squared error in the predicted quantity at each timestep: min-SNR-gamma (arXiv 2303.09556,
    section 3.4), or ones.

    The paper's weight min(SNR, gamma) is of the clean sample's error; an error of epsilon is SNR times smaller in it,
    one of v SNR + 1 times.
    """
    alphas_cumprod = schedule.alphas_cumprod.astype(np.float64)
    if gamma is None:
        return np.ones(len(alphas_cumprod), np.float32)
    if schedule.prediction_type == "epsilon":
        # min(SNR, gamma) / SNR, and its limit 1 where there is no signal.
        weights = np.minimum(1, gamma * (1 - alphas_cumprod) / np.maximum(alphas_cumprod, 1e-300))
    elif schedule.prediction_type == "sample":
        weights = np.minimum(alphas_cumprod / (1 - alphas_cumprod), gamma)
    else:
        # min(SNR, gamma) / (SNR + 1)
        weights = np.minimum(alphas_cumprod, gamma * (1 - alphas_cumprod))
    return weights.astype(np.float32)


def _gaussian(moments: Float[Array, "*b h w c"]) -> DiagonalGaussian:
    return DiagonalGaussian(*jnp.split(widen(moments), 2, axis=-1))
