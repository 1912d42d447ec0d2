"""The public object: a reference image and a pose sequence in, a video out."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8
from PIL import Image

from aa_jax import preprocess
from aa_jax.config import ModelConfig
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.samplers import DDIM, Sampler, get_sampler
from aa_jax.diffusion.windows import Windows, get_windows
from aa_jax.image import ResizeMode, load_image, same_aspect
from aa_jax.models.config import Policy, needed
from aa_jax.pose.files import SUFFIX, load_pose
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.pose.retarget import retarget as retarget_keypoints
from aa_jax.programs import Programs, Weights
from aa_jax.video import Video
from aa_jax.weights import load_config, load_network, resolve

OUTPUT_TYPES = ("uint8", "np", "latent")
DTYPES = ("float32", "bfloat16", "float16")

Reference = str | os.PathLike[str] | Image.Image | UInt8[np.ndarray, "h w 3"]
Pose = str | os.PathLike[str] | Keypoints | Video | UInt8[np.ndarray, "t h w 3"]
ReferencePose = str | os.PathLike[str] | Keypoints


class Animator:
    """A model, ready to animate. Make one with `from_pretrained`.

    Attributes:
      config: how the model was trained and is run; its `inference` part holds the defaults of a call.
      programs: the compiled programs and the time spent compiling them.
    """

    def __init__(self, config: ModelConfig, networks: dict[str, nnx.Module]):
        if config.lacking:
            raise ValueError(
                f"this model (family {config.family}) has no {config.lacking}, which animating takes: "
                "convert a whole published system, or train one"
            )
        split = {name: nnx.split(network) for name, network in networks.items()}
        self.config = config
        self.weights: Weights = {name: state for name, (_, state) in split.items()}
        self._graphs = {name: graph for name, (graph, _) in split.items()}
        self.programs = Programs(config, self._graphs)
        self._progress = _Progress()

    @classmethod
    def from_pretrained(
        cls, path_or_hub_id: str | os.PathLike[str], *, dtype: DTypeLike | None = None, attention: str = "auto"
    ) -> "Animator":
        """Load a model folder, or one from the Hugging Face Hub.

        Args:
          path_or_hub_id: a folder that `tools.convert_weights` or training wrote, or a hub id `owner/name`.
          dtype: of weights and computation: float32 (default), bfloat16 or float16. Norms, softmax and the schedule
            stay float32.
          attention: attention kernel, see `models.config.Policy`.

        Raises:
          FileNotFoundError: no such folder, or a file of it is missing.
          ValueError: the folder is damaged, or not of a whole system.
        """
        folder = resolve(path_or_hub_id)
        config = load_config(folder)
        dtype = jnp.float32 if dtype is None else dtype
        if jnp.dtype(dtype).name not in DTYPES:
            raise ValueError(f"dtype is {jnp.dtype(dtype).name}, expected one of {', '.join(DTYPES)}")
        policy = Policy(dtype=dtype, attention=attention)
        names = config.networks if not config.lacking else ()  # of a part of a system, none is loaded in vain
        return cls(config, {name: load_network(folder, name, dtype=dtype, policy=policy) for name in names})

    def with_inference(self, **changes: Any) -> "Animator":
        """The same weights, run by other values of `config.inference`'s fields."""
        inference = dataclasses.replace(self.config.inference, **changes)
        config = dataclasses.replace(self.config, inference=inference)
        return Animator(config, {name: nnx.merge(graph, self.weights[name]) for name, graph in self._graphs.items()})

    def __call__(
        self,
        reference: Reference,
        pose: Pose,
        *,
        height: int | None = None,
        width: int | None = None,
        num_frames: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        seed: int = 42,
        latents: Float[np.ndarray, "t h w c"] | Array | None = None,
        sampler: str | Sampler | None = None,
        windows: str | Windows | None = None,
        window_length: int | None = None,
        window_overlap: int | None = None,
        window_batch: int | None = None,
        frame_batch: int = 4,
        resize: ResizeMode | None = None,
        retarget: RetargetMethod = "none",
        reference_pose: ReferencePose | None = None,
        output_type: Literal["uint8", "np", "latent"] = "uint8",
        progress: Callable[[int, int], object] | None = None,
    ) -> np.ndarray:
        """Animate.

        Where an argument is None, `config.inference` of the model says.

        Args:
          reference: image of the character: a path, a PIL image, or uint8 RGB (h, w, 3).
          pose: what it shall do: `Keypoints`, drawn poses (t, h, w, 3) or as a `Video`, or a file of either
            (`load_pose`).
          height: of the video in pixels, divisible by `config.downscale` (8 in Stable Diffusion's VAE).
          width: of the video in pixels, divisible by it too.
          num_frames: how many frames of the pose to animate; default all.
          num_inference_steps: denoising steps.
          guidance_scale: strength of classifier-free guidance; 1 or less switches it off and halves the time.
          guidance_rescale: see `Guidance`.
          guidance_interval: part of the run that is guided, see `Guidance`.
          seed: of the initial noise, and of the noise that a stochastic sampler adds.
          latents: initial noise instead of the seed's, standard normal: (t, height / downscale, width / downscale,
            latent channels), (t, height / 8, width / 8, 4) with Stable Diffusion's VAE.
          sampler: "ddim", "dpm++" or "euler", or an object such as `DDIM(eta=0.5)`.
          windows: how a video longer than `window_length` is put together: "paper", "uniform", "triangular",
            "shifted", "moore", or an object.
          window_length: frames that are denoised together.
          window_overlap: frames that neighbouring windows share.
          window_batch: how many windows go through the network at once; fewer take less memory. Default all.
          frame_batch: how many frames the pose guider and the VAE take at once.
          resize: what to do where reference or pose are not of the video's aspect: "crop", "letterbox" or "stretch".
            Without it they must be.
          retarget: "affine" or "bones" give the keypoints of `pose` the size, place and, with "bones", the build of the
            person in the reference image; see `aa_jax.pose.retarget`.
          reference_pose: `Keypoints` of the reference image, or a file of them, for `retarget`.
          output_type: "uint8", "np" (float32 in [0, 1]) or "latent" (scaled latents).
          progress: called with (steps done, steps) while it runs, first with none done when all is compiled.

        Returns:
          The video: uint8 or float32 (t, height, width, 3), or float32 latents, shaped as `latents`.

        Raises:
          FileNotFoundError, ValueError: a bad argument: what it is, what was expected.
        """
        inference = self.config.inference
        height = inference.height if height is None else height
        width = inference.width if width is None else width
        steps = inference.num_inference_steps if num_inference_steps is None else num_inference_steps
        guidance = Guidance(
            scale=float(inference.guidance_scale if guidance_scale is None else guidance_scale),
            rescale=guidance_rescale,
            interval=guidance_interval,
        )
        downscale = self.config.downscale
        check_size(height, width, downscale)
        _check_options(steps, frame_batch, output_type)
        sampler = self._sampler(sampler)

        image = load_image(reference)
        pixels = preprocess.vae_pixels(preprocess.reference_frame(image, height, width, resize, inference))
        encoder = self.config.image_encoder
        clip_pixels = None if encoder is None else preprocess.clip_pixels(image, encoder.image_size, inference)
        pose = retarget_pose(self._pose(pose), image, retarget, reference_pose)
        drawn = preprocess.pose_frames(pose, height, width, resize, inference, num_frames)

        rng = jax.random.key(seed)
        channels = needed(self.config.vae, "vae").latent_channels
        noise = self._noise(latents, rng, (len(drawn), height // downscale, width // downscale, channels))
        plan = self._windows(windows, window_length, window_overlap).plan(len(drawn), steps)

        conditions = self.programs.encode_reference(self.weights, pixels, clip_pixels, guided=guidance.enabled)
        poses = self.encode_poses(drawn, frame_batch)
        inputs = (self.weights, noise, poses, conditions, plan, guidance if guidance.enabled else None, rng)
        denoise = self.programs.denoise.compile(
            *inputs,
            sampler=sampler,
            schedule=self.config.schedule,
            num_inference_steps=steps,
            window_batch=window_batch,
            progress=self._progress if progress else None,
            return_trajectory=False,
        )
        if progress:
            self._progress.report = lambda step: progress(step + 1, steps)
            progress(0, steps)
        result = denoise(*inputs)
        if output_type == "latent":
            return np.asarray(result)
        frames = self.decode(result, frame_batch)
        return np.round(frames * 255).astype(np.uint8) if output_type == "uint8" else frames

    def encode_poses(self, drawn: UInt8[np.ndarray, "t h w 3"], frame_batch: int = 4) -> Float[Array, "t h2 w2 c"]:
        """Pose features of drawn poses, a few frames at a time."""
        return self.programs.pose_features(self.weights, drawn, frame_batch)

    def decode(self, latents: Float[Array, "t h w c"], frame_batch: int = 4) -> Float[np.ndarray, "t h2 w2 3"]:
        """Frames in [0, 1] of scaled latents, a few at a time; each chunk leaves the device before the next comes."""
        return self.programs.frames(self.weights, latents, frame_batch)

    def _sampler(self, sampler: str | Sampler | None) -> Sampler:
        sampler = "ddim" if sampler is None else sampler
        if sampler == "ddim":
            return DDIM(previous_timestep=self.config.inference.previous_timestep)
        return get_sampler(sampler) if isinstance(sampler, str) else sampler

    def _windows(self, windows: str | Windows | None, length: int | None, overlap: int | None) -> Windows:
        inference = self.config.inference
        if windows is not None and not isinstance(windows, str):
            return windows
        # The model's own overlap belongs to the model's own windows.
        own = windows in (None, inference.windows) and length in (None, inference.window_length)
        length = inference.window_length if length is None else length
        motion = needed(self.config.denoising_unet, "denoising UNet").motion
        if motion is not None and length > motion.max_length:
            raise ValueError(
                f"window_length is {length}, but the temporal layers have {motion.max_length} positions: "
                "choose at most that"
            )
        overlap = inference.window_overlap if overlap is None and own else overlap
        return get_windows(windows or inference.windows, length=length, overlap=overlap)

    def leaves(self) -> list[Array]:
        """All weights."""
        return jax.tree.leaves(self.weights)

    @staticmethod
    def _pose(pose: Pose) -> Keypoints | Video | UInt8[np.ndarray, "t h w 3"]:
        if isinstance(pose, str | os.PathLike):
            return load_pose(Path(pose))
        if isinstance(pose, np.ndarray) and (pose.dtype != np.uint8 or pose.ndim != 4 or pose.shape[-1] != 3):
            raise ValueError(
                f"pose is {pose.dtype} of shape {pose.shape}, expected uint8 (frames, height, width, 3), "
                "keypoints or a path"
            )
        return pose

    @staticmethod
    def _noise(latents: np.ndarray | Array | None, rng: Array, shape: tuple[int, ...]) -> Float[Array, "t h w c"]:
        if latents is None:
            return jax.random.normal(jax.random.fold_in(rng, 0x0153), shape)
        if np.shape(latents) != shape:
            raise ValueError(
                f"latents have shape {np.shape(latents)}, expected {shape}: frames, height and width "
                "of the video's latents, channels"
            )
        return jnp.asarray(latents, jnp.float32)


def retarget_pose(
    pose: Keypoints | Video | UInt8[np.ndarray, "t h w 3"],
    reference: UInt8[np.ndarray, "h w 3"],
    method: RetargetMethod,
    reference_pose: ReferencePose | None,
) -> Keypoints | Video | UInt8[np.ndarray, "t h w 3"]:
    """The pose as the person in the reference image would do it; with method "none" as it is.

    Raises:
      ValueError: the pose or the reference's is drawn, there is none of the reference, it is of another image, or there
        is no such method.
      FileNotFoundError: there is nothing at the path of the reference's pose.
    """
    if method == "none":
        if reference_pose is not None:
            raise ValueError("reference_pose given, but nothing is retargeted: choose retarget 'affine' or 'bones'")
        return pose
    if not isinstance(pose, Keypoints):
        raise ValueError(
            f"retarget is {method!r}, but the pose is drawn, and only keypoints can be retargeted: "
            "give the pose as keypoints, such as python -m aa_jax.pose extract VIDEO --output FILE.npz makes"
        )
    how = "python -m aa_jax.pose extract IMAGE --output FILE.npz makes them"
    if reference_pose is None:
        raise ValueError(
            f"retarget is {method!r}, but there is no reference_pose, the keypoints of the reference image: {how}"
        )
    if isinstance(reference_pose, Keypoints):
        target: Keypoints | Video = reference_pose
    elif Path(reference_pose).suffix.lower() == SUFFIX:
        target = load_pose(reference_pose)
    else:  # JSON, which need not state the size of the image
        target = load_pose(reference_pose, height=reference.shape[0], width=reference.shape[1])
    if not isinstance(target, Keypoints):
        raise ValueError(f"reference_pose {reference_pose} holds images, expected keypoints: {how}")
    if not same_aspect((target.height, target.width), reference.shape[:2]):
        raise ValueError(
            f"reference_pose is of an image of {target.width}x{target.height} (width x height), "
            f"the reference image is {reference.shape[1]}x{reference.shape[0]}: expected the same image"
        )
    return retarget_keypoints(pose, target, method=method)


class _Progress:
    """One function object for every call, so that a new listener is not a new program."""

    report: Callable[[int], object] | None = None

    def __call__(self, step: int) -> None:
        if self.report:
            self.report(step)


def check_size(height: int, width: int, downscale: int) -> None:
    """Raise ValueError unless both are positive multiples of `downscale`, the pixels of a latent."""
    for name, size in (("height", height), ("width", width)):
        if size <= 0 or size % downscale:
            nearest = max(round(size / downscale), 1) * downscale
            raise ValueError(f"{name} is {size}, expected a positive multiple of {downscale}, such as {nearest}")


def _check_options(steps: int, frame_batch: int, output_type: str) -> None:
    for name, number in (("num_inference_steps", steps), ("frame_batch", frame_batch)):
        if number < 1:
            raise ValueError(f"{name} is {number}, expected 1 or more")
    if output_type not in OUTPUT_TYPES:
        raise ValueError(f"output_type is {output_type!r}, expected one of {', '.join(OUTPUT_TYPES)}")
