"""The public object: a reference image and a pose sequence in, a video out."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, UInt8
from PIL import Image

from aa_jax import executables, preprocess
from aa_jax.config import ModelConfig
from aa_jax.diffusion.samplers import Sampler
from aa_jax.diffusion.windows import Windows
from aa_jax.image import ResizeMode, load_image, to_uint8
from aa_jax.memory import MemoryPlan
from aa_jax.models.config import Policy
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.preprocess import Pose, ReferencePose
from aa_jax.programs import Programs, Weights, on_all
from aa_jax.request import Mode, Request
from aa_jax.run import Run
from aa_jax.weights import load_config, load_network, resolve, save_pretrained

OUTPUT_TYPES = ("uint8", "np", "latent")
DTYPES = ("float32", "bfloat16", "float16")

Reference = str | os.PathLike[str] | Image.Image | UInt8[np.ndarray, "h w 3"]


class Animator:
    """A model, ready to animate. Make one with `from_pretrained`.

    Attributes:
      config: how the model was trained and is run; its `inference` part holds the defaults of a call.
      programs: the compiled programs and the time spent compiling them.
      offload: whether the weights are kept in the host's memory, and each network is on the device only while it works.
    """

    def __init__(
        self,
        config: ModelConfig,
        networks: dict[str, nnx.Module],
        *,
        offload: bool = False,
        devices: Sequence[jax.Device] | None = None,
    ):
        if config.lacking:
            raise ValueError(
                f"this model (family {config.family}) has no {config.lacking}, which animating takes: "
                "convert a whole published system, or train one"
            )
        split = {name: nnx.split(network) for name, network in networks.items()}
        self.config = config
        self.offload = offload
        weights: Weights = {name: state for name, (_, state) in split.items()}
        devices = devices or ()
        self.weights = jax.device_get(weights) if offload else on_all(weights, devices)
        self._graphs = {name: graph for name, (graph, _) in split.items()}
        self.programs = Programs(config, self._graphs, devices)

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        dtype: DTypeLike | None = None,
        attention: str = "auto",
        offload: bool = False,
        devices: Sequence[jax.Device] | None = None,
    ) -> "Animator":
        """Load a model folder, or one from the Hugging Face Hub.

        Args:
          path_or_hub_id: a folder that `tools.convert_weights` or training wrote, or a hub id `owner/name`.
          revision, cache_dir: of the hub's, see `weights.resolve`.
          dtype: of weights and computation: float32 (default), bfloat16 or float16. Norms, softmax and the schedule
            stay float32.
          attention: attention kernel, see `models.config.Policy`.
          offload: keep the weights in the host's memory, and each network on the device only while it works.
          devices: that share the work on each video, `jax.devices()` for all; default one. Each has all weights.

        Raises:
          FileNotFoundError: no such folder, or a file of it is missing.
          ValueError: the folder is damaged, or not of a whole system.
        """
        folder = resolve(path_or_hub_id, revision=revision, cache_dir=cache_dir)
        config = load_config(folder)
        dtype = jnp.dtype(jnp.float32 if dtype is None else dtype)
        if dtype.name not in DTYPES:
            raise ValueError(f"dtype is {dtype.name}, expected one of {', '.join(DTYPES)}")
        policy = Policy(dtype=dtype, attention=attention)
        names = config.networks if not config.lacking else ()  # of a part of a system, none is loaded in vain
        with jax.default_device(jax.devices("cpu")[0]) if offload else contextlib.nullcontext():
            networks = {name: load_network(folder, name, dtype=dtype, policy=policy) for name in names}
        return cls(config, networks, offload=offload, devices=devices)

    def save_pretrained(self, folder: str | os.PathLike[str], *, card: str | None = None) -> None:
        """Write the model as a folder that `from_pretrained` reads back; see `weights.save_pretrained`."""
        save_pretrained(folder, self.config, self.weights, card=card)

    def with_inference(self, **changes: Any) -> "Animator":
        """The same weights, run by other values of `config.inference`'s fields."""
        inference = dataclasses.replace(self.config.inference, **changes)
        config = dataclasses.replace(self.config, inference=inference)
        networks = {name: nnx.merge(graph, self.weights[name]) for name, graph in self._graphs.items()}
        return Animator(config, networks, offload=self.offload, devices=self.programs.devices)

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
        window_batch: int = 1,
        frame_batch: int = 4,
        layer_frames: int | None = None,
        memory_budget: int | None = None,
        bucket_frames: bool = True,
        resize: ResizeMode | None = None,
        retarget: RetargetMethod = "none",
        reference_pose: ReferencePose | None = None,
        mode: Mode = "exact",
        reuse: int | None = None,
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
          window_batch: how many windows go through the network at once, on each device.
          frame_batch: how many frames the pose guider and the VAE take at once, on each device.
          layer_frames: how many frames of a window a layer of the network works on at a time; fewer take less memory.
            Default all.
          memory_budget: bytes of each device's memory that the run may take, by default what JAX has of it, where that
            is known: `window_batch`, `layer_frames` and `frame_batch` become as small as that asks for; see `plan`.
          bucket_frames: where one window holds the video, denoise more frames than asked for, and cut them off, if that
            leaves the others as they are but for rounding, so that videos of like length share a program; see
            `diffusion.buckets`. It takes up to half as long again, but with 1 to 4, 6, 8, 12, 16, 24 or 32 frames.
          resize: what to do where reference or pose are not of the video's aspect: "crop", "letterbox" or "stretch".
            Without it they must be.
          retarget: "affine" or "bones" give the keypoints of `pose` the size, place and, with "bones", the build of the
            person in the reference image; see `aa_jax.pose.retarget`.
          reference_pose: `Keypoints` of the reference image, or a file of them, for `retarget`.
          mode: "exact" runs the model as it is; "fast" takes ten steps of DPM-Solver++, and "turbo" computes all of the
            network in every other of them only. What is given besides counts more, and models whose own steps are ten
            or fewer run as they are.
          reuse: how many steps share one evaluation of all of the network; see `UNet.trunk`.
          output_type: "uint8", "np" (float32 in [0, 1]) or "latent" (scaled latents).
          progress: called with (steps done, steps) while it runs, first with none done when all is compiled.

        Returns:
          The video: uint8 or float32 (t, height, width, 3), or float32 latents, shaped as `latents`.

        Raises:
          FileNotFoundError, ValueError: a bad argument: what it is, what was expected.
        """
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}, expected one of {', '.join(OUTPUT_TYPES)}")
        run, denoised = self._denoise(
            reference,
            pose,
            num_frames=num_frames,
            seed=seed,
            latents=latents,
            resize=resize,
            retarget=retarget,
            reference_pose=reference_pose,
            progress=progress,
            memory_budget=memory_budget,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_rescale=guidance_rescale,
            guidance_interval=guidance_interval,
            sampler=sampler,
            windows=windows,
            window_length=window_length,
            window_overlap=window_overlap,
            window_batch=window_batch,
            frame_batch=frame_batch,
            layer_frames=layer_frames,
            bucket_frames=bucket_frames,
            mode=mode,
            reuse=reuse,
        )
        if output_type == "latent":
            return denoised[: run.num_frames]
        chunks = list(run.decode(denoised))
        return np.concatenate(list(map(to_uint8, chunks)) if output_type == "uint8" else chunks)

    def frames(self, reference: Reference, pose: Pose, **options: Any) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """As a call with these options, frame by frame: of a long video, what is decoded need not be in memory whole.

        All but the decoding is done when it returns.
        """
        run, denoised = self._denoise(reference, pose, **options)
        return (frame for chunk in run.decode(denoised) for frame in to_uint8(chunk))

    def _denoise(
        self,
        reference: Reference,
        pose: Pose,
        *,
        num_frames: int | None = None,
        seed: int = 42,
        latents: Float[np.ndarray, "t h w c"] | Array | None = None,
        resize: ResizeMode | None = None,
        retarget: RetargetMethod = "none",
        reference_pose: ReferencePose | None = None,
        progress: Callable[[int, int], object] | None = None,
        memory_budget: int | None = None,
        **options: Any,
    ) -> tuple[Run, Float[np.ndarray, "n h w c"]]:
        """A run, and what it denoised; `options` are `Request`'s."""
        request, inference = Request.of(self.config, **options), self.config.inference
        height, width = request.height, request.width
        image = load_image(reference)
        pixels = preprocess.vae_pixels(preprocess.reference_frame(image, height, width, resize, inference))
        encoder = self.config.image_encoder
        clip_pixels = None if encoder is None else preprocess.clip_pixels(image, encoder.image_size, inference)
        pose = preprocess.retarget_pose(preprocess.as_pose(pose), image, retarget, reference_pose)
        drawn = preprocess.pose_frames(pose, height, width, resize, inference, num_frames)
        rng = jax.random.key(seed)
        noise = self._noise(latents, rng, request.latents(len(drawn)))
        run = self._run(request, len(drawn)).within(memory_budget)
        return run, run.denoise(pixels, clip_pixels, drawn, noise, rng, progress)

    def compile(self, num_frames: int, **options: Any) -> None:
        """Compile what an animation of so many frames takes, without one.

        Args:
          num_frames: of the pose; other lengths of its bucket (`diffusion.buckets`) take the same programs.
          options: those of a call that programs depend on: height, width, num_inference_steps, guidance_scale,
            guidance_rescale, guidance_interval, sampler, windows, window_length, window_overlap, window_batch,
            frame_batch and bucket_frames. Up to 64 inference steps and every guidance scale above 1 are one.

        Raises:
          ValueError: as a call.
        """
        self._run(Request.of(self.config, **options), num_frames).compile()

    def plan(self, num_frames: int, *, memory_budget: int | None = None, **options: Any) -> MemoryPlan:
        """The device's memory that an animation of so many frames takes, of the compiled programs.

        Args:
          num_frames: of the pose.
          memory_budget: bytes to be kept to, if any; see `aa_jax.memory.fit`.
          options: as of `compile`.

        Raises:
          ValueError: as a call; the budget is too small.
        """
        return self._run(Request.of(self.config, **options), num_frames).within(memory_budget).plan()

    def save_compiled(self, path: str | os.PathLike[str]) -> dict[str, int]:
        """Write what was compiled so far as a folder for `load_compiled`; see `aa_jax.executables.save`."""
        return executables.save(self.programs, path)

    def load_compiled(self, path: str | os.PathLike[str]) -> None:
        """Use the programs of a folder that `save_compiled` or `python -m aa_jax.compile` wrote, for this model on a
        device of this kind; shapes and options that are not among them are compiled as without.

        The files are as trusted as code: loading them runs what is in them.

        Raises:
          FileNotFoundError, ValueError: they are not there, damaged, or for another device, JAX, aa_jax or model.
        """
        executables.load(self.programs, path)

    def encode_poses(self, drawn: UInt8[np.ndarray, "t h w 3"], frame_batch: int = 4) -> Float[Array, "t h2 w2 c"]:
        """Pose features of drawn poses, a few frames at a time."""
        return self.programs.pose_features(self.weights, drawn, frame_batch)

    def decode(
        self, latents: Float[Array | np.ndarray, "t h w c"], frame_batch: int = 4
    ) -> Float[np.ndarray, "t h2 w2 3"]:
        """Frames in [0, 1] of scaled latents, a few at a time; each chunk leaves the device before the next comes."""
        return self.programs.frames(self.weights, latents, frame_batch)

    def leaves(self) -> list[Array]:
        """All weights."""
        return jax.tree.leaves(self.weights)

    def _run(self, request: Request, num_frames: int) -> Run:
        many = max(len(self.programs.devices), 1)
        together = dataclasses.replace(
            request, window_batch=many * request.window_batch, frame_batch=many * request.frame_batch
        )
        return Run(
            programs=self.programs,
            weights=self.weights,
            request=together,
            num_frames=num_frames,
            offload=self.offload,
        )

    @staticmethod
    def _noise(latents: np.ndarray | Array | None, rng: Array, shape: tuple[int, ...]) -> Float[np.ndarray, "t h w c"]:
        if latents is None:
            return np.asarray(draw_noise(rng, shape))
        if np.shape(latents) != shape:
            raise ValueError(
                f"latents have shape {np.shape(latents)}, expected {shape}: frames, height and width "
                "of the video's latents, channels"
            )
        return np.asarray(latents, np.float32)


def draw_noise(rng: Array, shape: tuple[int, ...]) -> Float[Array, "t h w c"]:
    """The initial noise of a seed's key."""
    return jax.random.normal(jax.random.fold_in(rng, 0x0153), shape)
