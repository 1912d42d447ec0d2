"""The parts that an evaluation of the denoising UNet is made of: every call of a layer, with its shapes."""

import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import nnx

from aa_jax.models import temporal, transformer
from aa_jax.models.attention import dot_product_attention, temporal_attention
from aa_jax.models.bundle import abstract_network
from aa_jax.models.config import Policy, needed
from aa_jax.models.layers import Downsample, FeedForward, GroupNorm, LayerNorm, Upsample
from aa_jax.models.resnet import ResnetBlock2D
from aa_jax.models.temporal import TemporalSelfAttention, TemporalTransformer
from aa_jax.models.transformer import Attention, Transformer2DModel
from benchmarks.gpu.scale import Scale

RESNET, SELF_CORE, SELF_PROJECTIONS, SPATIAL_FF, SPATIAL_IO = (
    "ResNet convolutions", "self-attention, core", "self-attention, projections", "feed-forward, spatial",
    "in and out, spatial",
)  # fmt: skip
MOTION_FF, MOTION_CORE, MOTION_PROJECTIONS, MOTION_IO = (
    "feed-forward, temporal", "temporal attention, core", "temporal attention, projections", "in and out, temporal",
)  # fmt: skip
SAMPLERS, NORMS, REST = "up and down", "norms", "first and last, time"
NAMES = (
    RESNET, SELF_CORE, SELF_PROJECTIONS, SPATIAL_FF, SPATIAL_IO, MOTION_FF, MOTION_CORE, MOTION_PROJECTIONS, MOTION_IO,
    SAMPLERS, NORMS, REST,
)  # fmt: skip
LAYERS = (nnx.Conv, nnx.Linear, GroupNorm, LayerNorm, FeedForward)
PLACES = (
    ResnetBlock2D, Attention, TemporalSelfAttention, TemporalTransformer, Transformer2DModel, Downsample, Upsample,
)  # fmt: skip
# Which group a layer belongs to: the first row whose place, None for any, is among those that it is called in.
GROUPS: tuple[tuple[type | None, tuple[type, ...], str], ...] = (
    (None, (GroupNorm, LayerNorm), NORMS),
    (TemporalTransformer, (FeedForward,), MOTION_FF),
    (None, (FeedForward,), SPATIAL_FF),
    (TemporalSelfAttention, (nnx.Linear,), MOTION_PROJECTIONS),
    (TemporalTransformer, (nnx.Linear,), MOTION_IO),
    (Attention, (nnx.Linear,), SELF_PROJECTIONS),
    (ResnetBlock2D, (nnx.Conv,), RESNET),
    (Transformer2DModel, (nnx.Conv,), SPATIAL_IO),
    (Downsample, (nnx.Conv,), SAMPLERS),
    (Upsample, (nnx.Conv,), SAMPLERS),
)


@dataclasses.dataclass(frozen=True)
class Call:
    """A layer as it is called, by shapes; equal ones do the same work.

    Attributes:
      group: of layers.
      name: of the layer's class or function.
      function: of `arguments`, the last of which is what the layer works on.
      arguments: the parameters, and then the inputs.
    """

    group: str
    name: str
    function: Callable[..., Any] = dataclasses.field(compare=False)
    arguments: tuple[Any, ...] = dataclasses.field(compare=False)
    key: str = ""


