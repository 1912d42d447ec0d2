"""The safetensors format, against the safetensors library."""

import json

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from aa_jax.tensor_file import LazyArray, read_metadata, read_tensors, write_tensors

RNG = np.random.default_rng(0)
TENSORS = {
    "half": RNG.standard_normal((3, 5)).astype(np.float16),
    "single": RNG.standard_normal((2, 3, 4)).astype(np.float32),
    "double": RNG.standard_normal(7),
    "transposed": RNG.standard_normal((4, 6)).astype(np.float32).T,
    "scalar": np.array(5, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([True, False, True]),
}


def test_library_reads_what_is_written(tmp_path):
    path = tmp_path / "a.safetensors"
    facts = write_tensors(path, TENSORS, {"format": "pt"})
    with safe_open(path, "np") as file:
        assert set(file.keys()) == set(TENSORS) and file.metadata() == {"format": "pt"}
        for key, value in TENSORS.items():
            np.testing.assert_array_equal(file.get_tensor(key), value)
            assert file.get_tensor(key).dtype == value.dtype
    assert facts.size == path.stat().st_size
    assert facts.tensors == 7 and facts.parameters == sum(value.size for value in TENSORS.values())
    assert facts.dtype == "bool/float16/float32/float64/int64"


def test_reads_what_the_library_writes(tmp_path):
    path = tmp_path / "a.safetensors"
    written = {key: np.ascontiguousarray(value) if value.ndim else value for key, value in TENSORS.items()}
    save_file(written, path, {"a": "b"})
    read = read_tensors(path)
    assert read_metadata(path) == {"a": "b"} and set(read) == set(TENSORS)
    for key, value in TENSORS.items():
        assert (read[key].shape, read[key].dtype) == (value.shape, value.dtype)
        np.testing.assert_array_equal(read[key].read(), value)


def test_bfloat16_and_jax_arrays(tmp_path):
    path = tmp_path / "a.safetensors"
    values = jnp.arange(5, dtype=jnp.bfloat16) / 3
    write_tensors(path, {"x": values, "odd": np.ones(3, np.uint8)})
    assert read_tensors(path)["x"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(read_tensors(path)["x"].read(), np.asarray(values))
    torch = pytest.importorskip("torch")
    with safe_open(path, "pt") as file:
        assert file.get_tensor("x").dtype == torch.bfloat16
        np.testing.assert_array_equal(file.get_tensor("x").float().numpy(), np.asarray(values, np.float32))


def test_one_tensor_in_memory_at_a_time(tmp_path):
    """Each is read when it is written, not before, and let go of before the next."""
    alive = []

    class Tracked(np.ndarray):
        def __del__(self):
            alive.pop()

    def read() -> np.ndarray:
        assert not alive
        alive.append(1)
        return np.zeros(1000, np.float32).view(Tracked)

    lazy = LazyArray((1000,), np.dtype(np.float32), lambda: np.zeros(1000, np.float32) + np.asarray(read()))
    write_tensors(tmp_path / "a.safetensors", dict.fromkeys("abc", lazy))
    np.testing.assert_array_equal(read_tensors(tmp_path / "a.safetensors")["b"].read(), np.zeros(1000))


def test_values_that_are_not_as_announced(tmp_path):
    lazy = LazyArray((3,), np.dtype(np.float32), lambda: np.zeros(4, np.float32))
    with pytest.raises(ValueError, match=r"x gave float32 \(4,\) where float32 \(3,\) was announced"):
        write_tensors(tmp_path / "a.safetensors", {"x": lazy})
    with pytest.raises(ValueError, match="x has dtype complex64"):
        write_tensors(tmp_path / "a.safetensors", {"x": np.zeros(3, np.complex64)})


def test_damaged_files(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, TENSORS)
    data = path.read_bytes()
    for cut in (0, 5, 8, 100, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(ValueError, match="a.safetensors"):
            read_tensors(path)
    path.write_bytes(data + b"x")
    with pytest.raises(ValueError, match="header says"):
        read_tensors(path)
    for header in (
        {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}},
        {"x": {"dtype": "F8", "shape": [1]}},
        [1],
        {"x": 3},
    ):
        text = json.dumps(header).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
        with pytest.raises(ValueError, match="a.safetensors"):
            read_tensors(path)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "b.safetensors")
