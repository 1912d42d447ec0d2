"""Every economy of the networks against the plain form that it replaces."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import nnx

from aa_jax.models.bundle import abstract_network
from aa_jax.models.config import CLIPVisionConfig, MotionConfig, Policy, PoseGuiderConfig, UNetConfig, VAEConfig
from aa_jax.models.transformer import Attention, BasicTransformerBlock, Conditions
from aa_jax.programs import in_chunks
from tests.golden_tools import read_json, relative_error

UNET = UNetConfig(
    block_out_channels=(32, 64),
    attention_levels=(True, False),
    layers_per_block=1,
    cross_attention_dim=16,
    num_attention_heads=4,
    norm_num_groups=8,
    motion=MotionConfig(norm_num_groups=8),
)
TOLERANCE = 1e-5


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def random_network(name, config) -> nnx.Module:
    """All weights random, those too that start at zero or one, so that every path counts."""
    graph, state = nnx.split(abstract_network(name, config))
    leaves, tree = jax.tree.flatten(state)
    mixed = []
    for index, leaf in enumerate(leaves):
        fan_in = math.prod(leaf.shape[:-1])
        mixed.append(noise(*leaf.shape, seed=index) / math.sqrt(fan_in) if fan_in > 1 else 1 + 0.1 * noise(*leaf.shape))
    return nnx.merge(graph, jax.tree.unflatten(tree, mixed))


@pytest.fixture(scope="module")
def denoiser():
    return random_network("denoising_unet", UNET)


@pytest.fixture(scope="module")
def reference_net():
    return random_network("reference_unet", dataclasses.replace(UNET, motion=None))


@pytest.fixture(scope="module")
def bank(reference_net):
    return reference_net(noise(1, 8, 8, 4, seed=2), noise(1, 1, 16, seed=3))


def evaluate(network, sample, conditions, pose=None):
    return network(sample, network.embed_time(jnp.array([321.0])), conditions, pose)


def test_attention_as_the_paper_words_it():
    """Concatenate the reference's map along width, attend with all positions, keep the own half."""
    attention = Attention(32, 32, 4, policy=Policy(), rngs=nnx.Rngs(0))
    own, reference = noise(3, 4, 5, 32), noise(3, 4, 6, 32, seed=1)
    both = rearrange(jnp.concatenate([own, reference], 2), "b h w c -> b (h w) c")
    whole = rearrange(attention(both), "b (h w) c -> b h w c", h=4)
    keys_values = attention.keys_values(rearrange(reference, "b h w c -> b (h w) c"))
    ours = attention(rearrange(own, "b h w c -> b (h w) c"), reference=keys_values)
    assert relative_error(ours, rearrange(whole[:, :, :5], "b h w c -> b (h w) c")) < TOLERANCE


def test_cross_attention_to_one_token_is_a_constant():
    attention = Attention(32, 16, 4, policy=Policy(), rngs=nnx.Rngs(0))
    context = noise(2, 1, 16)
    plain = attention(noise(2, 7, 32, seed=1), attention.keys_values(context))
    assert relative_error(jnp.broadcast_to(attention.constant(context), plain.shape), plain) < TOLERANCE


def test_the_unconditional_half_sees_no_reference(denoiser, bank):
    """One guided call, which computes once what comes before the reference, equals two calls: without any reference,
    and with it."""
    sample, pose = noise(1, 3, 8, 8, 4), noise(1, 3, 8, 8, 32, seed=1)
    contexts = jnp.concatenate([jnp.zeros((1, 1, 16)), noise(1, 1, 16, seed=2)])
    guided = evaluate(denoiser, sample, denoiser.condition(contexts, bank, guided=True), pose)
    unconditional = evaluate(denoiser, sample, denoiser.condition(contexts[:1]), pose)
    conditional = evaluate(denoiser, sample, denoiser.condition(contexts[1:], bank), pose)
    assert relative_error(guided[:1], unconditional) < TOLERANCE
    assert relative_error(guided[1:], conditional) < TOLERANCE
    assert relative_error(unconditional, conditional) > 1e-3


def test_conditional_half_of_conditions(denoiser, bank):
    contexts = noise(2, 1, 16)
    half = denoiser.condition(contexts, bank, guided=True).conditional()
    alone = denoiser.condition(contexts[1:], bank)
    assert half.fork is None
    for ours, theirs in zip(jax.tree.leaves(half), jax.tree.leaves(alone), strict=True):
        assert relative_error(ours, theirs) < TOLERANCE


def test_reference_is_projected_once(denoiser, bank):
    """Keys and values made once serve every step; the block that projects at each call gives the same."""
    block: BasicTransformerBlock = dict(denoiser.sites())["mid_block.attentions.0"].transformer_blocks[0]
    tokens, feature = noise(4, 9, 64), noise(1, 9, 64, seed=1)
    once = Conditions(
        context={"s": block.attn2.constant(noise(1, 1, 16))}, reference={"s": block.attn1.keys_values(feature)}
    )
    normed = block.norm1(tokens)
    joined = jnp.concatenate([normed, jnp.repeat(feature, 4, 0)], 1)
    plain = tokens + block.attn1(normed, block.attn1.keys_values(joined))
    plain = plain + once.context["s"]
    plain = plain + block.ff(block.norm3(plain))
    assert relative_error(block(tokens, "s", once)[0], plain) < TOLERANCE


