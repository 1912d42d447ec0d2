"""What a training run is: one frozen value, made by a Python file in `configs/` and changed by the command line.

A stage is what trains (`trains`), what it starts from (`start`) and what it sees (`data`).
"""

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from aa_jax import preprocess
from aa_jax.atomic import StrPath
from aa_jax.config import APPEARANCE, NEEDED, ModelConfig, build
from aa_jax.data.sample import SampleConfig
from aa_jax.data.source import SourceConfig
from aa_jax.models.config import ATTENTION_IMPLEMENTATIONS, Remat, require
from aa_jax.training.autoencoder import AutoencoderObjective
from aa_jax.training.objective import Objective

Dtype = Literal["float32", "bfloat16"]
StoredDtype = Literal["float32", "float16", "bfloat16"]
TRAINABLE = (*NEEDED, *APPEARANCE)


def _check(config: Any, where: str = "", **least: float) -> None:
    """Fields of few values have one of them, and the fields named are at least so large."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            value, known = getattr(config, name), get_args(hint)
            require(value in known, f"{where}{name} is {value!r}, expected one of {', '.join(known)}")
    for name, limit in least.items():
        value = getattr(config, name)
        require(value >= limit, f"{where}{name} is {value}, expected {limit} or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """Model folders that initial weights come from; None: the layers' own random numbers.

    Attributes:
      model: gives every network that it has and that no other field names; of a denoising UNet without temporal layers,
        those start anew.
      denoising_unet: or an SD-1.5 UNet (`tools.convert_weights sd`).
      reference_unet: likewise.
      controlnet: a folder with one.
      motion_module: temporal layers (`tools.convert_weights animatediff`).
      pose_guider: a folder with one; None and no `model`: at random, its last projection zero (section 4.1).
      vae: a folder with one.
      image_encoder: a folder with one.
      random: networks that do not train may start at random too: for measuring speed, not for training.
    """

    model: str | None = None
    denoising_unet: str | None = None
    reference_unet: str | None = None
    controlnet: str | None = None
    motion_module: str | None = None
    pose_guider: str | None = None
    vae: str | None = None
    image_encoder: str | None = None
    random: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank changes of frozen matrices (arXiv 2106.09685); nothing else trains.

    Attributes:
      rank: of a change; 0 trains the parameters themselves.
      targets: patterns of the kernels that are changed, as in `TrainConfig.trains`.
    """

    rank: int = 0
    targets: tuple[str, ...] = ("*.attn1.to_*.kernel", "*.attn2.to_*.kernel", "*.attention_blocks.*.to_*.kernel")

    def __post_init__(self) -> None:
        _check(self, "lora.", rank=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What a run sees.

    Attributes:
      source: the clips.
      sample: what is drawn from a clip; its `frames` make the stage: "single" images or "clip"s.
      cache: folder of encoded frames (`python -m aa_jax.data cache`); None encodes in every step.
      num_workers: processes that make batches; 0 makes them in threads.
    """

    source: SourceConfig
    sample: SampleConfig
    cache: str | None = None
    num_workers: int = 0

    def __post_init__(self) -> None:
        _check(self, "data.", num_workers=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How gradients change parameters.

    Attributes:
      name: "adamw"; "adafactor", whose state is factored: two vectors for each matrix; or "muon", which makes all
        directions of a matrix's update equally large: fewer steps to train from scratch, each with more work.
      learning_rate: at its highest.
      schedule: "constant" after the warm-up, or falling to zero as a "cosine".
      warmup_steps: of linear growth.
      b1, b2, epsilon, weight_decay: AdamW's, and Muon's but for epsilon; Adafactor knows the last only.
      clip_norm: largest norm of the whole gradient; None does not clip.
      accumulation: parts that a batch is computed in, one after the other; the result is that of the whole batch.
      ema_decay: of a moving average of the weights, which is validated and exported; None keeps none. It starts lower.
      moment_dtype: of AdamW's and Muon's first moment.
    """

    name: Literal["adamw", "adafactor", "muon"] = "adamw"
    learning_rate: float = 1e-5
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-2
    clip_norm: float | None = 1.0
    accumulation: int = 1
    ema_decay: float | None = None
    moment_dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        _check(self, "optimizer.", learning_rate=0, warmup_steps=0, epsilon=0, weight_decay=0, accumulation=1)
        for name in ("b1", "b2", "ema_decay"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, f"optimizer.{name} is {value}, expected 0 or more and below 1")
        require(
            self.clip_norm is None or self.clip_norm > 0,
            f"optimizer.clip_norm is {self.clip_norm}, expected a positive number or none",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig:
    """How a step is computed; results differ by rounding alone.

    Attributes:
      dtype: of products and activations. Trained weights are float32 always.
      frozen_dtype: of the weights that do not train, norms aside.
      remat: what is computed again in the backward pass to save memory, see `aa_jax.models.config.Policy`.
      attention: kernel, likewise.
      fsdp: devices that share one copy of the weights; the other devices hold further copies. 1 copies them all, 0
        shares them over all devices.
    """

    dtype: Dtype = "float32"
    frozen_dtype: Dtype = "float32"
    remat: Remat = "none"
    attention: str = "auto"
    fsdp: int = 1

    def __post_init__(self) -> None:
        _check(self, "compute.", fsdp=0)
        require(
            self.attention in ATTENTION_IMPLEMENTATIONS,
            f"compute.attention is {self.attention!r}, expected one of {', '.join(ATTENTION_IMPLEMENTATIONS)}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run is saved.

    Attributes:
      every: steps between checkpoints; one more is saved at the end, and on SIGTERM.
      keep_last: newest checkpoints kept.
      keep_best: checkpoints with the best validation kept besides.
    """

    every: int = 1000
    keep_last: int = 2
    keep_best: int = 1

    def __post_init__(self) -> None:
        _check(self, "checkpoints.", every=1, keep_last=1, keep_best=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """What is generated during training, always the same held-out clips with the same noise.

    Attributes:
      every: steps between validations, each at a checkpoint; 0 does none.
      source: held-out clips.
      num_clips: of it, the first ones.
      num_frames: of each clip.
      num_inference_steps: DDIM steps.
      guidance_scale: see `InferenceConfig`.
      seed: of the noise.
    """

    every: int = 0
    source: SourceConfig | None = None
    num_clips: int = 4
    num_frames: int = 8
    num_inference_steps: int = 20
    guidance_scale: float = 3.5
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self, "validation.", every=0, num_clips=1, num_frames=1, num_inference_steps=1)
        require(not self.every or self.source is not None, "validation.every is set, but there is no validation.source")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run.

    Attributes:
      model: the networks that the run makes or completes, with the noise schedule they learn.
      trains: patterns (`fnmatch`) of the parameters that train, "network.path" as in model folders; one that begins
        with "!" takes out again. Parameters that influence nothing stay frozen.
      start: initial weights.
      data: what is seen.
      objective: of the denoising stages.
      autoencoder: of the VAE's stage, which has this instead of `objective`.
      batch_size: samples of a step, on all devices together.
      steps: of the whole run.
      seed: of everything that is random.
      log_every: steps between lines of the log.
    """

    model: ModelConfig
    trains: tuple[str, ...]
    data: DataConfig
    start: Start = Start()  # noqa: RUF009 - frozen
    objective: Objective = Objective()  # noqa: RUF009
    autoencoder: AutoencoderObjective | None = None
    lora: Lora = Lora()  # noqa: RUF009
    optimizer: OptimizerConfig = OptimizerConfig()  # noqa: RUF009
    compute: ComputeConfig = ComputeConfig()  # noqa: RUF009
    checkpoints: CheckpointConfig = CheckpointConfig()  # noqa: RUF009
    validation: ValidationConfig = ValidationConfig()  # noqa: RUF009
    batch_size: int
    steps: int
    seed: int = 0
    log_every: int = 10

    def __post_init__(self) -> None:
        _check(self, batch_size=1, steps=1, log_every=1, seed=0)
        accumulation = self.optimizer.accumulation
        require(
            self.batch_size % accumulation == 0,
            f"batch_size {self.batch_size} does not divide into optimizer.accumulation {accumulation} parts",
        )
        strange = [name for name in self.model.networks if name not in TRAINABLE]
        require(not strange, f"model.{' and model.'.join(strange)} is set, and training takes {', '.join(TRAINABLE)}")
        if self.autoencoder is None:
            self._check_denoising()
        else:
            require(self.model.vae is not None, "autoencoder is set, but model.vae is none: there is nothing to train")
            require(self.data.cache is None, "autoencoder learns from images, which data.cache does not hold")
        for name in ("height", "width"):
            size, downscale = getattr(self.data.sample, name), self.model.downscale
            require(
                size % downscale == 0,
                f"data.sample.{name} is {size}, expected a multiple of {downscale}, the pixels of a latent",
            )

    def _check_denoising(self) -> None:
        require(not self.model.lacking, f"the model has no {self.model.lacking}, which training takes")
        sample, unet, vae, encoder = (
            self.data.sample, self.model.denoising_unet, self.model.vae, self.model.image_encoder,
        )  # fmt: skip
        assert unet is not None and vae is not None
        require(encoder is not None or self.data.cache is None, "data.cache holds embeddings, and there is no encoder")
        taken = sample.clip_size if encoder is None else encoder.image_size
        require(
            sample.clip_size == taken,
            f"data.sample.clip_size is {sample.clip_size}, but the image encoder takes {taken} pixels",
        )
        require(
            sample.latent_downscale == vae.downscale,
            f"data.sample.latent_downscale is {sample.latent_downscale}, but the VAE's is {vae.downscale}",
        )
        require(
            unet.motion is not None or self.start.motion_module is None,
            "start.motion_module is set, but model.denoising_unet.motion is none: there are no temporal layers to fill",
        )
        inference = preprocess.draw_style(self.model.inference)
        require(
            sample.style == inference,
            f"data.sample.style is {sample.style}, but model.inference draws poses as {inference}: they must agree",
        )
        if unet.motion is not None and sample.frames == "clip":
            require(
                sample.num_frames <= unet.motion.max_length,
                f"data.sample.num_frames is {sample.num_frames}, but the temporal layers have {unet.motion.max_length} "
                "positions",
            )
        require(
            unet.motion is None or sample.frames == "clip",
            "data.sample.frames is 'single', but the denoising UNet has temporal layers, which single images tell "
            "nothing: leave model.denoising_unet.motion out (stage 1), or take a 'clip' (stage 2)",
        )
        schedule = self.model.schedule
        require(
            not (schedule.rescale_betas_zero_snr and schedule.prediction_type == "epsilon"),
            "model.schedule has zero terminal SNR and predicts epsilon, which says nothing of the image where there is "
            "noise alone: predict v_prediction or sample",
        )
        require(
            self.validation.num_inference_steps <= schedule.num_train_timesteps,
            f"validation.num_inference_steps is {self.validation.num_inference_steps}, but the schedule has "
            f"{schedule.num_train_timesteps} timesteps",
        )
        require(
            self.data.cache is None or self.model.inference.unconditional_embedding == "zeros",
            "data.cache holds no embedding of a black image: inference.unconditional_embedding must be 'zeros'",
        )


def load_train_config(path: StrPath) -> TrainConfig:
    """What `config()` in a Python file returns.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it has no `config`, or what that returns is no `TrainConfig`, or is none that can be.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a Python file that defines config()")
    spec = importlib.util.spec_from_file_location("train_config", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        require(hasattr(module, "config"), f"{path} has no config(), expected one that returns a TrainConfig")
        config = module.config()
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    if not isinstance(config, TrainConfig):
        raise ValueError(f"config() of {path} returns {type(config).__name__}, expected a TrainConfig")
    return config


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain values, as JSON has them."""
    return dataclasses.asdict(config)


def from_dict(data: dict[str, Any]) -> TrainConfig:
    """The configuration of `to_dict`'s values.

    Raises:
      ValueError: a field is unknown, of another type or out of its range.
    """
    return build(TrainConfig, data, "config")
