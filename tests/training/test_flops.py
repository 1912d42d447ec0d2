"""Counted operations by hand and by XLA's own count; influence by gradients."""

import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from aa_jax.models.bundle import abstract_network
from aa_jax.models.config import MotionConfig, Policy, UNetConfig
from aa_jax.training.flops import count_flops, peak_flops, used_inputs

UNET = UNetConfig(
    block_out_channels=(32,),
    attention_levels=(True,),
    layers_per_block=1,
    cross_attention_dim=16,
    num_attention_heads=4,
    norm_num_groups=8,
)
NHWC = ("NHWC", "HWIO", "NHWC")
SQUARE = 2 * 8 * 8 * 8
"""Operations of the product of two (8, 8) matrices."""


def noise(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def counted(function, *arguments):
    return count_flops(jax.make_jaxpr(function)(*arguments))


def xla_flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def convolve(x, kernel, stride=1, padding=((1, 1), (1, 1)), **options):
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=NHWC, **options)


def square(x):
    return x @ x


def test_products_by_hand():
    x = noise(8, 8)
    assert counted(square, x) == SQUARE
    assert counted(lambda a, b: jnp.einsum("bnhd,bmhd->bhnm", a, b), noise(2, 5, 3, 7), noise(2, 6, 3, 7)) == (
        2 * (2 * 3 * 5 * 6) * 7
    )
    assert counted(lambda x: jnp.sin(x) + x.sum(), x) == 0


def test_convolutions_by_hand():
    x, kernel = noise(2, 6, 5, 4), noise(3, 3, 4, 8)
    inside = ((0, 0), (0, 0))
    assert counted(lambda x, k: convolve(x, k, padding=inside), x, kernel) == 2 * (2 * 4 * 3 * 8) * 9 * 4
    # Of 3 taps at 6 rows 2 fall on the padding, at 5 columns likewise.
    assert counted(convolve, x, kernel) == 2 * (2 * 8) * (3 * 6 - 2) * (3 * 5 - 2) * 4
    assert counted(lambda x, k: convolve(x, k, 2, inside), x, kernel) == 2 * (2 * 2 * 2 * 8) * 9 * 4
    spread = {"padding": inside, "rhs_dilation": (2, 2)}
    assert counted(lambda x, k: convolve(x, k, **spread), x, kernel) == 2 * (2 * 2 * 1 * 8) * 9 * 4
    # Every second row and column is a hole: a tap meets 6 of 11 rows at most.
    dilated = {"padding": inside, "lhs_dilation": (2, 2)}
    assert counted(lambda x, k: convolve(x, k, **dilated), x, noise(1, 1, 4, 8)) == 2 * (2 * 6 * 5 * 8) * 4
    grouped = {"padding": inside, "feature_group_count": 2}
    assert counted(lambda x, k: convolve(x, k, **grouped), x, noise(3, 3, 2, 8)) == 2 * (2 * 4 * 3 * 8) * 9 * 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": 2, "padding": ((0, 1), (0, 1))},
        {"rhs_dilation": (2, 2)},
        {"feature_group_count": 4},
    ],
)
def test_convolutions_and_their_gradients_by_xla(options):
    groups = options.get("feature_group_count", 1)
    x, kernel = noise(2, 17, 16, 32), noise(3, 3, 32 // groups, 64)

    def run(x, kernel):
        return convolve(x, kernel, **options)

    def gradients(x, kernel, cotangent):
        return jax.vjp(run, x, kernel)[1](cotangent)

    assert counted(run, x, kernel) == pytest.approx(xla_flops(run, x, kernel), rel=0.01)
    cotangent = run(x, kernel)
    expected = xla_flops(gradients, x, kernel, cotangent)
    assert counted(gradients, x, kernel, cotangent) == pytest.approx(expected, rel=0.05)


def test_products_and_their_gradients_by_xla():
    x, weights = noise(256, 128), [noise(128, 512), noise(512, 128)]

    def loss(x, weights):
        return jnp.sum(jnp.tanh(x @ weights[0]) @ weights[1])

    for function in (loss, jax.grad(loss, (0, 1))):
        assert counted(function, x, weights) == pytest.approx(xla_flops(function, x, weights), rel=0.05)


def test_gradient_is_about_twice_the_forward_pass_more():
    x, kernels = noise(1, 16, 16, 16), [noise(3, 3, 16, 16, seed=i) for i in range(4)]

    def loss(x, kernels):
        for index, kernel in enumerate(kernels):
            x = jnp.tanh(convolve(x, kernel, 2 if index == 1 else 1))
        return jnp.sum(jnp.square(x))

    forward = counted(loss, x, kernels)
    assert counted(jax.value_and_grad(loss, (0, 1)), x, kernels) == pytest.approx(3 * forward, rel=0.01)
    # The first layer's input has no gradient then.
    expected = 3 * forward - counted(convolve, x, kernels[0])
    assert counted(jax.grad(loss, 1), x, kernels) == pytest.approx(expected, rel=0.01)


def test_inside_of_other_functions():
    x = noise(8, 8)

    @jax.custom_jvp
    def with_jvp(x):
        return square(x)

    with_jvp.defjvp(lambda primals, tangents: (square(*primals), tangents[0] @ primals[0]))

    @jax.custom_vjp
    def with_vjp(x):
        return square(x)

    with_vjp.defvjp(lambda x: (square(x), x), lambda x, g: (g @ x @ x,))
    assert counted(jax.jit(square), x) == SQUARE
    assert counted(jax.checkpoint(square), x) == SQUARE
    assert counted(with_jvp, x) == SQUARE
    assert counted(with_vjp, x) == SQUARE
    assert counted(jax.grad(lambda x: with_vjp(x).sum()), x) == 2 * SQUARE
    assert counted(lambda x: jax.lax.scan(lambda c, y: (c @ y, None), x, jnp.stack([x] * 5))[0], x) == 5 * SQUARE
    assert counted(lambda x: jax.lax.map(square, jnp.stack([x] * 3)), x) == 3 * SQUARE
    assert counted(lambda x: jax.lax.while_loop(lambda c: (c @ c).sum() < 9, lambda c: c @ c @ c, x), x) == 3 * SQUARE
    assert counted(lambda x: jax.lax.cond(x.sum() > 0, square, lambda x: x @ x @ x, x), x) == 2 * SQUARE
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("data",))
    sharded = jax.shard_map(square, mesh=mesh, in_specs=PartitionSpec(), out_specs=PartitionSpec())
    assert counted(sharded, x) == SQUARE


