"""Programs for another platform than this one's."""

import jax
import jax.numpy as jnp
import pytest

from aa_jax.models.attention import temporal_attention
from aa_jax.models.convolution import conv_general_dilated
from aa_jax.models.platform import platform, traced_for


def attend(x):
    return temporal_attention(x, x, x)


def convolve(x):
    return conv_general_dilated(
        x, jnp.ones((3, 3, 128, 128)), (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


@pytest.mark.parametrize(("function", "shape"), [(attend, (1, 4, 2, 2, 8)), (convolve, (1, 8, 8, 128))])
def test_another_platform_s_algorithm_is_traced(function, shape):
    def primitives():
        return [equation.primitive.name for equation in jax.make_jaxpr(lambda x: function(x))(jnp.ones(shape)).eqns]

    here = primitives()
    with traced_for("gpu"):
        assert platform() == "gpu"
        there = primitives()
    assert platform() == jax.default_backend() == "cpu"
    assert there != here and primitives() == here


def test_it_ends_with_an_error():
    with pytest.raises(KeyError), traced_for("tpu"):
        raise KeyError
    assert platform() == jax.default_backend()
