"""Model folders: `config.json`, one `<network>.safetensors` per network, `manifest.json` with sizes and checksums, and
a model card where there is one.

Keys are the module path with dots (`down_blocks.0.resnets.1.conv1.kernel`), arrays have this library's layout. No
PyTorch is needed.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re
import types
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from aa_jax.atomic import new_folder
from aa_jax.bundled import BUNDLED
from aa_jax.config import ModelConfig
from aa_jax.heap import give_back
from aa_jax.models.bundle import abstract_network
from aa_jax.models.config import Policy
from aa_jax.network_tensors import check_tensors, fill, network_tensors, state_tensors
from aa_jax.tensor_file import FileFacts, LazyArray, Tensor, read_tensors, write_tensors

CONFIG, MANIFEST, CARD = "config.json", "manifest.json", "README.md"
# Stored parts that are not among the networks of `models.bundle`, and what they are built as.
BUILT_AS = {"unet": "denoising_unet", "motion_module": "denoising_unet"}


def save_model(
    folder: str | os.PathLike[str],
    config: ModelConfig,
    networks: Mapping[str, Mapping[str, Tensor]],
    *,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write a model folder, one tensor in memory at a time; it appears under its name only when it is whole.

    Args:
      folder: must not exist, or be empty.
      networks: name of each network in `config.networks` to its tensors, as `network_tensors` gives them.
      texts: further files, such as a model card, by name.

    Raises:
      ValueError: `folder` has something in it, or the networks, keys or shapes are not the configuration's.
      OSError: writing failed; nothing is left.
    """
    with new_folder(folder) as partial:
        write_model(partial, config, networks)
        for name, text in (texts or {}).items():
            (partial / name).write_text(text, encoding="utf-8")


