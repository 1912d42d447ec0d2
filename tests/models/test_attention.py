"""Attention kernels against plain arithmetic in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from aa_jax.models import attention
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


def test_reference_is_the_paper_s_attention_over_joined_maps():
    """Join each frame's map with the reference's along the width, attend, keep the frame's half."""
    frames, height, width, heads, d = 3, 4, 5, 2, 8
    own = arrays(*[(frames, height, width, heads, d)] * 3)
    shared = arrays(*[(1, height, width, heads, d)] * 3, seed=1)
    joined = [np.concatenate([x, np.repeat(y, frames, 0)], axis=2) for x, y in zip(own, shared, strict=True)]
    everything = plain(*(x.reshape(frames, height * 2 * width, heads, d) for x in joined))
    expected = everything.reshape(frames, height, 2 * width, heads, d)[:, :, :width]
    query, key, value = (x.reshape(frames, height * width, heads, d) for x in own)
    reference = tuple(x.reshape(1, height * width, heads, d) for x in shared[1:])
    out = dot_product_attention(query, key, value, reference=reference)
    assert relative_error(out.reshape(expected.shape), expected) < TOLERANCE


@pytest.mark.parametrize("backend", ["cpu", "tpu"])
@pytest.mark.parametrize("limit", [4 * 7 * 11, 4 * 40 * 11, 4 * 2 * 3 * 40 * 11])
def test_chunked_gives_the_same_whatever_the_step(backend, limit, monkeypatch):
    """Queries of a head, heads of a row, and rows in steps that do not divide their number."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(attention, "CPU_STEP_BYTES", limit)
    monkeypatch.setattr(attention, "ACCELERATOR_STEP_BYTES", limit)
    query, key, value, _ = case(5, 40, 11, 3, 8, 0, 1)
    out = dot_product_attention(query, key, value, implementation="chunked")
    assert relative_error(out, plain(query, key, value)) < TOLERANCE


def test_large_scores_stay_finite():
    query, key, value, _ = case(1, 9, 9, 2, 8, 0, 1)
    for implementation in ("xla", "chunked"):
        out = dot_product_attention(1e3 * query, 1e3 * key, value, implementation=implementation)
        assert relative_error(out, plain(1e3 * query, 1e3 * key, value)) < 1e-3


@pytest.mark.parametrize("implementation", ["xla", "chunked"])
def test_bfloat16_has_a_float32_softmax(implementation):
    query, key, value, _ = case(2, 300, 1500, 2, 40, 0, 1, dtype=jnp.bfloat16)
    out = dot_product_attention(query, key, value, implementation=implementation)
    assert out.dtype == jnp.bfloat16
    assert relative_error(out.astype(jnp.float32), plain(query, key, value)) < 1e-2
    # Equal scores: the weights add up to 1500, where a bfloat16 sum of ones ends at 256.
    mean = dot_product_attention(query, 0 * key, 1 + 0 * value, implementation=implementation)
    assert relative_error(mean.astype(jnp.float32), np.ones(mean.shape)) < 1e-2


@pytest.mark.parametrize("k", [0, 700])
def test_gradients_agree(k):
    query, key, value, reference = case(2, 700, 700, 2, 8, k, 1)

    def loss(implementation):
        def function(query, key, value, reference):
            out = dot_product_attention(query, key, value, reference=reference, implementation=implementation)
            return jnp.sum(jnp.sin(out))

        return jax.jit(jax.grad(function, argnums=(0, 1, 2, 3)))

    ours, theirs = (loss(name)(query, key, value, reference) for name in ("chunked", "xla"))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert relative_error(a, b) < 1e-4


@pytest.mark.parametrize("backend", ["cpu", "tpu"])
@pytest.mark.parametrize("backward", [False, True])
def test_chunked_never_holds_all_scores(backend, backward, monkeypatch):
    tokens, heads = 4096, 4
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    monkeypatch.setattr(attention, "ACCELERATOR_STEP_BYTES", attention.CPU_STEP_BYTES)

    def function(*x):
        return dot_product_attention(*x, implementation="chunked").sum()

    shapes = [jax.ShapeDtypeStruct((1, tokens, heads, 8), jnp.float32)] * 3
    compiled = jax.jit(jax.grad(function, argnums=(0, 1, 2)) if backward else function).lower(*shapes).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.1 * 4 * heads * tokens**2


def at_each_place(x):
    """(b, t, n, heads, d) as rows of t tokens."""
    return np.moveaxis(np.asarray(x), 2, 1).reshape(-1, x.shape[1], *x.shape[3:])


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
@pytest.mark.parametrize(
    ("frames", "places", "heads", "d"), [(1, 5, 3, 8), (4, 5, 3, 8), (24, 5, 3, 8), (33, 2, 1, 8), (8, 1024, 8, 40)]
)
def test_temporal_attention(backend, frames, places, heads, d, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    inputs = arrays(*[(2, frames, places, heads, d)] * 3)
    out = jax.jit(lambda *x: temporal_attention(*x))(*inputs)
    assert relative_error(at_each_place(out), plain(*map(at_each_place, inputs))) < TOLERANCE


@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_frames_of_padding_are_not_seen(backend, monkeypatch):
    """The first frames' results are those without the others, whatever is in these, which see the first ones too."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    inputs = arrays(*[(2, 24, 5, 3, 8)] * 3)
    padded = jax.jit(temporal_attention)
    for frames in (1, 17, 24):
        alone = temporal_attention(*(x[:, :frames] for x in inputs))
        for scale in (1, 1e4):
            others = [x.at[:, frames:].multiply(scale) for x in inputs]
            out = padded(*others, np.int32(frames))
            assert relative_error(out[:, :frames], alone) < TOLERANCE
            assert np.isfinite(out).all() and np.abs(out).max() <= np.abs(inputs[2][:, :frames]).max() * (1 + TOLERANCE)


