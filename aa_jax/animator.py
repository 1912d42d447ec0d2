"""The public object: a reference image and a pose sequence in, a video out."""

import dataclasses
import functools
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped, UInt8
from PIL import Image

from aa_jax import executables, preprocess
from aa_jax.config import ModelConfig
from aa_jax.diffusion.samplers import Sampler
from aa_jax.diffusion.windows import Windows
from aa_jax.image import ResizeMode, load_image, same_aspect
from aa_jax.models.config import Policy
from aa_jax.pose.files import SUFFIX, load_pose
from aa_jax.pose.keypoints import Keypoints
from aa_jax.pose.retarget import RetargetMethod
from aa_jax.pose.retarget import retarget as retarget_keypoints
from aa_jax.programs import Programs, Weights
from aa_jax.request import Request
from aa_jax.video import Video
from aa_jax.weights import load_config, load_network, resolve, save_pretrained

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

    @classmethod
    def from_pretrained(
        cls,
        path_or_hub_id: str | os.PathLike[str],
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        dtype: DTypeLike | None = None,
        attention: str = "auto",
    ) -> "Animator":
        """Load a model folder, or one from the Hugging Face Hub.

        Args:
          path_or_hub_id: a folder that `tools.convert_weights` or training wrote, or a hub id `owner/name`.
          revision, cache_dir: of the hub's, see `weights.resolve`.
          dtype: of weights and computation: float32 (default), bfloat16 or float16. Norms, softmax and the schedule
            stay float32.
          attention: attention kernel, see `models.config.Policy`.

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
        return cls(config, {name: load_network(folder, name, dtype=dtype, policy=policy) for name in names})

    def save_pretrained(self, folder: str | os.PathLike[str], *, card: str | None = None) -> None:
        """Write the model as a folder that `from_pretrained` reads back; see `weights.save_pretrained`."""
        save_pretrained(folder, self.config, self.weights, card=card)

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
        bucket_frames: bool = True,
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
          bucket_frames: denoise more frames than asked for, and cut them off, where that leaves the others as they are
            but for rounding, so that videos of like length share a program; see `diffusion.buckets`. Where the video is
            one window, it takes up to half as long again, but with 1 to 4, 6, 8, 12, 16, 24 or 32 frames.
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
        request = Request.of(
            self.config,
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
            bucket_frames=bucket_frames,
        )
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type is {output_type!r}, expected one of {', '.join(OUTPUT_TYPES)}")
        height, width, inference = request.height, request.width, self.config.inference

        image = load_image(reference)
        pixels = preprocess.vae_pixels(preprocess.reference_frame(image, height, width, resize, inference))
        encoder = self.config.image_encoder
        clip_pixels = None if encoder is None else preprocess.clip_pixels(image, encoder.image_size, inference)
        pose = retarget_pose(self._pose(pose), image, retarget, reference_pose)
        drawn = preprocess.pose_frames(pose, height, width, resize, inference, num_frames)
        frames = len(drawn)

        rng = jax.random.key(seed)
        noise = self._noise(latents, rng, request.latents(frames))
        denoising = request.denoising(frames)
        guidance = request.enabled_guidance
        conditions = self.programs.encode_reference(self.weights, pixels, clip_pixels, guided=guidance is not None)
        poses = self.encode_poses(_lengthen(drawn, denoising.num_frames), frame_batch)
        lengthened = jnp.asarray(_lengthen(noise, denoising.num_frames))
        state = request.sampler.initialize(lengthened, denoising.steps.tables)
        steps, options = request.num_inference_steps, (poses, conditions, denoising.true_frames, guidance, rng)
        advance = self.programs.advance.compile(
            self.weights, state, denoising.steps, _span(0, steps), *options, sampler=request.sampler
        )
        if progress:
            progress(0, steps)
        for first, stop in itertools.pairwise(range(steps + 1) if progress else (0, steps)):
            state = advance(self.weights, state, denoising.steps, _span(first, stop), *options)
            if progress:
                jax.block_until_ready(state)
                progress(stop, steps)
        result = np.asarray(state.latents)
        if output_type == "latent":
            return result[:frames]
        # A video below a batch is decoded with all frames of its bucket, for which there is a program.
        decoded = self.decode(result[: max(frames, min(frame_batch, len(result)))], frame_batch)[:frames]
        return np.round(decoded * 255).astype(np.uint8) if output_type == "uint8" else decoded

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
        request = Request.of(self.config, **options)
        denoising, guidance = request.denoising(num_frames), request.enabled_guidance
        frames, size = denoising.num_frames, (request.height, request.width)
        array, encoder = functools.partial(jax.ShapeDtypeStruct, dtype=np.float32), self.config.image_encoder
        clip_pixels = None if encoder is None else array((1, encoder.image_size, encoder.image_size, 3))
        conditions = self.programs.encode_reference.compile(
            self.weights, array((1, *size, 3)), clip_pixels, guided=guidance is not None
        )
        chunk = min(request.frame_batch, frames)
        features = self.programs.encode_poses.compile(self.weights, array((chunk, *size, 3))).out_info
        state = jax.eval_shape(request.sampler.initialize, array(request.latents(frames)), denoising.steps.tables)
        self.programs.advance.compile(
            self.weights,
            state,
            denoising.steps,
            _span(0, 0),
            jax.ShapeDtypeStruct((frames, *features.shape[1:]), features.dtype),
            _shapes(conditions.out_info),
            denoising.true_frames,
            guidance,
            jax.random.key(0),
            sampler=request.sampler,
        )
        self.programs.decode.compile(self.weights, array(request.latents(chunk)))

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


def _span(first: int, stop: int) -> Int[np.ndarray, "2"]:
    return np.array([first, stop], np.int32)


def _lengthen(x: Shaped[np.ndarray, "t h w c"], length: int) -> Shaped[np.ndarray, "length h w c"]:
    """The last frame repeated up to so many."""
    return np.pad(x, ((0, length - len(x)), (0, 0), (0, 0), (0, 0)), mode="edge")


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
