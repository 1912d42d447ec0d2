"""Compiled programs as files: a folder with one file each and a manifest, to be loaded instead of compiling.

The files are pickles and machine code: loading them runs what is in them. Load only what you would run as a program.
The manifest's checksums guard against damage, not against whoever wrote it.
"""

import functools
import hashlib
import json
import os
import pickle
import re
from collections.abc import Container, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
from flax import nnx
from jax.experimental.serialize_executable import deserialize_and_load, serialize
from jax.extend.backend import get_backend

import aa_jax
from aa_jax.atomic import new_folder
from aa_jax.config import ModelConfig
from aa_jax.processor import processor
from aa_jax.programs import Programs, name_of

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG: Any = jax.config  # its attributes are made when JAX is imported
AGAIN = "compile again with python -m aa_jax.compile"
# What to say of checksums, which tell nothing themselves.
OTHER = {
    "code": "by another version of aa_jax",
    "model": "for another model, or other options of it (dtype, attention, what with_inference changes)",
}


def save(programs: Programs, path: str | os.PathLike[str]) -> dict[str, int]:
    """Write all that was compiled so far, and not loaded, as a folder; it appears under its name only when it is whole.

    JAX's own cache has to be off: on a CPU, a program that was read from there lacks parts when it is written again.

    Returns:
      Bytes of each file.

    Raises:
      ValueError: there is nothing to write, `path` has something in it, or JAX's cache is on.
      OSError: writing failed; nothing is left.
    """
    if CONFIG.jax_enable_compilation_cache and CONFIG.jax_compilation_cache_dir:
        raise ValueError(
            "programs from JAX's compilation cache cannot be saved: expected it to be off "
            "(JAX_ENABLE_COMPILATION_CACHE=false), as in python -m aa_jax.compile"
        )
    files: dict[str, dict[str, str]] = {}
    sizes: dict[str, int] = {}
    with new_folder(path) as partial:
        for name, program in programs.named.items():
            for key, executable in program.executables.items():
                arguments = name_of(key)
                if arguments in program.stored:
                    continue
                content = pickle.dumps(serialize(executable))
                file = f"{name}-{arguments[:16]}.bin"
                (partial / file).write_bytes(content)
                sizes[file] = len(content)
                digest = hashlib.sha256(content).hexdigest()
                files[file] = {"program": name, "key": arguments, "sha256": digest}
        if not files:
            raise ValueError(f"nothing was compiled yet that could be saved to {path}")
        document = {"format": FORMAT, **circumstances(programs), "files": files}
        (partial / MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    return sizes


def load(programs: Programs, path: str | os.PathLike[str]) -> None:
    """Make a folder's programs known to `programs`, which load each when it is first called, and compile, as without,
    for shapes and options that are not among them.

    Unpickles what the manifest names: the files are as trusted as code, see the module.

    Raises:
      FileNotFoundError: there is no such folder, or a file of it is missing.
      ValueError: the programs are for another device, JAX, aa_jax or model, or a file is damaged.
    """
    folder = Path(path)
    document = _manifest(folder, programs.named)
    for name, here in circumstances(programs).items():
        there = document.get(name)
        if there != here:
            what = OTHER.get(name, f"for {name} {there!r}, here it is {here!r}")
            raise ValueError(f"{folder} was compiled {what}: {AGAIN}")
    for file, facts in document["files"].items():
        _check(folder / file, facts["sha256"])
        programs.named[facts["program"]].stored[facts["key"]] = functools.partial(
            _load, folder / file, programs.devices or jax.devices()[:1]
        )


def circumstances(programs: Programs) -> dict[str, str]:
    """All that programs depend on beside their arguments. Weights are arguments: a model trained further fits too."""
    device = jax.devices()[0]
    backend = get_backend()
    return {
        "platform": f"{device.platform} ({' '.join(backend.platform_version.split())})",
        "device": device.device_kind,
        "devices": str(max(len(programs.devices), 1)),
        "processor": processor() if device.platform == "cpu" else "any",
        **{package: version(package) for package in ("jax", "jaxlib", "flax")},
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "matmul_precision": str(CONFIG.jax_default_matmul_precision),
        "code": _code(),
        "model": _model(programs.config, programs.graphs),
    }


def _code() -> str:
    """Checksum of the modules that programs are made of."""
    root = Path(aa_jax.__file__).parent
    files = [root / "programs.py", *sorted(root.glob("models/*.py")), *sorted(root.glob("diffusion/*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _model(config: ModelConfig, graphs: Mapping[str, nnx.GraphDef]) -> str:
    """Checksum of the networks' structure and options. Functions in it are named, but for where they are in memory."""
    structure = re.sub(r" at 0x[0-9a-f]+", "", repr(sorted(graphs.items())))
    text = json.dumps(config.to_dict(), sort_keys=True) + structure
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(folder: Path, names: Container[str]) -> dict[str, Any]:
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder} holds no compiled programs: make them with python -m aa_jax.compile")
    try:
        document = json.loads((folder / MANIFEST).read_text())
        if document["format"] != FORMAT:
            raise ValueError(f"its format is {document['format']}, expected {FORMAT}")
        for file, facts in document["files"].items():
            if Path(file).name != file or facts["program"] not in names:
                raise ValueError(f"it names {file} of a program {facts['program']}")
            facts["key"], facts["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / MANIFEST} cannot be read ({error}): {AGAIN}") from error
    return document


def _check(path: Path, digest: str) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing from the compiled programs: {AGAIN}")
    with open(path, "rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise ValueError(f"{path} is not what was written: {AGAIN}")


def _load(path: Path, devices: Sequence[jax.Device]) -> jax.stages.Compiled:
    executable, in_tree, out_tree = pickle.loads(path.read_bytes())
    return deserialize_and_load(executable, in_tree, out_tree, execution_devices=devices)
