"""What the manifest remembers of the source files, so that `export` gives them back bit for bit."""

import collections
from collections.abc import Mapping
from typing import Any

from tools.convert_weights.convert import Conversion
from tools.convert_weights.naming import torch_key, torch_shape
from tools.convert_weights.sources import Source

KEPT_FILE = "source.safetensors"


def source_facts(conversion: Conversion) -> list[dict[str, Any]]:
    """One JSON object per source. `tensors` maps each key of the file to "network/key" in the model folder, or
    "source/key" of `KEPT_FILE`."""
    places: dict[str, dict[str, str]] = collections.defaultdict(dict)
    shapes: dict[str, dict[str, list[int]]] = collections.defaultdict(dict)
    ignored: dict[str, list[str]] = collections.defaultdict(list)
    sources: dict[str, Source] = {}
    for network, parts in conversion.parts.items():
        tree = {torch_key(key): key for key in conversion.networks[network]}
        for part in parts:
            role = part.source.role
            sources[role] = part.source
            ignored[role] += [f"{name} ({number} tensors)" for name, number in part.ignored.items()]
            for current, key in part.names.items():
                if f"{role}/{key}" in conversion.kept:
                    continue
                places[role][key] = f"{network}/{tree[current]}"
                plain = torch_shape(tree[current], conversion.networks[network][tree[current]].shape)
                if part.tensors[current].shape != plain:
                    shapes[role][key] = list(part.tensors[current].shape)
    for name in conversion.kept:
        role, _, key = name.partition("/")
        places[role][key] = f"source/{name}"
    return [_facts(source, places[role], shapes[role], ignored[role]) for role, source in sources.items()]


def _facts(
    source: Source, places: Mapping[str, str], shapes: Mapping[str, list[int]], ignored: list[str]
) -> dict[str, Any]:
    dtypes = {key: str(source.tensors[key].dtype) for key in places}
    usual = collections.Counter(dtypes.values()).most_common(1)[0][0]
    return {
        "role": source.role,
        "file": source.path.name,
        "folder": source.is_folder,
        "format": source.format,
        "wrapper": source.wrapper,
        "others": source.others,
        "metadata": source.metadata,
        "config": source.config,
        "dtype": usual,
        "dtypes": {key: dtype for key, dtype in dtypes.items() if dtype != usual},
        "shapes": shapes,
        "not_kept": [*ignored, *source.dropped],
        "shards": {name: {key: places[key] for key in keys if key in places} for name, keys in source.shards.items()},
    }