def test_temporal_gradients_agree_with_attention_over_tokens():
    inputs = arrays(*[(2, 6, 5, 3, 8)] * 3)

    def by_places(*x):
        return jnp.sum(jnp.sin(dot_product_attention(*(jnp.moveaxis(y, 2, 1).reshape(10, 6, 3, 8) for y in x))))

    ours = jax.grad(lambda *x: jnp.sum(jnp.sin(temporal_attention(*x))), argnums=(0, 1, 2))(*inputs)
    for a, b in zip(ours, jax.grad(by_places, argnums=(0, 1, 2))(*inputs), strict=True):
        assert relative_error(a, b) < TOLERANCE


def test_temporal_bfloat16():
    inputs = arrays(*[(2, 16, 5, 3, 40)] * 3, dtype=jnp.bfloat16)
    out = temporal_attention(*inputs)
    assert out.dtype == jnp.bfloat16
    expected = plain(*(at_each_place(x.astype(jnp.float32)) for x in inputs))
    assert relative_error(at_each_place(out.astype(jnp.float32)), expected) < 1e-2


def test_what_cannot_be():
    query, key, value, _ = case(3, 4, 4, 1, 8, 0, 1)
    with pytest.raises(ValueError, match="'flash', expected one of"):
        dot_product_attention(query, key, value, implementation="flash")
    two = tuple(arrays((2, 4, 1, 8), (2, 4, 1, 8)))
    with pytest.raises(ValueError, match="2 reference rows cannot serve 3 rows"):
        dot_product_attention(query, key, value, reference=two)


@pytest.mark.parametrize(
    ("capability", "dtype", "d", "obstacle"),
    [
        (None, jnp.bfloat16, 64, "the device is Some, expected an NVIDIA GPU"),
        ("gfx90a", jnp.bfloat16, 64, "the device is Some, expected an NVIDIA GPU"),
        ("7.5", jnp.bfloat16, 64, "the device is Some, expected an NVIDIA GPU"),
        ("9.0", jnp.float32, 64, "the dtype is float32"),
        ("9.0", jnp.bfloat16, 36, "36 channels, expected a multiple of 8 up to 256"),
        ("8.0", jnp.float16, 160, "160 channels, expected a multiple of 8 up to 128"),
        ("10.0", jnp.bfloat16, 512, "512 channels, expected a multiple of 8 up to 256"),
    ],
)
def test_cudnn_says_why_it_cannot_run(capability, dtype, d, obstacle, monkeypatch):
    class Some:
        device_kind = "Some"

    if capability:
        Some.compute_capability = capability
    monkeypatch.setattr(jax, "devices", lambda: [Some()])
    query, key, value, _ = case(1, 4, 4, 1, d, 0, 1, dtype=dtype)
    with pytest.raises(ValueError, match=f"'cudnn' cannot run: .*{obstacle}"):
        dot_product_attention(query, key, value, implementation="cudnn")
    dot_product_attention(query, key, value)


@pytest.mark.gpu
@pytest.mark.parametrize("d", [40, 80, 160])
def test_cudnn(d):
    query, key, value, reference = case(4, 64, 64, 8, d, 64, 1, dtype=jnp.bfloat16)
    out = dot_product_attention(query, key, value, reference=reference, implementation="cudnn")
    key, value = (with_reference(own, shared) for own, shared in zip((key, value), reference, strict=True))
    assert relative_error(out.astype(jnp.float32), plain(query, key, value)) < 1e-2
