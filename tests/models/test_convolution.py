"""Convolutions on a CPU against PyTorch's, and their gradients against those of XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from aa_jax.models import convolution
from aa_jax.models.config import Policy
from aa_jax.models.layers import conv
from aa_jax.programs import executable_of
from tests.golden_tools import relative_error

PADDING = ((1, 1), (1, 1))


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def in_torch(x, kernel):
    x, kernel = torch.from_numpy(np.moveaxis(x, -1, 1).copy()), torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
    return np.moveaxis(torch.nn.functional.conv2d(x, kernel, padding=kernel.shape[-1] // 2).numpy(), 1, -1)


@pytest.mark.parametrize("algorithm", [convolution.winograd, convolution.neighbourhoods])
@pytest.mark.parametrize(
    "shape", [(1, 8, 8, 5), (3, 7, 9, 4), (2, 1, 1, 3), (2, 1, 6, 3), (6, 20, 12, 4), (4, 33, 40, 3)]
)
def test_products_equal_pytorch(algorithm, shape):
    x, kernel = random(*shape), random(3, 3, shape[-1], 6, seed=1)
    assert relative_error(jax.jit(algorithm)(x, kernel), in_torch(x, kernel)) < 2e-6


@pytest.mark.parametrize(
    ("shape", "kernel", "expected"),
    [
        ((1, 16, 16, 128), (3, 3, 128, 128), "neighbourhoods"),
        ((2, 16, 16, 128), (3, 3, 128, 160), "winograd"),
        ((2, 16, 16, 128), (3, 3, 128, 4), None),
        ((2, 16, 16, 4), (3, 3, 4, 128), None),
        ((2, 5, 6, 7), (1, 1, 7, 9), None),
    ],
)
def test_the_algorithm_is_chosen_by_size(shape, kernel, expected, monkeypatch):
    called = []
    for name in ("winograd", "neighbourhoods"):
        original = getattr(convolution, name)
        monkeypatch.setattr(convolution, name, lambda *x, n=name, f=original: called.append(n) or f(*x))
    layer = conv(*kernel[2:], kernel[0], policy=Policy(), rngs=nnx.Rngs(0))
    x = random(*shape)
    assert relative_error(layer(x), in_torch(x, np.asarray(layer.kernel[...]))) < 2e-6
    assert called == ([expected] if expected else [])


def test_other_convolutions_are_left_to_xla(monkeypatch):
    for name in ("winograd", "neighbourhoods"):
        monkeypatch.delattr(convolution, name)
    x = jnp.zeros((2, 16, 16, 128))
    half = Policy(dtype=jnp.bfloat16)
    for options in ({"stride": 2}, {"padding": (0, 0)}, {"policy": half}):
        conv(128, 128, 3, **{"policy": Policy(), "rngs": nnx.Rngs(0), **options})(x)


@pytest.mark.parametrize("algorithm", [convolution.winograd, convolution.neighbourhoods])
def test_gradients(algorithm):
    x, kernel, out = random(3, 7, 9, 4), random(3, 3, 4, 5, seed=1), random(3, 7, 9, 5, seed=2)

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), PADDING, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    ours, theirs = (
        jax.grad(lambda x, kernel, f=f: jnp.sum(f(x, kernel) * out), argnums=(0, 1))(x, kernel)
        for f in (algorithm, plain)
    )
    for a, b in zip(ours, theirs, strict=True):
        assert relative_error(a, b) < 2e-6


def test_transformed_kernels_are_not_kept_together():
    """In a program of many convolutions in a loop, each kernel is transformed where it is used: neither before the loop
    nor for all layers at once."""
    layers, channels = 6, 128
    kernels = [jnp.zeros((3, 3, channels, channels)) + index for index in range(layers)]
    x = jnp.zeros((2, 16, 16, channels))

    def steps(x, kernels):
        return jax.lax.fori_loop(0, 3, lambda _, x: functools.reduce(convolution.winograd, kernels, x), x)

    transformed = 16 / 9 * kernels[0].nbytes
    temporaries = executable_of(jax.jit(steps).lower(x, kernels)).memory_analysis().temp_size_in_bytes
    assert temporaries < 8 * x.nbytes + 2 * transformed < layers * transformed