def test_windows_share_conditions(denoiser, bank):
    """Two clips in one guided batch equal each clip by itself."""
    clips, poses = noise(2, 3, 8, 8, 4), noise(2, 3, 8, 8, 32, seed=1)
    conditions = denoiser.condition(noise(2, 1, 16, seed=2), bank, guided=True)
    together = evaluate(denoiser, clips, conditions, poses)
    for index in range(2):
        one = slice(index, index + 1)
        alone = evaluate(denoiser, clips[one], conditions, poses[one])
        assert relative_error(together[index::2], alone) < TOLERANCE


def test_time_embeddings_of_all_steps_at_once(denoiser):
    timesteps = jnp.array([999, 749, 499, 249])
    one_by_one = jnp.concatenate([denoiser.embed_time(t[None]) for t in timesteps])
    assert relative_error(denoiser.embed_time(timesteps), one_by_one) < 1e-6


def test_several_context_tokens(denoiser):
    """More tokens than one go through real cross-attention: a token given twice counts as once."""
    sample, token = noise(1, 2, 8, 8, 4), noise(1, 1, 16, seed=4)
    folded = evaluate(denoiser, sample, denoiser.condition(token))
    attended = evaluate(denoiser, sample, denoiser.condition(jnp.concatenate([token, token], 1)))
    assert relative_error(attended, folded) < TOLERANCE


def test_decoding_in_chunks():
    config = VAEConfig(block_out_channels=(16, 16), layers_per_block=1, norm_num_groups=8)
    vae = random_network("vae", config)
    latents = noise(5, 4, 4, 4)
    shapes = set()

    def decode(x):
        shapes.add(x.shape)
        return vae.decode(x)

    for size in (1, 2, 5, 8):
        shapes.clear()
        chunked = jnp.concatenate(list(in_chunks(decode, latents, size)))
        assert relative_error(chunked, vae.decode(latents)) < TOLERANCE
        assert len(shapes) == 1


def test_what_has_no_influence(golden, reference_net, denoiser, bank):
    """The weights that the golden data found without influence, by gradients, have none here; no others."""
    listed = read_json(golden, "keys/parameters_without_influence.json")
    tails = {key.split("transformer_blocks.0.")[-1] for key in listed["denoising_unet_no_influence_on_output"]}
    graph, state = nnx.split(denoiser)
    sample = noise(1, 2, 8, 8, 4)

    def loss(state):
        network = nnx.merge(graph, state)
        return jnp.sum(jnp.sin(evaluate(network, sample, network.condition(noise(1, 1, 16), bank))))

    for path, leaf in nnx.to_flat_state(jax.grad(loss)(state)):
        name = ".".join(map(str, path))
        idle = "attn2.to_q" in name or "attn2.to_k" in name or ".norm2." in name and "attentions" in name
        assert bool(np.any(np.asarray(leaf[...]))) != idle, name
    assert {tail.split(".")[0] + "." + tail.split(".")[1] for tail in tails} == {
        "attn2.to_q", "attn2.to_k", "norm2.weight", "norm2.bias"
    }  # fmt: skip


def test_reference_net_ends_at_its_last_site(reference_net):
    """A compiled ReferenceNet takes no weights from behind the last norm that its bank needs."""
    graph, state = nnx.split(reference_net)
    run = jax.jit(lambda state, x, c: nnx.merge(graph, state)(x, c))
    compiled = run.lower(state, noise(1, 8, 8, 4), noise(1, 1, 16)).compile()
    used = compiled.memory_analysis().argument_size_in_bytes
    site = "up_blocks.1.attentions.1"
    behind = [
        leaf[...].nbytes
        for path, leaf in nnx.to_flat_state(state)
        if (name := ".".join(map(str, path))).startswith(site)
        and not name.startswith((f"{site}.norm.", f"{site}.proj_in", f"{site}.transformer_blocks.0.norm1"))
    ]
    total = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + noise(1, 8, 8, 4).nbytes + noise(1, 1, 16).nbytes
    assert used <= total - sum(behind)


def test_configurations_that_do_not_fit():
    with pytest.raises(ValueError, match="2 block_out_channels but 4 attention_levels"):
        UNetConfig(block_out_channels=(32, 64))
    with pytest.raises(ValueError, match="has 30, expected multiples"):
        UNetConfig(block_out_channels=(30,), attention_levels=(True,))
    assert PoseGuiderConfig(architecture="paper").into_latent and not PoseGuiderConfig(architecture="open").into_latent
    assert CLIPVisionConfig().output == "image_embeds"
