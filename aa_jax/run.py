"""One animation on the device: its programs, the memory that they take, and how one follows the other."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt8

from aa_jax.diffusion.sample import advance_by_windows
from aa_jax.memory import (
    DECODING_NETWORKS,
    DENOISING_NETWORKS,
    REFERENCE_NETWORKS,
    MemoryPlan,
    fit,
    limit,
    plan_memory,
    size_of,
)
from aa_jax.models.layout import FRAME, HALF, WINDOW
from aa_jax.models.transformer import Conditions
from aa_jax.programs import Programs, Weights, in_chunks, on_all
from aa_jax.request import Denoising, Request


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """An animation of so many frames.

    Attributes:
      programs, weights: the model's.
      request: how it is run.
      num_frames: of the video.
      offload: whether `weights` are the host's, and each network's are on the device only while it works.
    """

    programs: Programs
    weights: Weights
    request: Request
    num_frames: int
    offload: bool

    @functools.cached_property
    def denoising(self) -> Denoising:
        """How its frames are denoised."""
        return self.request.denoising(self.num_frames)

    def within(self, memory_budget: int | None) -> "Run":
        """The run, within so many bytes of each device's memory, or what JAX has of it; see `memory.fit`."""
        budget = memory_budget or limit(self.programs.devices or jax.devices()[:1])
        if budget is None:
            return self
        length = self.denoising.steps.frames.shape[-1]
        plan = lambda request: dataclasses.replace(self, request=request).plan()  # noqa: E731
        return dataclasses.replace(self, request=fit(self.request, length, budget, plan))

    def plan(self) -> MemoryPlan:
        """The device's memory that it takes."""
        return plan_memory(
            self.request,
            self.compile(),
            {name: size_of(state) for name, state in self.weights.items()},
            latents=4 * math.prod(self.request.latents(self.denoising.num_frames)),
            window_frames=math.prod(self.denoising.steps.frames.shape[2:]),
            batches=self.denoising.steps.frames.shape[1],
            offload=self.offload,
        )

    def compile(self) -> dict[str, jax.stages.Compiled]:
        """Its programs by name, in the order in which they run."""
        request, programs, weights, guidance = self.request, self.programs, self.weights, self.request.enabled_guidance
        array, encoder = functools.partial(jax.ShapeDtypeStruct, dtype=np.float32), request.config.image_encoder
        frames, size, steps = self.denoising.num_frames, (request.height, request.width), self.denoising.steps
        *_, number, length = steps.frames.shape
        clip_pixels = None if encoder is None else array((1, encoder.image_size, encoder.image_size, 3))
        found = {
            "encode_reference": programs.encode_reference.compile(
                weights, array((1, *size, 3)), clip_pixels, guided=guidance is not None
            )
        }
        drawn = jax.ShapeDtypeStruct((min(request.frame_batch, number * length), *size, 3), np.uint8)
        found["encode_poses"] = programs.encode_poses.compile(weights, drawn)
        features, conditions = found["encode_poses"].out_info, _shapes(found["encode_reference"].out_info)
        if self._in_one_program:
            found["advance"] = programs.advance.compile(
                weights,
                jax.eval_shape(request.sampler.initialize, array(request.latents(frames)), steps.tables),
                steps,
                _span(0, 0),
                jax.ShapeDtypeStruct((frames, *features.shape[1:]), features.dtype),
                conditions,
                self.denoising.true_frames,
                guidance,
                jax.random.key(0),
                sampler=request.sampler,
                layer_frames=request.layer_frames,
                cut=self._cut(1, guidance is not None),
            )
        else:
            latents = array((number, *request.latents(length)))
            poses = jax.ShapeDtypeStruct((number, length, *features.shape[1:]), features.dtype)
            given = (weights, latents, poses, array(()), conditions, self.denoising.true_frames)
            for guided in request.guided_or_not:
                name, options = "predict" if guided else "predict_unguided", self._options(number, guided)
                found[name] = programs.predict.compile(*given, None, **options)
                if request.reuse > 1:
                    _, inner = found[name].out_info
                    found[f"{name}_again"] = programs.predict.compile(*given, _shapes(inner), **options)
        found["decode"] = programs.decode.compile(weights, array(request.latents(min(request.frame_batch, frames))))
        return found

    def denoise(
        self,
        pixels: Float[np.ndarray, "1 h2 w2 3"],
        clip_pixels: Float[np.ndarray, "1 s s 3"] | None,
        drawn: UInt8[np.ndarray, "t h2 w2 3"],
        noise: Float[np.ndarray, "t h w c"],
        rng: Array,
        progress: Callable[[int, int], object] | None = None,
    ) -> Float[np.ndarray, "n h w c"]:
        """From noise to scaled latents: those of all frames and, where the video was lengthened, of some more.

        Args:
          pixels, clip_pixels: the reference as the VAE and as the image encoder take it.
          drawn: poses.
          noise: standard normal.
          rng: of the noise that a stochastic sampler adds.
          progress: called with (steps done, steps) while it runs, first with none done when all is compiled.
        """
        self.compile()
        request, steps = self.request, self.denoising.steps
        guidance, total = request.enabled_guidance, request.num_inference_steps

        def report(done: int, state: Any) -> None:
            if progress:
                jax.block_until_ready(state)
                progress(done, total)

        weights = self._on_device(*REFERENCE_NETWORKS)
        conditions = self.programs.encode_reference(weights, pixels, clip_pixels, guided=guidance is not None)
        weights = self._on_device(*DENOISING_NETWORKS)
        drawn, noise = (_lengthen(x, self.denoising.num_frames) for x in (drawn, noise))
        start: tuple[Any, Array] = on_all((noise, rng), self.programs.devices)
        latents, rng = start
        state = request.sampler.initialize(latents, steps.tables)
        report(0, state)
        if self._in_one_program:
            poses = self.programs.pose_features(weights, drawn, request.frame_batch)
            for first, stop in itertools.pairwise(range(total + 1) if progress else (0, total)):
                state = self.programs.advance(
                    weights,
                    state,
                    steps,
                    _span(first, stop),
                    poses,
                    conditions,
                    self.denoising.true_frames,
                    guidance,
                    rng,
                    sampler=request.sampler,
                    layer_frames=request.layer_frames,
                    cut=self._cut(1, guidance is not None),
                )
                report(stop, state)
        else:
            predict = self._predictor(weights, drawn, conditions)
            for number in range(total):
                state = advance_by_windows(
                    predict, state, steps, number, sampler=request.sampler, guidance=guidance, rng=rng
                )
                report(number + 1, state)
        return np.asarray(state.latents)

    def decode(self, latents: Float[np.ndarray, "n h w c"]) -> Iterator[Float[np.ndarray, "k h2 w2 3"]]:
        """The frames in [0, 1], a few at a time, of what `denoise` gave."""
        batch, left = self.request.frame_batch, self.num_frames
        # A video below a batch is decoded with all frames of its bucket, for which there is a program.
        latents = latents[: max(left, min(batch, len(latents)))]
        weights = self._on_device(*DECODING_NETWORKS)
        for chunk in in_chunks(lambda x: np.asarray(self.programs.decode(weights, x)), latents, batch):
            if left > 0:
                yield chunk[:left]
            left -= len(chunk)

    @property
    def _in_one_program(self) -> bool:
        """Whether the steps are one program's: not those of several windows, or of an evaluation for several steps."""
        return self.denoising.whole and self.request.reuse == 1

    def _predictor(
        self, weights: Weights, drawn: UInt8[np.ndarray, "t h2 w2 3"], conditions: Conditions
    ) -> Callable[..., Float[Array, "rn l h w c"]]:
        """What the denoising UNet says of some windows, as `advance_by_windows` takes it.

        Windows' poses are encoded for them each time: those of a long video are too large to keep, and cost less than a
        hundredth of the rest.
        """
        request, timesteps = self.request, self.denoising.steps.tables.timesteps
        encode = functools.partial(self.programs.pose_features, weights, frame_batch=request.frame_batch)
        whole = encode(drawn) if self.denoising.whole else None
        kept: dict[bytes, Array] = {}

        def predict(
            latents: Array, frames: Int[np.ndarray, "n l"], step: Int[np.ndarray, ""], guided: bool
        ) -> Float[Array, "rn l h w c"]:
            poses = encode(drawn[frames.ravel()]) if whole is None else whole
            inner = kept.get(frames.tobytes()) if step % request.reuse else None
            if inner is not None:  # of an unguided step, a guided one has no use; the other way, of the second half
                inner = None if guided and len(inner) == len(frames) else inner[-len(latents) * (1 + guided) :]
            prediction, found = self.programs.predict(
                weights,
                latents,
                poses.reshape(*frames.shape, *poses.shape[1:]),
                timesteps[step],
                conditions,
                self.denoising.true_frames,
                inner,
                **self._options(len(frames), guided),
            )
            if found is not None:
                kept[frames.tobytes()] = found
            return prediction

        return predict

    def _options(self, windows: int, guided: bool) -> dict[str, Any]:
        """Of `Programs.predict`."""
        request = self.request
        return {
            "guided": guided,
            "layer_frames": request.layer_frames,
            "reuse": request.reuse > 1,
            "cut": self._cut(windows, guided),
        }

    def _cut(self, windows: int, guided: bool) -> tuple[str, ...]:
        """How several devices share some windows: the halves of guidance, then whole windows, where they can be dealt
        out, else their frames."""
        devices = max(len(self.programs.devices), 1)
        halves = guided and devices % 2 == 0
        axis = FRAME if windows % (devices // 2 if halves else devices) else WINDOW
        return (HALF, axis) if halves else (axis,)

    def _on_device(self, *networks: str) -> Weights:
        """The weights, of which those networks' are on the device."""
        if not self.offload:
            return self.weights
        used = {name: self.weights[name] for name in networks if name in self.weights}
        return self.weights | on_all(used, self.programs.devices)


def _span(first: int, stop: int) -> Int[np.ndarray, "2"]:
    return np.array([first, stop], np.int32)


def _lengthen(x: Shaped[np.ndarray, "t h w c"], length: int) -> Shaped[np.ndarray, "length h w c"]:
    """The last frame repeated up to so many."""
    return np.pad(x, ((0, length - len(x)), (0, 0), (0, 0), (0, 0)), mode="edge")


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)
