"""Spatial transformers of the UNets: self-attention with reference tokens, cross-attention, feed-forward.

Where the paper concatenates the two feature maps along width, attends, and keeps the own half (section 3.2, Eq.
"Spatial-Attention"),
only the own half's queries are computed here: the result is the same, and the reference's keys and values can be
projected once per clip.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from aa_jax.models.attention import dot_product_attention
from aa_jax.models.config import Policy, UNetConfig, require
from aa_jax.models.layers import FeedForward, GroupNorm, LayerNorm, conv, linear
from aa_jax.models.layout import FRAME, HALF, ROWS, WINDOW, lay

SPLIT, JOIN = "b n (heads d) -> b n heads d", "b n heads d -> b n (heads d)"
KeysValues = tuple[Float[Array, "r k c"], Float[Array, "r k c"]]
"""Projected keys and values, heads side by side in the channels."""


def share_rows(x: Array, rows: int) -> Array:
    """Repeat the rows of a condition so that consecutive rows of the sample share one."""
    return x if x.shape[0] in (1, rows) else jnp.repeat(x, rows // x.shape[0], axis=0)


def both_halves(x: Float[Array, "b t h w c"]) -> Float[Array, "2*b t h w c"]:
    """What the two halves of guidance share, for each of them."""
    return lay(
        rearrange(lay(jnp.broadcast_to(x, (2, *x.shape)), HALF, WINDOW, FRAME), "half b ... -> (half b) ..."),
        ROWS,
        FRAME,
    )


class Attention(nnx.Module):
    """Multi-head attention with PyTorch's names (`to_q`, `to_k`, `to_v`, `to_out.0`)."""

    def __init__(self, channels: int, context_channels: int, heads: int, *, policy: Policy, rngs: nnx.Rngs):
        self.to_q = linear(channels, channels, use_bias=False, policy=policy, rngs=rngs)
        self.to_k = linear(context_channels, channels, use_bias=False, policy=policy, rngs=rngs)
        self.to_v = linear(context_channels, channels, use_bias=False, policy=policy, rngs=rngs)
        self.to_out = nnx.List([linear(channels, channels, policy=policy, rngs=rngs)])
        self.heads = heads
        self.implementation = policy.attention

    def keys_values(self, context: Float[Array, "r k d"]) -> KeysValues:
        """Project context tokens, once for every query that will meet them."""
        return self.to_k(context), self.to_v(context)

    def constant(self, context: Float[Array, "r 1 d"]) -> Float[Array, "r 1 c"]:
        """What attention to a single token gives whatever the query: the softmax over one key is one."""
        return self.to_out[0](self.to_v(context))

    def __call__(
        self,
        x: Float[Array, "b n c"],
        keys_values: KeysValues | None = None,
        *,
        reference: KeysValues | None = None,
        own_only: int = 0,
        dropped: Bool[Array, " r"] | None = None,
    ) -> Float[Array, "b n c"]:
        """Attend from `x` to `keys_values`, or to itself where there are none.

        Args:
          reference: further keys and values in the same softmax, for rows from `own_only` on; their rows are shared
            by consecutive rows of `x`.
          own_only: number of leading rows that see no reference (the unconditional half of guidance).
          dropped: reference rows that are not seen (condition dropout in training); they have as many tokens as `x`.
        """
        split = functools.partial(rearrange, pattern=SPLIT, heads=self.heads)
        attend = functools.partial(dot_product_attention, implementation=self.implementation)
        query = split(self.to_q(x))
        own = self.keys_values(x) if keys_values is None else keys_values
        key, value = map(split, own)
        if reference is None:
            out = attend(query, key, value)
        else:
            if dropped is not None:
                reference = _without(reference, dropped, own)
            plain, joined = slice(None, own_only), slice(own_only, None)
            out = attend(query[joined], key[joined], value[joined], reference=tuple(map(split, reference)))
            if own_only:
                out = jnp.concatenate([attend(query[plain], key[plain], value[plain]), out])
        return self.to_out[0](rearrange(out, JOIN))