def test_shard_map_counts_all_devices():
    mesh = jax.sharding.AbstractMesh((4, 2), ("data", "fsdp"))
    spec = PartitionSpec("data")
    sharded = jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(spec, PartitionSpec()), out_specs=spec)
    assert counted(sharded, jax.ShapeDtypeStruct((32, 8), jnp.float32), noise(8, 8)) == 2 * (2 * 32 * 8 * 8)


def test_what_is_computed_again_counts_again():
    x, weights = noise(8, 8), [noise(8, 8, seed=1), noise(8, 8, seed=2)]

    def layers(x, weights):
        return jnp.sin(jnp.sin(x @ weights[0]) @ weights[1])

    def gradient(function):
        return jax.value_and_grad(lambda x, weights: function(x, weights).sum(), (0, 1))

    assert counted(gradient(layers), x, weights) == (2 + 4) * SQUARE
    assert counted(gradient(jax.checkpoint(layers)), x, weights) == (2 + 2 + 4) * SQUARE


def test_what_influences_nothing_does_not_count():
    assert counted(lambda x: (x @ x @ x, x + 1)[1], noise(8, 8)) == 0
    assert counted(jax.checkpoint(lambda x: (square(x), x @ x @ x)), noise(8, 8)) == 3 * SQUARE
    assert counted(lambda x: jax.checkpoint(lambda x: (square(x), x @ x @ x))(x)[0], noise(8, 8)) == SQUARE


