"""The compiled programs of an animation: encode the reference, encode the poses, denoise, decode.

Each is a pure function of weights and arrays; the networks' structure and all options are closed over or static.
"""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, UInt8

from aa_jax.config import ModelConfig
from aa_jax.diffusion.guidance import Guidance
from aa_jax.diffusion.sample import STATIC_ARGNAMES, Steps, advance, sample
from aa_jax.diffusion.samplers import Sampler
from aa_jax.diffusion.windows import WindowPlan
from aa_jax.heap import give_back
from aa_jax.models.config import needed
from aa_jax.models.layout import FRAME, HALF, WINDOW, lay
from aa_jax.models.platform import platform
from aa_jax.models.transformer import Conditions
from aa_jax.preprocess import pose_pixels

Weights = dict[str, nnx.State]
Result = TypeVar("Result", Array, np.ndarray)
T = TypeVar("T")
COMPILER_OPTIONS: dict[str, dict[str, Any]] = {
    # What can be computed late is: the default order begins with all transforms of kernels, for concurrency.
    "cpu": {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
}
"""By platform."""


def executable_of(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """The executable, by the platform's options."""
    executable = lowered.compile(compiler_options=COMPILER_OPTIONS.get(platform()))
    give_back()
    return executable


class Program:
    """A jitted function that keeps what it compiled, and says how long that took.

    On several devices, all arguments and results are on each of them, and the work is cut as `models.layout` says.

    Attributes:
      function: the jitted function itself, for tracing it as a part of another.
      executables: what was compiled or loaded so far: one per set of shapes and static arguments.
      stored: what is compiled already and can be loaded, by the `name_of` its arguments.
      compiled: number of programs compiled so far.
      compile_seconds: time spent on compiling and loading.
    """

    def __init__(self, function: Callable, devices: Sequence[jax.Device] = (), *, static: tuple[str, ...] = ()):
        self.function = jax.jit(function, static_argnames=static, out_shardings=P() if len(devices) > 1 else None)
        self._static = (*static, "cut")
        self._devices = devices
        self.executables: dict[Any, jax.stages.Compiled] = {}
        self.stored: dict[str, Callable[[], jax.stages.Compiled]] = {}
        self.compiled = 0
        self.compile_seconds = 0.0

    def compile(self, *args: Any, **options: Any) -> jax.stages.Compiled:
        """The executable for these arguments, to be called with those of them that are not static. Of arrays, shape and
        dtype are enough (`jax.ShapeDtypeStruct`). Another option, "cut", says how several devices share the work, by
        the axes of their mesh (`models.layout`), by default along frames."""
        static = {name: options.pop(name) for name in self._static if name in options}
        leaves, tree = jax.tree.flatten((args, options))
        key = (tree, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves), tuple(static.items()))
        if key not in self.executables:
            start = time.perf_counter()
            load = self.stored.get(name_of(key)) if self.stored else None
            if load is None:
                self.compiled += 1
            self.executables[key] = load() if load else self._compile(args, options, static)
            self.compile_seconds += time.perf_counter() - start
        return self.executables[key]

    def _compile(self, args: Any, options: dict[str, Any], static: dict[str, Any]) -> jax.stages.Compiled:
        cut = static.pop("cut", (FRAME,))
        if len(self._devices) < 2:
            return executable_of(self.function.lower(*args, **options, **static))
        mesh = Mesh(np.reshape(self._devices, (2, -1) if HALF in cut else -1), cut)
        laid = functools.partial(jax.ShapeDtypeStruct, sharding=NamedSharding(mesh, P()))
        args, options = jax.tree.map(lambda leaf: laid(jnp.shape(leaf), jnp.result_type(leaf)), (args, options))
        with jax.set_mesh(mesh):
            return executable_of(self.function.lower(*args, **options, **static))

    def __call__(self, *args: Any, **options: Any) -> Any:
        traced = {name: value for name, value in options.items() if name not in self._static}
        return self.compile(*args, **options)(*args, **traced)


def name_of(key: Any) -> str:
    """Of a set of shapes and static arguments, the same in every process."""
    return hashlib.sha256(repr(key).encode()).hexdigest()


def on_all(tree: T, devices: Sequence[jax.Device]) -> T:
    """Arrays on each of several devices, whichever processes have them, or on the default one."""
    if len(devices) < 2:
        return jax.device_put(tree)
    sharding = NamedSharding(Mesh(np.asarray(devices), (FRAME,)), P())
    if sharding.is_fully_addressable:
        return jax.device_put(tree, sharding)

    def put(leaf: Any) -> Array:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(put(jax.random.key_data(leaf)))
        content = np.asarray(leaf)
        return jax.make_array_from_callback(content.shape, sharding, content.__getitem__)

    return jax.tree.map(put, tree)


class Programs:
    """The programs of one model; every call takes the weights, so that they are neither copied nor constants.

    An animation takes four of them: `encode_reference`, `encode_poses`, `decode` and, where one window holds the video,
    `advance`, else `predict`. `denoise` is all steps of `advance` in one, and can return those between.
    """

    def __init__(self, config: ModelConfig, graphs: dict[str, nnx.GraphDef], devices: Sequence[jax.Device] = ()):
        self.config = config
        self.graphs = graphs
        self.devices = devices
        self.scaling_factor = needed(config.vae, "vae").scaling_factor
        self.into_latent = needed(config.pose_guider, "pose guider").into_latent
        self.encode_reference = Program(self._encode_reference, devices, static=("guided",))
        self.encode_poses = Program(self._encode_poses, devices)
        self.denoise = Program(self._denoise, devices, static=STATIC_ARGNAMES)
        self.advance = Program(self._advance, devices, static=("sampler", "layer_frames"))
        self.predict = Program(self._predict, devices, static=("guided", "layer_frames", "reuse"))
        self.decode = Program(self._decode, devices)

    @property
    def named(self) -> dict[str, Program]:
        """All of them."""
        return {name: program for name, program in vars(self).items() if isinstance(program, Program)}

    @property
    def compiled(self) -> int:
        """Number of programs compiled so far."""
        return sum(program.compiled for program in self.named.values())

    @property
    def compile_seconds(self) -> float:
        """Time spent compiling and loading so far."""
        return sum(program.compile_seconds for program in self.named.values())

    def pose_features(
        self, weights: Weights, drawn: UInt8[np.ndarray, "t h w 3"], frame_batch: int
    ) -> Float[Array, "t h2 w2 c"]:
        """Features of drawn poses, a few frames at a time."""
        return jnp.concatenate(list(in_chunks(lambda x: self.encode_poses(weights, x), drawn, frame_batch)))

    def frames(
        self, weights: Weights, latents: Float[Array | np.ndarray, "t h w c"], frame_batch: int
    ) -> Float[np.ndarray, "t h2 w2 3"]:
        """Frames in [0, 1] of scaled latents, a few at a time; each chunk leaves the device before the next comes."""
        return np.concatenate(list(in_chunks(lambda x: np.asarray(self.decode(weights, x)), latents, frame_batch)))

    def _network(self, name: str, weights: Weights) -> Any:
        return nnx.merge(self.graphs[name], weights[name])

    def _encode_reference(
        self,
        weights: Weights,
        pixels: Float[Array, "1 h w 3"],
        clip_pixels: Float[Array, "1 s s 3"] | None,
        *,
        guided: bool,
    ) -> Conditions:
        """Everything that the denoising UNet needs of the reference, once per clip (ReferenceNet at batch 1 and
        timestep 0). `clip_pixels` may be None where there is no image encoder."""
        embedding, empty = self._embeddings(weights, clip_pixels)
        latents = self._network("vae", weights).encode(pixels).mean * self.scaling_factor
        bank, control = None, None
        if "reference_unet" in self.graphs:
            bank = self._network("reference_unet", weights)(latents, embedding)
            if self.config.inference.bank_dtype == "float16":
                bank = jax.tree.map(lambda x: x.astype(jnp.float16).astype(x.dtype), bank)
        if "controlnet" in self.graphs:
            control = self._network("controlnet", weights).control(latents, embedding)
        context = jnp.concatenate([empty, embedding]) if guided else embedding
        conditions = self._network("denoising_unet", weights).condition(context, bank, guided=guided)
        return dataclasses.replace(conditions, control=control)

    def _embeddings(
        self, weights: Weights, clip_pixels: Float[Array, "1 s s 3"] | None
    ) -> tuple[Float[Array, "1 1 d"], Float[Array, "1 1 d"]]:
        """Of the reference, and the unconditional one."""
        if clip_pixels is None or "image_encoder" not in self.graphs:
            empty = jnp.zeros((1, 1, needed(self.config.denoising_unet, "denoising UNet").cross_attention_dim))
            return empty, empty
        encode_image = self._network("image_encoder", weights)
        embedding = encode_image(clip_pixels)[:, None]
        if self.config.inference.unconditional_embedding == "zeros":
            return embedding, jnp.zeros_like(embedding)
        return embedding, encode_image(jnp.zeros_like(clip_pixels))[:, None]

    def _encode_poses(self, weights: Weights, drawn: UInt8[Array, "t h w 3"]) -> Float[Array, "t h2 w2 c"]:
        guider = self._network("pose_guider", weights)
        return guider(pose_pixels(lay(drawn, FRAME), needed(self.config.pose_guider, "pose guider")))

    def _denoise(
        self,
        weights: Weights,
        noise: Float[Array, "t h w c"],
        poses: Float[Array, "t h w d"],
        conditions: Conditions,
        windows: WindowPlan,
        guidance: Guidance | None,
        rng: Array,
        *,
        sampler: Sampler,
        num_inference_steps: int,
        **options: Any,
    ) -> Any:
        """From noise to latents, in one scan over the steps; see `diffusion.sample`."""
        evaluate = self._evaluator(
            weights, conditions, sampler.tables(options["schedule"], num_inference_steps).timesteps
        )
        return sample(
            lambda latents, frames, step, guided: evaluate(latents, poses[frames], step, guided)[0],
            noise,
            sampler=sampler,
            num_inference_steps=num_inference_steps,
            windows=windows,
            guidance=guidance,
            rng=rng,
            **options,
        )

    def _advance(
        self,
        weights: Weights,
        state: Any,
        steps: Steps,
        span: Int[Array, "2"],
        poses: Float[Array, "t h w d"],
        conditions: Conditions,
        num_frames: Int[Array, ""] | None,
        guidance: Guidance | None,
        rng: Array,
        *,
        sampler: Sampler,
        layer_frames: int | None = None,
    ) -> Any:
        """Some steps; see `diffusion.sample.advance`, and `Conditions` of `num_frames` and `layer_frames`."""
        conditions = dataclasses.replace(conditions, num_frames=num_frames, layer_frames=layer_frames)
        evaluate = self._evaluator(weights, conditions, steps.tables.timesteps)

        def denoise(latents, frames, step, guided):
            return evaluate(latents, poses[frames], step, guided)[0]

        return advance(denoise, state, steps, span, sampler=sampler, guidance=guidance, rng=rng)

    def _predict(
        self,
        weights: Weights,
        latents: Float[Array, "n l h w c"],
        poses: Float[Array, "n l h w d"],
        timestep: Float[Array, ""],
        conditions: Conditions,
        num_frames: Int[Array, ""] | None,
        inner: Float[Array, "rn l h2 w2 d2"] | None,
        *,
        guided: bool,
        layer_frames: int | None = None,
        reuse: bool = False,
    ) -> tuple[Float[Array, "rn l h w c"], Float[Array, "rn l h2 w2 d2"] | None]:
        """One evaluation on some windows, with `inner` of another or, if not, with its own, where that is to be used
        again; see `UNet.trunk`."""
        conditions = dataclasses.replace(conditions, num_frames=num_frames, layer_frames=layer_frames)
        evaluate = self._evaluator(weights, conditions, jnp.asarray(timestep)[None])
        prediction, found = evaluate(latents, poses, 0, guided, inner)
        return prediction, found if reuse and inner is None else None

    def _evaluator(
        self, weights: Weights, conditions: Conditions, timesteps: Float[Array, " s"]
    ) -> Callable[..., tuple[Float[Array, "rn l h w c"], Float[Array, "rn l h2 w2 d2"]]]:
        """The denoising UNet at one of these timesteps, of latents, pose features and the timestep's number."""
        unet = self._network("denoising_unet", weights)
        time_embeddings = unet.embed_time(jnp.asarray(timesteps))
        if conditions.control is not None:
            controlnet = self._network("controlnet", weights)
            control_times = controlnet.embed_time(jnp.asarray(timesteps))

        def evaluate(latents, poses, step, guided, inner=None):
            latents, poses, residuals = lay(latents, WINDOW, FRAME), lay(poses, WINDOW, FRAME), None
            if conditions.control is not None and inner is None:
                residuals = controlnet(latents, control_times[step][None], conditions.control)
            prediction, inner = unet.evaluate(
                latents + poses if self.into_latent else latents,
                time_embeddings[step][None],
                conditions if guided else conditions.conditional(),
                None if self.into_latent else poses,
                residuals,
                inner,
            )
            return prediction.astype(latents.dtype), inner

        return evaluate

    def _decode(self, weights: Weights, latents: Float[Array, "t h w c"]) -> Float[Array, "t h2 w2 3"]:
        """Latents to frames in [0, 1], float32."""
        frames = self._network("vae", weights).decode(lay(latents, FRAME) / self.scaling_factor)
        return jnp.clip(frames.astype(jnp.float32) / 2 + 0.5, 0, 1)


def in_chunks(function: Callable[[Any], Result], x: Array | np.ndarray, size: int) -> Iterator[Result]:
    """Apply `function` to chunks of at most `size` rows, all of one shape: the last chunk is filled up by repeating
    its last row.

    Yields the results' true rows, chunk by chunk.
    """
    size = min(size, len(x))
    for start in range(0, len(x), size):
        chunk = x[start : start + size]
        missing = size - len(chunk)
        module = np if isinstance(x, np.ndarray) else jnp
        padded = module.concatenate([chunk, module.repeat(chunk[-1:], missing, axis=0)]) if missing else chunk
        yield function(padded)[: len(chunk)]