def write_model(
    folder: Path,
    config: ModelConfig,
    networks: Mapping[str, Mapping[str, Tensor]],
    manifest: Mapping[str, Any] | None = None,
    extra_files: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> dict[str, FileFacts]:
    """Write the files of a model folder into `folder` as it is; see `save_model`.

    Args:
      manifest: further entries of the manifest.
      extra_files: further safetensors files by name; those without tensors are not written.
    """
    if set(networks) != set(config.networks):
        raise ValueError(
            f"networks {', '.join(networks)} given, but the configuration has {', '.join(config.networks)}"
        )
    facts = {}
    for name, tensors in networks.items():
        check_tensors(tensors, expected_tensors(name, getattr(config, name)), f"{name} to be saved")
        facts[f"{name}.safetensors"] = write_tensors(folder / f"{name}.safetensors", tensors)
    for name, tensors in (extra_files or {}).items():
        if tensors:
            facts[name] = write_tensors(folder / name, tensors)
    (folder / CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    files = {name: dataclasses.asdict(fact) for name, fact in facts.items()}
    (folder / MANIFEST).write_text(json.dumps({"files": files, **(manifest or {})}, indent=1) + "\n")
    return facts


def load_config(folder: str | os.PathLike[str]) -> ModelConfig:
    """The configuration of a model folder.

    Raises:
      FileNotFoundError: there is no such folder, or it is no model folder.
      ValueError: the configuration cannot be read or is not valid.
    """
    return ModelConfig.from_dict(_read_json(Path(folder), CONFIG))


def load_manifest(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a model folder; errors as in `load_config`."""
    return _read_json(Path(folder), MANIFEST)


def open_tensors(folder: str | os.PathLike[str], name: str) -> dict[str, LazyArray]:
    """The stored tensors of a network, read only when used.

    Raises:
      FileNotFoundError: the network's file is missing.
      ValueError: the folder has no such network, or the file is not whole.
    """
    folder = Path(folder)
    config = load_config(folder)
    if name not in config.networks:
        raise ValueError(
            f"{folder} has no {name} (family {config.family}), only {', '.join(config.networks) or 'nothing'}"
        )
    path = folder / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from the model folder: download or convert the model again")
    _check_size(path, load_manifest(folder))
    return read_tensors(path)


def load_network(
    folder: str | os.PathLike[str], name: str, *, dtype: DTypeLike | None = None, policy: Policy | None = None
) -> nnx.Module:
    """Build a network and fill it from a model folder; never two copies of it are in memory.

    Args:
      name: one of the folder's networks. A "motion_module" alone is no network: use `open_tensors`.
      dtype: floating-point weights are cast to it, but for norms, their statistics and position tables, which are made
        float32. None: as stored.
      policy: how the network computes.

    Raises:
      FileNotFoundError, ValueError: as `open_tensors`, or the stored keys and shapes are not the network's.
    """
    if name == "motion_module":
        raise ValueError(
            "motion_module is no network by itself: load a denoising_unet, or read its tensors with open_tensors"
        )
    tensors = open_tensors(folder, name)
    network_config = getattr(load_config(folder), name)
    return build_network(
        name, network_config, tensors, dtype=dtype, policy=policy, where=str(Path(folder) / f"{name}.safetensors")
    )


def build_network(
    name: str,
    config: Any,
    tensors: Mapping[str, Tensor],
    *,
    dtype: DTypeLike | None = None,
    policy: Policy | None = None,
    where: str = "tensors",
) -> nnx.Module:
    """A network of `config`, filled from `tensors` one by one; `where` names them in errors. See `load_network`."""
    network = abstract_network(BUILT_AS.get(name, name), config, policy)
    filled = fill(network, tensors, where, dtype=lambda key: cast_dtype(key, tensors, dtype))
    give_back()
    return nnx.merge(*filled)


def expected_tensors(name: str, config: Any) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Keys, shapes and dtypes of a network's tensors, without making them."""
    expected = _abstract_tensors(BUILT_AS.get(name, name), config)
    if name == "motion_module":
        return {key: leaf for key, leaf in expected.items() if ".motion_modules." in key}
    return expected


@functools.cache
def _abstract_tensors(name: str, config: Any) -> Mapping[str, jax.ShapeDtypeStruct]:
    """Building a network abstractly takes seconds, and a conversion asks for the same one several times."""
    tensors = network_tensors(abstract_network(name, config))
    return types.MappingProxyType({key: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for key, leaf in tensors.items()})


def cast_dtype(key: str, tensors: Mapping[str, Tensor], dtype: DTypeLike | None) -> np.dtype:
    """The dtype of tensor `key` in a network whose weights are to be in `dtype` (None: as they are)."""
    stored = np.dtype(tensors[key].dtype)
    if dtype is None or not jnp.issubdtype(stored, jnp.floating):
        return stored
    return np.dtype(jnp.float32 if keeps_float32(key, tensors) else dtype)


def keeps_float32(key: str, keys: Container[str]) -> bool:
    """Whether a tensor belongs to a norm or is a position table: those lose too much in half precision, and are
    small."""
    parent, _, leaf = key.rpartition(".")
    return leaf in ("scale", "mean", "var", "pe") or leaf == "bias" and f"{parent}.scale" in keys


def verify_sizes(folder: str | os.PathLike[str]) -> None:
    """Compare every file's size with the manifest; errors as in `verify_checksums`."""
    folder = Path(folder)
    manifest = load_manifest(folder)
    for name in manifest["files"]:
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing from the model folder: download or convert the model again")
        _check_size(path, manifest)


def verify_checksums(folder: str | os.PathLike[str]) -> None:
    """Compare every file's bytes with the manifest.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is not what was written.
    """
    verify_sizes(folder)
    for name, facts in load_manifest(folder)["files"].items():
        path = Path(folder) / name
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != facts["sha256"]:
            raise ValueError(
                f"{path} has SHA-256 {digest[:12]}..., "
                f"but the manifest says {facts['sha256'][:12]}...: download it again"
            )


def resolve(
    path_or_hub_id: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """A local model folder: the path itself, or a download of the Hugging Face Hub's `owner/name`, kept in its cache.

    Args:
      path_or_hub_id: a folder, `owner/name`, or `owner/name@revision`; "bundled" is the model that comes with the
        package.
      revision: a branch, tag or commit of the hub's repository; default its main branch.
      cache_dir: where downloads are kept; default the hub's own cache.

    Raises:
      FileNotFoundError: no such folder, and not the form of a hub id; or the hub has no such model or revision.
      ValueError: a revision of a local folder, or two.
    """
    path = Path(path_or_hub_id)
    if path == Path("bundled") and not path.exists():
        path = BUNDLED
    if path.is_dir():
        if revision is not None:
            raise ValueError(f"revision {revision!r} given, but {path} is a local folder, which has none: leave it out")
        return path
    form = re.fullmatch(r"([\w][\w.-]*/[\w][\w.-]*)(?:@([\w][\w./-]*))?", str(path_or_hub_id))
    if path.exists() or form is None:
        raise FileNotFoundError(f"{path_or_hub_id} is no model folder and no hub id of the form owner/name")
    hub_id, tag = form.groups()
    if tag is not None and revision is not None:
        raise ValueError(f"revision {revision!r} given, but {path_or_hub_id} names one too: give one of them")
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{path_or_hub_id} is not a local folder, and huggingface_hub, which would download it, is missing"
        ) from error
    patterns = [CONFIG, MANIFEST, CARD, "*.safetensors"]
    try:
        return Path(
            huggingface_hub.snapshot_download(
                hub_id, revision=revision or tag, cache_dir=cache_dir, allow_patterns=patterns
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FileNotFoundError(
            f"{path_or_hub_id} is not a local folder and could not be downloaded from the hub: {reason}"
        ) from error


def save_pretrained(
    folder: str | os.PathLike[str],
    config: ModelConfig,
    states: Mapping[str, nnx.State],
    *,
    card: str | None = None,
) -> None:
    """Write networks in memory as a model folder; `resolve` and `load_network` read it back bit for bit.

    Args:
      folder: must not exist, or be empty.
      states: of each network, as `nnx.split` gives them and `Animator.weights` holds them.
      card: text of the model card, README.md.

    Raises:
      ValueError, OSError: as `save_model`.
    """
    tensors = {name: state_tensors(state) for name, state in states.items()}
    save_model(folder, config, tensors, texts=None if card is None else {CARD: card})


def _check_size(path: Path, manifest: Mapping[str, Any]) -> None:
    facts = manifest.get("files", {}).get(path.name)
    if facts is None:
        raise ValueError(f"{path} is not in the manifest of its folder: convert the model again")
    if path.stat().st_size != facts["size"]:
        raise ValueError(
            f"{path} has {path.stat().st_size} bytes, but the manifest says {facts['size']}: "
            "download or convert the model again"
        )


def _read_json(folder: Path, name: str) -> Any:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist, expected a model folder")
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"{folder} has no {name}: it is no model folder (convert published weights with tools.convert_weights)"
        )
    try:
        return json.loads((folder / name).read_text())
    except ValueError as error:
        raise ValueError(f"{folder / name} is no valid JSON: {error}") from error