def test_fused_attention(monkeypatch):
    """cuDNN's kernel is traced without a GPU; it counts as the plain products do, and once more for the scores."""
    kernels = "jax._src.cudnn.fused_attention_stablehlo"
    monkeypatch.setattr(f"{kernels}.check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(f"{kernels}.check_compute_capability", lambda capability: capability == "9.0")
    query, key = (jax.ShapeDtypeStruct((2, tokens, 4, 40), jnp.bfloat16) for tokens in (64, 128))

    def loss(implementation):
        def run(query, key, value):
            out = jax.nn.dot_product_attention(query, key, value, implementation=implementation)
            return out.astype(jnp.float32).sum()

        return run

    plain, fused = loss("xla"), loss("cudnn")
    product = 2 * (2 * 64 * 4 * 40) * 128
    assert counted(fused, query, key, key) == counted(plain, query, key, key) == 2 * product
    every = (0, 1, 2)
    # Of a sum, the plain gradient needs neither the result nor, but for the values', its product with the weights.
    assert counted(jax.value_and_grad(plain, every), query, key, key) == 6 * product
    assert counted(jax.value_and_grad(fused, every), query, key, key) == 7 * product


def test_used_inputs_through_other_functions():
    def run(a, b, c, d, e, f):
        inner = jax.jit(lambda x, y: (x * 2, y * 2))(a, b)[0]
        again = jax.checkpoint(lambda x, y: (jnp.sin(x), jnp.sin(y)))(c, b)[0]
        carry, _ = jax.lax.scan(lambda c, _: ((c[0] + 1, c[1] * 2), None), (d, e), None, length=3)
        return inner + again + carry[0], jax.nn.relu(f)

    used = used_inputs(jax.make_jaxpr(run)(*[1.0] * 6))
    assert used == [True, False, True, True, False, True]


def traced(network, remat="none"):
    """A scalar of a ReferenceNet's or a denoiser's results, as a function of its parameters."""
    name, config = network
    graph, state = nnx.split(abstract_network(name, config, Policy(remat=remat)))
    variables = nnx.to_flat_state(state)
    keys = [".".join(map(str, path)) for path, _ in variables]

    def loss(values):
        filled = [(path, variable.replace(value)) for (path, variable), value in zip(variables, values, strict=True)]
        module = nnx.merge(graph, nnx.from_flat_state(filled))
        sample, context = noise(1, 2, 8, 8, 4), noise(1, 1, 16)
        if name == "reference_unet":
            out = module(sample[:, 0], context)
        else:
            out = module(sample, module.embed_time(jnp.array([321.0])), module.condition(context), None)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in jax.tree.leaves(out))

    shapes = [variable.get_value().shape for _, variable in variables]
    values = [noise(*shape, seed=i) / math.sqrt(max(1, math.prod(shape[:-1]))) for i, shape in enumerate(shapes)]
    return keys, loss, values


def test_what_influences_a_reference_net():
    """The parameters that have a gradient, and no others."""
    keys, loss, values = traced(("reference_unet", UNET))
    gradients = jax.jit(jax.grad(loss))(values)
    used = {key for key, is_used in zip(keys, used_inputs(jax.make_jaxpr(loss)(values)), strict=True) if is_used}
    assert used == {key for key, gradient in zip(keys, gradients, strict=True) if np.any(np.asarray(gradient))}
    last = "up_blocks.0.attentions.1"
    for key in keys:
        if "attn2.to_q." in key or "attn2.to_k." in key or ".norm2." in key and "attentions" in key:
            assert key not in used
        elif key.startswith(last):
            assert (key in used) == key.startswith(
                (f"{last}.norm.", f"{last}.proj_in.", f"{last}.transformer_blocks.0.norm1.")
            )
        else:
            assert (key in used) == (not key.startswith(("conv_norm_out", "conv_out")))


def test_what_is_computed_again_hides_no_influence():
    denoiser = ("denoising_unet", dataclasses.replace(UNET, motion=MotionConfig(norm_num_groups=8)))
    keys, loss, values = traced(denoiser, "layers")
    used = used_inputs(jax.make_jaxpr(loss)(values))
    for key, is_used in zip(keys, used, strict=True):
        idle = "attn2.to_q." in key or "attn2.to_k." in key or ".norm2." in key and "attentions" in key
        assert is_used != idle, key


@pytest.mark.parametrize(
    ("kind", "dtype", "tera"),
    [
        ("NVIDIA H200", "bfloat16", 989.5),
        ("NVIDIA H100 80GB HBM3", "float32", 67),
        ("NVIDIA H100 PCIe", "float16", 756.5),
        ("NVIDIA A100-SXM4-40GB", "bfloat16", 312),
        ("A100-PCIE-40GB", "bfloat16", 312),
        ("NVIDIA A100 80GB PCIe", "float32", 19.5),
        ("NVIDIA A10", "bfloat16", 125),
        ("NVIDIA L4", "bfloat16", 121),
        ("NVIDIA L40S", "bfloat16", 362),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165.2),
        ("NVIDIA GeForce RTX 3090", "float32", 35.6),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla V100-SXM2-16GB", "bfloat16", None),
        ("Tesla T4", "float16", 65),
        ("TPU v4", "bfloat16", 275),
        ("TPU v5 lite", "bfloat16", 197),
        ("TPU v5p", "bfloat16", 459),
        ("TPU v6 lite", "bfloat16", 918),
        ("TPU v6 lite", "float32", None),
        # A seventh of an H100, another GPU, and one that is not in the table.
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bfloat16", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bfloat16", None),
        ("cpu", "float32", None),
    ],
)
def test_peaks(kind, dtype, tera):
    peak = peak_flops(types.SimpleNamespace(device_kind=kind), dtype)
    assert peak == (None if tera is None else pytest.approx(tera * 1e12))


def test_peak_of_this_device_is_a_rate():
    peak = peak_flops(jax.devices()[0], jnp.bfloat16)
    assert (peak is None) == (jax.devices()[0].platform == "cpu") or peak > 1e12
