"""Where a run's weights come from before its first step, and which of them train."""

import dataclasses
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from aa_jax.config import ModelConfig
from aa_jax.models.config import require
from aa_jax.network_tensors import check_tensors
from aa_jax.tensor_file import Tensor
from aa_jax.training.config import Start, TrainConfig
from aa_jax.training.networks import Networks, random_params
from aa_jax.weights import keeps_float32, load_config, open_tensors

# Names under which a folder may hold a network's weights, besides its own.
ALSO_AS = {"denoising_unet": "unet", "reference_unet": "unet", "controlnet": "unet"}
MOTION = ".motion_modules."
# Those of an SD UNet that a ReferenceNet has not.
LAST_LAYERS = ("conv_norm_out.", "conv_out.")
# Those that a ControlNet has besides an SD UNet's first half, which start anew.
CONTROL_LAYERS = "controlnet_"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where a parameter's first value comes from: a folder's tensor, or (both None) random numbers."""

    folder: str | None = None
    tensor: Tensor | None = None


def matches(key: str, patterns: Iterable[str]) -> bool:
    """Whether the last pattern (`fnmatch`) that fits a path takes it in; "!" before one takes out."""
    chosen = False
    for pattern in patterns:
        if fnmatch.fnmatchcase(key, pattern.removeprefix("!")):
            chosen = not pattern.startswith("!")
    return chosen


def choose_trained(config: TrainConfig, networks: Networks) -> set[str]:
    """The parameters that `config.trains` names.

    Raises:
      ValueError: a pattern fits nothing, or what it fits cannot train.
    """
    keys = [key for key in networks.variables if networks.can_train(key)]
    for pattern in config.trains:
        require(
            any(fnmatch.fnmatchcase(key, pattern.removeprefix("!")) for key in keys),
            f"trains has {pattern!r}, which fits no parameter of {', '.join(networks.graphs)}",
        )
    chosen = {key for key in keys if matches(key, config.trains)}
    require(bool(chosen), f"trains is {config.trains}, which leaves nothing to train")
    if config.autoencoder is None:
        require(
            not any(key.startswith("vae.") for key in chosen),
            "trains has the VAE, which the denoising objective does not reach: train it with `autoencoder`",
        )
    return chosen


def find_sources(model: ModelConfig, start: Start, networks: Networks) -> dict[str, Source]:
    """Where every parameter's first value comes from; no tensor is read yet.

    Raises:
      FileNotFoundError: a folder is none.
      ValueError: it lacks the network, or the network's shapes are others.
    """
    sources: dict[str, Source] = {}
    for name in networks.graphs:
        own, folder = getattr(start, name), getattr(start, name) or start.model
        expected = {
            key.removeprefix(f"{name}."): leaf for key, leaf in networks.shapes.items() if key.startswith(f"{name}.")
        }
        given: dict[str, Source] = {}
        # What `model` lacks may come from elsewhere or start anew; a folder that is named for a network has it.
        if folder and (own or {name, ALSO_AS.get(name)}.intersection(load_config(folder).networks)):
            given |= _of_folder(folder, name, expected)
        if name == "denoising_unet" and start.motion_module:
            given |= _of_motion_module(start.motion_module, expected)
        sources |= {f"{name}.{key}": given.get(key, Source()) for key in expected}
    return sources


def _of_folder(folder: str, name: str, expected: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Source]:
    names = load_config(folder).networks
    part = ALSO_AS[name] if name not in names and ALSO_AS.get(name) in names else name
    tensors = open_tensors(folder, part)
    if part != name and name == "reference_unet":
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(LAST_LAYERS)}
    if part != name and name == "controlnet":
        expected = {key: leaf for key, leaf in expected.items() if not key.startswith(CONTROL_LAYERS)}
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(("up_blocks.", *LAST_LAYERS))}
    # Stages differ in temporal layers: those of the folder, or of the model, may be without a counterpart.
    moves, expects_motion = (any(MOTION in key for key in keys) for keys in (tensors, expected))
    if moves != expects_motion:
        tensors = {key: tensor for key, tensor in tensors.items() if MOTION not in key}
        expected = {key: leaf for key, leaf in expected.items() if MOTION not in key}
    check_tensors(tensors, expected, f"{Path(folder) / part}.safetensors")
    return {key: Source(folder=folder, tensor=tensors[key]) for key in expected}


def _of_motion_module(folder: str, expected: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Source]:
    # Position tables follow from a formula; their length is the model's own.
    tensors = {key: tensor for key, tensor in open_tensors(folder, "motion_module").items() if not key.endswith(".pe")}
    wanted = {key: leaf for key, leaf in expected.items() if MOTION in key and not key.endswith(".pe")}
    # A mid block's temporal layers start anew where the folder has none (AnimateDiff v1 and v3).
    if not any(key.startswith("mid_block.") for key in tensors):
        wanted = {key: leaf for key, leaf in wanted.items() if not key.startswith("mid_block.")}
    check_tensors(tensors, wanted, f"{Path(folder) / 'motion_module'}.safetensors")
    return {key: Source(folder=folder, tensor=tensors[key]) for key in wanted}


def check_frozen(sources: Mapping[str, Source], trained: Iterable[str], networks: Networks, start: Start) -> None:
    """Raise ValueError if parameters that do not train have no weights."""
    if start.random:
        return
    trained = set(trained)
    for name in networks.graphs:
        keys = [key for key in sources if key.startswith(f"{name}.") and networks.can_train(key)]
        bare = [key for key in keys if key not in trained and sources[key].tensor is None]
        if bare:
            what = name if len(bare) == len(keys) else f"{bare[0]} ({len(bare)} of {len(keys)} parameters of {name})"
            raise ValueError(
                f"{what} does not train and has no weights: give start.{name} or start.model a model folder "
                "(start.random true takes random ones, for measuring speed)"
            )


def describe_sources(sources: Mapping[str, Source]) -> dict[str, str]:
    """Of each network, the folders that its weights come from; position tables follow from a formula."""
    found: dict[str, dict[str, None]] = {}
    for key, source in sources.items():
        if not key.endswith(".pe"):
            found.setdefault(key.partition(".")[0], {})[source.folder or "random"] = None
    return {name: ", ".join(origins) for name, origins in found.items()}


def load_params(
    config: TrainConfig,
    sources: Mapping[str, Source],
    trained: set[str],
    place: Callable[[str, np.ndarray | jax.Array], jax.Array],
) -> dict[str, jax.Array]:
    """Every parameter's first value: trained ones in float32, frozen ones in `compute.frozen_dtype`, norms in float32.

    Args:
      place: puts one parameter where it belongs; what it is given is not kept.
    """
    params: dict[str, jax.Array] = {}
    frozen_dtype = jnp.dtype(config.compute.frozen_dtype)

    def put(key: str, value: np.ndarray | jax.Array) -> None:
        if jnp.issubdtype(value.dtype, jnp.floating):
            wide = key in trained or keeps_float32(key, sources)
            value = value.astype(jnp.float32 if wide else frozen_dtype)
        params[key] = place(key, value)

    for name in {key.partition(".")[0]: None for key in sources}:
        keys = [key for key in sources if key.startswith(f"{name}.")]
        missing = frozenset(key for key in keys if sources[key].tensor is None)
        if missing:
            number = list(config.model.networks).index(name)
            key = jax.random.fold_in(jax.random.key(config.seed), number)
            for each, value in random_params(config.model, name, key, missing).items():
                put(each, value)
        for each in keys:
            if each not in missing:
                put(each, np.asarray(sources[each].tensor))
    return params