def evaluation(scale: Scale, height: int, width: int) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A guided evaluation of the denoising UNet on a window with a reference of its size, and its abstract arguments:
    parameters, latents, timestep, conditions, pose features."""
    config = needed(scale.model.denoising_unet, "denoising UNet")
    dtype = jnp.dtype(scale.dtype)
    network = abstract_network("denoising_unet", config, Policy(dtype=dtype))
    graph, state = nnx.split(network)
    state = jax.tree.map(lambda leaf: _in(leaf, dtype), state)
    high, wide, channels = height // 8, width // 8, config.block_out_channels[0]
    latents = jax.ShapeDtypeStruct((1, scale.frames, high, wide, config.in_channels), jnp.float32)
    pose = jax.ShapeDtypeStruct((1, scale.frames, high, wide, channels), dtype)
    context = jax.ShapeDtypeStruct((2, 1, config.cross_attention_dim), dtype)
    bank = {
        name: jax.ShapeDtypeStruct((1, tokens(high, wide, level), config.block_out_channels[level]), dtype)
        for name, level in levels(network).items()
    }
    conditions = jax.eval_shape(
        lambda state, context, bank: nnx.merge(graph, state).condition(context, bank, guided=True),
        state, context, bank,
    )  # fmt: skip

    def evaluate(state: Any, latents: Any, timestep: Any, conditions: Any, pose: Any) -> Any:
        unet = nnx.merge(graph, state)
        return unet(latents, unet.embed_time(timestep), conditions, pose)

    return evaluate, (state, latents, jax.ShapeDtypeStruct((1,), jnp.float32), conditions, pose)


def levels(network: Any) -> dict[str, int]:
    """Attention sites with their level of resolution, 0 the highest."""
    deepest = len(network.down_blocks) - 1
    found = {}
    for name, _ in network.sites():
        kind, *index = name.split(".")
        level = {"down_blocks": lambda i: i, "up_blocks": lambda i: deepest - i}.get(kind, lambda _: deepest)
        found[name] = level(int(index[0]) if kind != "mid_block" else 0)
    return found


def tokens(height: int, width: int, level: int) -> int:
    """Places at a level of a UNet, each of which halves the last, and rounds up."""
    for _ in range(level):
        height, width = -(-height // 2), -(-width // 2)
    return height * width


def calls(evaluate: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[Call, int]:
    """Every layer's call in an evaluation, and how often there is such a one."""
    found: collections.Counter[Call] = collections.Counter()
    with spying(lambda call: found.update([call])):
        jax.eval_shape(evaluate, *arguments)
    return dict(found)


@contextlib.contextmanager
def spying(tell: Callable[[Call], None]) -> Iterator[None]:
    """Tell of every call of a layer, and of attention; what it is traced to is in a scope with its group's name."""
    within: list[type] = []

    def place(cls: type) -> Any:
        original = cls.__call__

        def call(module: Any, *args: Any, **options: Any) -> Any:
            within.append(cls)
            try:
                return original(module, *args, **options)
            finally:
                within.pop()

        return call

    def layer(cls: type) -> Any:
        original = cls.__call__

        def call(module: Any, x: Any) -> Any:
            if FeedForward in within:  # of which the layers count as one
                return original(module, x)
            graph, state = nnx.split(module)
            group = _group(cls, within)
            tell(_call(group, cls.__name__, lambda s, x: nnx.merge(graph, s)(x), state, x))
            within.append(cls)
            try:
                with jax.named_scope(group):
                    return original(module, x)
            finally:
                within.pop()

        return call

    def core(group: str, original: Callable[..., Any]) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            fixed = {name: value for name, value in options.items() if isinstance(value, str)}
            arrays = {name: value for name, value in options.items() if name not in fixed}
            query, *others = args
            tell(
                _call(
                    group,
                    original.__name__,
                    lambda rest, query: original(query, *rest[0], **rest[1], **fixed),
                    (others, arrays),
                    query,
                )  # fmt: skip
            )
            with jax.named_scope(group):
                return original(*args, **options)

        return call

    with contextlib.ExitStack() as patches:
        for cls in PLACES:
            patches.enter_context(mock.patch.object(cls, "__call__", place(cls)))
        for cls in LAYERS:
            patches.enter_context(mock.patch.object(cls, "__call__", layer(cls)))
        for module, function, group in (
            (transformer, dot_product_attention, SELF_CORE),
            (temporal, temporal_attention, MOTION_CORE),
        ):
            patches.enter_context(mock.patch.object(module, function.__name__, core(group, function)))
        yield


def _call(group: str, name: str, function: Callable[..., Any], state: Any, x: Any) -> Call:
    arguments = jax.tree.map(_shape, (state, x))
    leaves, tree = jax.tree.flatten(arguments)
    key = f"{[(leaf.shape, str(leaf.dtype)) for leaf in leaves]} {tree if name.endswith('attention') else ''}"
    return Call(group, name, function, arguments, key)


def _group(cls: type, within: list[type]) -> str:
    for place, layers, group in GROUPS:
        if cls in layers and (place is None or place in within):
            return group
    return REST


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def _in(leaf: Any, dtype: Any) -> Any:
    """A parameter in the dtype of a loaded model: matrices and their biases in that of computation."""
    return jax.ShapeDtypeStruct(leaf.shape, dtype if leaf.dtype == jnp.float32 else leaf.dtype)