def _without(reference: KeysValues, dropped: Bool[Array, " r"], own: KeysValues) -> KeysValues:
    """Reference tokens of every row, in place of dropped ones the row's own: a softmax over every token twice is the
    softmax over each once, so that attention to them is plain self-attention."""
    rows, tokens = own[0].shape[:2]
    require(
        reference[0].shape[1] == tokens,
        f"a reference of {reference[0].shape[1]} tokens cannot be dropped from attention over {tokens}: "
        "training needs references of the targets' size",
    )
    chosen = share_rows(dropped, rows)[:, None, None]
    keys, values = (
        jnp.where(chosen, mine, share_rows(shared, rows)) for shared, mine in zip(reference, own, strict=True)
    )
    return keys, values


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Control:
    """What a ControlNet needs of the reference.

    Attributes:
      hint: features of its latents, which are added to those of the noisy ones.
      context: as in `Conditions`.
    """

    hint: Float[Array, "r 1 h w d"]
    context: dict[str, Float[Array, "r 1 c"] | KeysValues]


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["context", "reference", "dropped", "control", "num_frames"],
    meta_fields=["fork", "layer_frames"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a UNet needs of its conditions, projected once per clip and used at every step and frame.

    A condition with fewer rows than the sample is shared by consecutive rows.

    Attributes:
      context: per attention site, the cross-attention to the image embedding: its constant result where the embedding
        is one token, else projected keys and values.
      reference: per attention site, keys and values of the reference tokens; empty without a reference.
      fork: for classifier-free guidance, the first attention site: until there the unconditional and the conditional
        evaluation are one, from there the rows are twice as many, unconditional ones first, which see no reference.
        None without guidance.
      dropped: rows of the reference that are not seen, in training; None where all are.
      control: for the ControlNet, where the model has one.
      num_frames: how many of a clip's frames, the first ones, are to be seen by others; what follows is padding. None
        for all.
      layer_frames: how many frames of a clip a layer works on at a time, which bounds the memory of an evaluation; of a
        temporal layer, the positions of so many. None for all.
    """

    context: dict[str, Float[Array, "r 1 c"] | KeysValues]
    reference: dict[str, KeysValues]
    fork: str | None = None
    dropped: Bool[Array, " r"] | None = None
    control: Control | None = None
    num_frames: Int[Array, ""] | None = None
    layer_frames: int | None = None

    def conditional(self) -> "Conditions":
        """The conditional half alone."""
        if self.fork is None:
            return self
        half = jax.tree.map(lambda x: x[x.shape[0] // 2 :], self.context)
        return dataclasses.replace(self, context=half, fork=None)


class BasicTransformerBlock(nnx.Module):
    """Self-attention (with reference tokens), cross-attention and feed-forward, each after a layer norm and with a
    residual."""

    def __init__(self, channels: int, config: UNetConfig, *, policy: Policy, rngs: nnx.Rngs):
        heads = config.num_attention_heads
        self.norm1 = LayerNorm(channels)
        self.attn1 = Attention(channels, channels, heads, policy=policy, rngs=rngs)
        self.norm2 = LayerNorm(channels)
        self.attn2 = Attention(channels, config.cross_attention_dim, heads, policy=policy, rngs=rngs)
        self.norm3 = LayerNorm(channels)
        self.ff = FeedForward(channels, policy=policy, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b n c"], site: str, conditions: Conditions
    ) -> tuple[Float[Array, "b n c"], Float[Array, "b n c"]]:
        """The block's result, and the normed tokens that go into its self-attention (a ReferenceNet's feature)."""
        rows = x.shape[0]
        normed = self.norm1(x)
        own_only = rows // 2 if conditions.fork else 0
        reference, dropped = conditions.reference.get(site), conditions.dropped
        x = x + self.attn1(normed, reference=reference, own_only=own_only, dropped=dropped)
        context = jax.tree.map(lambda c: share_rows(c, rows), conditions.context[site])
        if isinstance(context, tuple):
            keys, values = (jnp.broadcast_to(c, (rows, *c.shape[1:])) for c in context)
            x = x + self.attn2(self.norm2(x), (keys, values))
        else:
            x = x + context
        return x + self.ff(self.norm3(x)), normed


class Transformer2DModel(nnx.Module):
    """One attention site: norm, 1x1 convolution in, a transformer block over the tokens of each frame, 1x1
    convolution out, residual."""

    def __init__(self, channels: int, config: UNetConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.norm = GroupNorm(channels, config.norm_num_groups, epsilon=1e-6)
        self.proj_in = conv(channels, channels, 1, policy=policy, rngs=rngs)
        self.transformer_blocks = nnx.List([BasicTransformerBlock(channels, config, policy=policy, rngs=rngs)])
        self.proj_out = conv(channels, channels, 1, policy=policy, rngs=rngs)

    def __call__(
        self, x: Float[Array, "b t h w c"], site: str, conditions: Conditions
    ) -> tuple[Float[Array, "b t h w c"], Float[Array, "bt n c"]]:
        """The site's result, and its feature: the normed tokens before self-attention, `(b * t, h * w, c)`."""
        _, t, h, w, _ = x.shape
        inner = self.proj_in(self.norm(x))
        if site == conditions.fork:
            x, inner = map(both_halves, (x, inner))
        tokens = rearrange(inner, "b t h w c -> (b t) (h w) c")
        tokens, feature = self.transformer_blocks[0](lay(tokens, (*ROWS, FRAME)), site, conditions)
        out = lay(rearrange(lay(tokens, (*ROWS, FRAME)), "(b t) (h w) c -> b t h w c", t=t, h=h, w=w), ROWS, FRAME)
        return x + self.proj_out(out), feature

    def condition_context(self, context: Float[Array, "r k d"]) -> Float[Array, "r 1 c"] | KeysValues:
        """Project the cross-attention's context; a single token folds to the constant it contributes."""
        attn2 = self.transformer_blocks[0].attn2
        return attn2.constant(context) if context.shape[1] == 1 else attn2.keys_values(context)

    def condition_reference(self, feature: Float[Array, "r k c"]) -> KeysValues:
        """Project a ReferenceNet's feature with this site's own weights."""
        return self.transformer_blocks[0].attn1.keys_values(feature)
