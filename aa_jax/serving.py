"""An animation of fixed sizes as a folder that runs without this package: StableHLO, and the weights in one file.

`NAME.stablehlo` is what `jax.export.deserialize` reads, `weights.safetensors` the dictionary that every program takes
first, and `manifest.json` says what else goes in and comes out:

    encode_reference(weights, reference)                   -> conditions, a list of arrays
    encode_poses(weights, poses)                           -> features
    denoise(weights, features, conditions, seed)           -> latents
    decode(weights, latents)                               -> frames, float32 in [0, 1]

Reference and drawn poses are bytes of the video's size; all that lies between a picture and a network is in the
programs. Each holds a version for every platform, with that platform's algorithms. They are no code but StableHLO,
which later JAX reads too (for half a year by its promise); `examples/serve.py` runs them.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export
from jaxtyping import Array, Float, Shaped, UInt8, UInt32

import aa_jax
from aa_jax import preprocess
from aa_jax.animator import Animator, draw_noise
from aa_jax.atomic import new_folder
from aa_jax.models.platform import traced_for
from aa_jax.models.transformer import Conditions
from aa_jax.programs import Programs, Weights
from aa_jax.request import Request
from aa_jax.resample import resize_bicubic
from aa_jax.tensor_file import Tensor, write_tensors

FORMAT = 1
MANIFEST, WEIGHTS = "manifest.json", "weights.safetensors"
PROGRAMS = {
    "encode_reference": (("weights", "reference"), "conditions"),
    "encode_poses": (("weights", "poses"), "features"),
    "denoise": (("weights", "features", "conditions", "seed"), "latents"),
    "decode": (("weights", "latents"), "frames"),
}
"""What each takes, and what it gives."""
BACKENDS = {"cpu": "cpu", "cuda": "gpu", "rocm": "gpu", "tpu": "tpu"}
"""The platforms that programs can be for, and what JAX calls their backends."""
# cuDNN's attention, which JAX does not promise to keep as it is; chosen on a machine with such a GPU alone.
UNSTABLE = [export.DisabledSafetyCheck.custom_call("__cudnn$fmhaSoftmax")]


def save_programs(
    animator: Animator,
    path: str | os.PathLike[str],
    *,
    num_frames: int,
    platforms: Sequence[str] = ("cpu", "cuda"),
    **options: Any,
) -> dict[str, int]:
    """Write the folder; it appears under its name only when it is whole.

    Args:
      animator: the model, in the dtype that is to be served.
      path: must not exist, or be empty.
      num_frames: of the video.
      platforms: of `BACKENDS`; none has to be here.
      options: as of `Animator.compile`; none is left open.

    Returns:
      Bytes of each file.

    Raises:
      ValueError: an option is out of range, a platform is unknown, or `path` has something in it.
      OSError: writing failed; nothing is left.
    """
    check_platforms(platforms)
    if num_frames < 1:
        raise ValueError(f"num_frames is {num_frames}, expected 1 or more")
    request = Request.of(animator.config, **{**options, "bucket_frames": False})
    if request.reuse > 1:
        raise ValueError(
            f"reuse is {request.reuse}, but an exported program evaluates all of the network in every step: "
            "choose mode 'exact' or 'fast'"
        )
    weights = named_weights(animator)
    variants = {platform: functions(animator, request, num_frames) for platform in platforms}
    arrays: dict[str, Any] = {
        "weights": jax.tree.map(_spec, weights),
        "reference": jax.ShapeDtypeStruct((request.height, request.width, 3), np.uint8),
        "poses": jax.ShapeDtypeStruct((num_frames, request.height, request.width, 3), np.uint8),
        "seed": jax.ShapeDtypeStruct((), np.uint32),
    }
    with new_folder(path) as partial:
        programs = {}
        for name, (inputs, output) in PROGRAMS.items():
            function = for_all({platform: variant[name] for platform, variant in variants.items()})
            exported = export.export(jax.jit(function), platforms=platforms, disabled_checks=UNSTABLE)(
                *(arrays[argument] for argument in inputs)
            )
            arrays[output] = jax.tree.unflatten(exported.out_tree, map(_spec, exported.out_avals))
            content, file = bytes(exported.serialize()), f"{name}.stablehlo"
            (partial / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            programs[name] = {"file": file, "sha256": digest, "inputs": inputs, "output": output}
        facts = write_tensors(partial / WEIGHTS, weights)
        manifest = {
            "format": FORMAT,
            "aa_jax": aa_jax.__version__,
            "jax": jax.__version__,
            "platforms": list(platforms),
            "height": request.height,
            "width": request.width,
            "num_frames": num_frames,
            "num_inference_steps": request.num_inference_steps,
            "guidance_scale": request.guidance.scale,
            "weights": {"file": WEIGHTS, "sha256": facts.sha256},
            "programs": programs,
            "arrays": {name: jax.tree.map(_described, arrays[name]) for name in arrays if name != "weights"},
        }
        (partial / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
        return {file.name: file.stat().st_size for file in sorted(partial.iterdir())}


def check_platforms(platforms: Sequence[str]) -> None:
    """Raise ValueError unless they are some of `BACKENDS`, each once."""
    if not platforms or len(set(platforms)) < len(platforms) or not set(platforms) <= set(BACKENDS):
        given = ", ".join(platforms) or "nothing"
        raise ValueError(f"platforms {given} given, expected some of {', '.join(BACKENDS)}, each once")


def named_weights(animator: Animator) -> dict[str, Tensor]:
    """All weights by network and path, in the order of their leaves."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(animator.weights)
    # The last part of a path is the variable's value.
    return {jax.tree_util.keystr(path[:-1], simple=True, separator="."): leaf for path, leaf in leaves}


