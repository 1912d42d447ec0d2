"""CLIP's image tower with projection (transformers' `CLIPVisionModelWithProjection`): the reference image as one
token."""

import functools

import jax
import jax.numpy as jnp
from einops import rearrange
from flax import nnx
from jaxtyping import Array, Float, UInt8

from aa_jax.models.attention import dot_product_attention
from aa_jax.models.config import CLIPVisionConfig, Policy
from aa_jax.models.layers import LayerNorm, conv, linear

# OpenAI CLIP's pixel statistics: pixels in [0, 1] go in as (x - mean) / std.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_pixels(images: UInt8[Array, "b s s 3"]) -> Float[Array, "b s s 3"]:
    """Pixels as CLIP takes them."""
    return (images / jnp.float32(255) - jnp.asarray(CLIP_MEAN, jnp.float32)) / jnp.asarray(CLIP_STD, jnp.float32)


class Embeddings(nnx.Module):
    """Patches, a class token in front, and learned positions."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy, rngs: nnx.Rngs):
        patches = (config.image_size // config.patch_size) ** 2
        self.class_embedding = nnx.Param(jax.random.normal(rngs.params(), (config.hidden_size,)))
        self.patch_embedding = conv(
            3,
            config.hidden_size,
            config.patch_size,
            stride=config.patch_size,
            padding=(0, 0),
            use_bias=False,
            policy=policy,
            rngs=rngs,
        )
        self.position_embedding = nnx.Embed(patches + 1, config.hidden_size, dtype=policy.dtype, rngs=rngs)

    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b n c"]:
        patches = rearrange(self.patch_embedding(pixels), "b h w c -> b (h w) c")
        first = jnp.broadcast_to(
            self.class_embedding[...].astype(patches.dtype), (patches.shape[0], 1, patches.shape[-1])
        )
        return jnp.concatenate([first, patches], 1) + self.position_embedding.embedding[...].astype(patches.dtype)


class SelfAttention(nnx.Module):
    """Multi-head self-attention with biases."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy, rngs: nnx.Rngs):
        make = functools.partial(linear, config.hidden_size, config.hidden_size, policy=policy, rngs=rngs)
        self.q_proj = make()
        self.k_proj = make()
        self.v_proj = make()
        self.out_proj = make()
        self.heads = config.num_attention_heads
        self.implementation = policy.attention

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        split = functools.partial(rearrange, pattern="b n (heads d) -> b n heads d", heads=self.heads)
        out = dot_product_attention(
            split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x)), implementation=self.implementation
        )
        return self.out_proj(rearrange(out, "b n heads d -> b n (heads d)"))


class MLP(nnx.Module):
    """Two linear layers with CLIP's activation between."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.fc1 = linear(config.hidden_size, config.intermediate_size, policy=policy, rngs=rngs)
        self.fc2 = linear(config.intermediate_size, config.hidden_size, policy=policy, rngs=rngs)
        self.quick = config.hidden_act == "quick_gelu"

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        x = self.fc1(x)
        return self.fc2(x * jax.nn.sigmoid(1.702 * x) if self.quick else jax.nn.gelu(x, approximate=False))


class EncoderLayer(nnx.Module):
    """A pre-norm transformer layer."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.layer_norm1 = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.self_attn = SelfAttention(config, policy=policy, rngs=rngs)
        self.layer_norm2 = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.mlp = MLP(config, policy=policy, rngs=rngs)

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nnx.Module):
    """The stack of layers."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.layers = nnx.List(
            [EncoderLayer(config, policy=policy, rngs=rngs) for _ in range(config.num_hidden_layers)]
        )

    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        for layer in self.layers:
            x = layer(x)
        return x


class VisionModel(nnx.Module):
    """The tower up to the pooled class token. `pre_layrnorm` is the published files' spelling."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy, rngs: nnx.Rngs):
        self.embeddings = Embeddings(config, policy=policy, rngs=rngs)
        self.pre_layrnorm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)
        self.encoder = Encoder(config, policy=policy, rngs=rngs)
        self.post_layernorm = LayerNorm(config.hidden_size, epsilon=config.layer_norm_eps)

    def hidden_states(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b n c"]:
        """All tokens after the last layer, before the last norm."""
        return self.encoder(self.pre_layrnorm(self.embeddings(pixels)))

    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b c"]:
        return self.post_layernorm(self.hidden_states(pixels)[:, 0])


class CLIPVisionModelWithProjection(nnx.Module):
    """Normalised pixels (`CLIP_MEAN`, `CLIP_STD`) of `image_size` to one embedding, projected where the configuration
    says so."""

    def __init__(self, config: CLIPVisionConfig, *, policy: Policy | None = None, rngs: nnx.Rngs):
        policy = policy or Policy()
        self.vision_model = VisionModel(config, policy=policy, rngs=rngs)
        self.projected = config.output == "image_embeds"
        if self.projected:
            self.visual_projection = linear(
                config.hidden_size, config.projection_dim, use_bias=False, policy=policy, rngs=rngs
            )

    def __call__(self, pixels: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        pooled = self.vision_model(pixels)
        return self.visual_projection(pooled) if self.projected else pooled
