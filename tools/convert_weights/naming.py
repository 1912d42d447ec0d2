"""The module tree is the key map: a tensor's PyTorch key and layout follow from its path in the network.

`canonical` brings the names that files use to those of current diffusers and transformers, which the module tree
mirrors.
"""

import re
from collections.abc import Iterable

import numpy as np

from tools.convert_weights.ldm import is_ldm_unet, is_ldm_vae, ldm_unet_names, ldm_vae_names

LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight", "mean": "running_mean", "var": "running_var"}
# Whole keys that do not follow the rule: the learned scale of Open-AnimateAnyone's guiders is no norm's.
ALIASES = {"scale": "scale"}
DEPRECATED_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_DEPRECATED = re.compile(r"(?<=\.attentions\.\d\.)(query|key|value|proj_attn)(?=\.)")


def torch_key(key: str) -> str:
    """PyTorch's name of the tensor at `key`."""
    parent, _, leaf = key.rpartition(".")
    return ALIASES.get(key) or f"{parent}.{LEAVES.get(leaf, leaf)}".lstrip(".")


def torch_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Shape in PyTorch's layout of the tensor at `key`."""
    return tuple(shape[axis] for axis in _axes(key, len(shape)))


def to_torch(key: str, array: np.ndarray) -> np.ndarray:
    """The tensor at `key` in PyTorch's layout."""
    return array.transpose(_axes(key, array.ndim))


def from_torch(key: str, array: np.ndarray) -> np.ndarray:
    """The tensor at `key` from PyTorch's layout."""
    return array.transpose(np.argsort(_axes(key, array.ndim)))


def _axes(key: str, ndim: int) -> tuple[int, ...]:
    """Where PyTorch's axes are here: linear layers are (out, in) there, (in, out) here; convolutions OIHW and HWIO."""
    if key.rpartition(".")[2] == "kernel":
        return (1, 0) if ndim == 2 else (3, 2, 0, 1)
    return tuple(range(ndim))


def canonical(keys: Iterable[str]) -> dict[str, str]:
    """Name in the file to current name, whichever of the known namings the file uses."""
    keys = list(keys)
    if is_ldm_unet(keys):
        return ldm_unet_names(keys)
    if is_ldm_vae(keys):
        return ldm_vae_names(keys)
    return {key: _DEPRECATED.sub(lambda match: DEPRECATED_ATTENTION[match[1]], key) for key in keys}