def functions(animator: Animator, request: Request, num_frames: int) -> dict[str, Callable[..., Any]]:
    """The four programs as functions of weights by their names; see the module. They are traced anew, for the platform
    that they are traced for (`traced_for`)."""
    config, frame_batch = animator.config, min(request.frame_batch, num_frames)
    programs = Programs(config, animator.programs.graphs)
    names, structure = list(named_weights(animator)), jax.tree.structure(animator.weights)
    guidance, denoising = request.enabled_guidance, request.denoising(num_frames)

    def networks(weights: Mapping[str, Array]) -> Weights:
        return jax.tree.unflatten(structure, [weights[name] for name in names])

    def conditions_of(weights: Mapping[str, Array], reference: UInt8[Any, "h w 3"]) -> Conditions:
        clip_pixels = None
        if config.image_encoder is not None:
            size = config.image_encoder.image_size
            square = preprocess.clip_square(reference, size, config.inference, resize_bicubic)
            clip_pixels = preprocess.normalise_clip(square)[None]
        pixels = preprocess.vae_pixels(reference)
        return programs.encode_reference.function(networks(weights), pixels, clip_pixels, guided=guidance is not None)

    def encode_reference(weights: Mapping[str, Array], reference: UInt8[Any, "h w 3"]) -> list[Array]:
        return jax.tree.leaves(conditions_of(weights, reference))

    def encode_poses(weights: Mapping[str, Array], poses: UInt8[Any, "t h w 3"]) -> Float[Array, "t h2 w2 c"]:
        return _in_chunks(functools.partial(programs.encode_poses.function, networks(weights)), poses, frame_batch)

    def denoise(
        weights: Mapping[str, Array],
        features: Float[Array, "t h2 w2 c"],
        conditions: Sequence[Array],
        seed: UInt32[Array, ""],
    ) -> Float[Array, "t h2 w2 d"]:
        reference = jax.ShapeDtypeStruct((request.height, request.width, 3), np.uint8)
        known = jax.tree.structure(jax.eval_shape(conditions_of, weights, reference))
        rng, steps = jax.random.key(seed), denoising.steps
        state = request.sampler.initialize(draw_noise(rng, request.latents(num_frames)), steps.tables)
        span = np.array([0, request.num_inference_steps], np.int32)
        options = (features, jax.tree.unflatten(known, conditions), denoising.true_frames, guidance, rng)
        advance = programs.advance.function
        how = {"sampler": request.sampler, "layer_frames": request.layer_frames}
        return advance(networks(weights), state, steps, span, *options, **how).latents

    def decode(weights: Mapping[str, Array], latents: Float[Array, "t h2 w2 d"]) -> Float[Array, "t h w 3"]:
        return _in_chunks(functools.partial(programs.decode.function, networks(weights)), latents, frame_batch)

    return {function.__name__: function for function in (encode_reference, encode_poses, denoise, decode)}


def for_all(variants: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """One function of several, each traced for its platform, and run on it."""

    def traced(platform: str, *args: Any) -> Any:
        with traced_for(BACKENDS[platform]):
            return variants[platform](*args)

    each = {platform: functools.partial(traced, platform) for platform in variants}
    if len(each) == 1:
        return next(iter(each.values()))
    return lambda *args: jax.lax.platform_dependent(*args, **each)


def _in_chunks(function: Callable[[Array], Array], x: Shaped[Any, "t _ _ _"], size: int) -> Float[Array, "t _ _ _"]:
    """`function` of `size` rows at a time, as a loop of the program; the last chunk repeats the last row."""
    chunks = -(-len(x) // size)
    rows = np.minimum(np.arange(chunks * size), len(x) - 1).reshape(chunks, size)
    results = jax.lax.map(lambda rows: function(x[rows]), rows)
    return results.reshape(-1, *results.shape[2:])[: len(x)]


def _spec(array: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _described(spec: jax.ShapeDtypeStruct) -> dict[str, Any]:
    return {"shape": list(spec.shape), "dtype": spec.dtype.name}
