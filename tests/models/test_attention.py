"""Attention kernels against plain arithmetic in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.models.attention import dot_product_attention, temporal_attention
from tests.golden_tools import relative_error

TOLERANCE = 1e-5
SHAPES = [(2, 7, 7, 3, 8, 0, 1), (4, 33, 33, 2, 40, 29, 2), (6, 1, 5, 1, 160, 3, 1), (2, 1024, 1024, 2, 40, 1024, 1)]


def arrays(*shapes, seed=0, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def plain(query, key, value):
    """Softmax attention, (b, n, heads, d), float64."""
    query, key, value = (np.asarray(x, np.float64) for x in (query, key, value))
    scores = np.einsum("bnhd,bmhd->bhnm", query, key) / np.sqrt(query.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhnm,bmhd->bnhd", weights / weights.sum(-1, keepdims=True), value)


def with_reference(own, shared):
    return np.concatenate([own, np.repeat(shared, own.shape[0] // shared.shape[0], 0)], 1)


def case(b, n, m, heads, d, k, r, dtype=jnp.float32):
    query, key, value, rk, rv = arrays(
        (b, n, heads, d), *[(b, m, heads, d)] * 2, *[(r, max(k, 1), heads, d)] * 2, dtype=dtype
    )
    return query, key, value, ((rk, rv) if k else None)


@pytest.mark.parametrize("implementation", ["auto", "xla", "chunked"])
@pytest.mark.parametrize("shape", SHAPES)
def test_against_plain_arithmetic(implementation, shape):
    query, key, value, reference = case(*shape)
    ours = jax.jit(lambda q, k, v, ref: dot_product_attention(q, k, v, reference=ref, implementation=implementation))(
        query, key, value, reference
    )
    if reference is not None:
        key, value = (with_reference(own, shared) for own, shared in zip((key, value), reference, strict=True))
    assert relative_error(ours, plain(query, key, value)) < TOLERANCE


def test_large_scores_stay_finite():
    query, key, value, _ = case(1, 9, 9, 2, 8, 0, 1)
    for implementation in ("xla", "chunked"):
        out = dot_product_attention(1e3 * query, 1e3 * key, value, implementation=implementation)
        assert relative_error(out, plain(1e3 * query, 1e3 * key, value)) < 1e-3


def test_bfloat16_has_a_float32_softmax():
    query, key, value, _ = case(2, 300, 300, 2, 40, 0, 1, dtype=jnp.bfloat16)
    for implementation in ("xla", "chunked"):
        out = dot_product_attention(query, key, value, implementation=implementation)
        assert out.dtype == jnp.bfloat16
        assert relative_error(out.astype(jnp.float32), plain(query, key, value)) < 1e-2


def test_gradients_agree():
    query, key, value, reference = case(2, 700, 700, 2, 8, 700, 1)

    def loss(implementation):
        return lambda *x: jnp.sum(
            jnp.sin(dot_product_attention(*x, reference=reference, implementation=implementation))
        )

    ours = jax.jit(jax.grad(loss("chunked"), argnums=(0, 1, 2)))(query, key, value)
    theirs = jax.jit(jax.grad(loss("xla"), argnums=(0, 1, 2)))(query, key, value)
    for a, b in zip(ours, theirs, strict=True):
        assert relative_error(a, b) < 1e-4


def test_chunked_never_holds_all_scores():
    tokens, heads = 4096, 4
    query, key, value, _ = case(1, tokens, tokens, heads, 8, 0, 1)
    compiled = (
        jax.jit(lambda *x: dot_product_attention(*x, implementation="chunked")).lower(query, key, value).compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 0.25 * 4 * heads * tokens**2


@pytest.mark.parametrize("frames", [1, 4, 24])
def test_temporal_attention(frames):
    query, key, value = arrays(*[(2, frames, 5, 3, 8)] * 3)
    at_each_place = lambda x: np.moveaxis(np.asarray(x), 2, 1).reshape(10, frames, 3, 8)  # noqa: E731
    expected = plain(*map(at_each_place, (query, key, value))).reshape(2, 5, frames, 3, 8)
    assert relative_error(temporal_attention(query, key, value), np.moveaxis(expected, 1, 2)) < TOLERANCE


def test_what_cannot_be():
    query, key, value, _ = case(3, 4, 4, 1, 8, 0, 1)
    with pytest.raises(ValueError, match="'flash', expected one of"):
        dot_product_attention(query, key, value, implementation="flash")
    two = tuple(arrays((2, 4, 1, 8), (2, 4, 1, 8)))
    with pytest.raises(ValueError, match="2 reference rows cannot serve 3 rows"):
        dot_product_attention(query, key, value, reference=two)
    if jax.default_backend() == "cpu":
        with pytest.raises(ValueError, match="cudnn' cannot run: the device is"):
            dot_product_attention(query, key, value, implementation="cudnn")


@pytest.mark.gpu
@pytest.mark.parametrize("d", [40, 80, 160])
def test_cudnn(d):
    query, key, value, reference = case(4, 64, 64, 8, d, 64, 1, dtype=jnp.bfloat16)
    out = dot_product_attention(query, key, value, reference=reference, implementation="cudnn")
    key, value = (with_reference(own, shared) for own, shared in zip((key, value), reference, strict=True))
    assert relative_error(out.astype(jnp.float32), plain(query, key, value)) < 1e-2
