"""A published system at its true size: every key and shape, memory, and the way back."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.tools.files import arguments

LISTS = {
    "reference_unet": "moore_reference_unet",
    "denoising_unet": "moore_denoising_unet_stage1_no_motion",
    "motion_module": "moore_motion_module",
    "pose_guider": "pose_guider",
    "vae": "vae_sd_ft_mse_deprecated_names",
    "image_encoder": "image_encoder_transformers_4_30",
}


def run(*arguments: str) -> tuple[str, int]:
    """Standard output of the converter, and the most memory it took, in bytes."""
    code = (
        "import resource, sys; from tools.convert_weights.__main__ import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024); sys.exit(code)"
    )
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    *output, peak = result.stdout.splitlines()
    return "\n".join(output), int(peak)


@pytest.mark.full
def test_moore_at_its_true_size(keys, recipe, tmp_path):
    """Every tensor is one random number, so that the files stay small."""
    files, weights = {}, {}
    for number, (role, name) in enumerate(LISTS.items()):
        rng = np.random.default_rng(number)
        weights[role] = {}
        for key, shape in keys(name).items():
            if key.endswith("position_ids"):
                weights[role][key] = torch.arange(shape[-1]).reshape(shape)
            else:
                value = torch.tensor(rng.standard_normal(), dtype=torch.float16)
                weights[role][key] = value.reshape((1,) * len(shape)).expand(shape)
        files[role] = tmp_path / f"{role}.pth"
        torch.save(weights[role], files[role])
    output, peak = run("moore", *arguments(files), "--output", str(tmp_path / "model"))
    assert "SD-1.5, mid block, 32 positions (AnimateDiff v2)" in output
    print(f"peak memory {peak / 2**30:.2f} GiB")
    assert peak < 3 * 2**30
    rows = json.loads((tmp_path / "model" / "conversion.json").read_text())["networks"]
    counts = {row["network"]: (row["tensors"], row["parameters"]) for row in rows}
    tables = 2 * 32 * (5 * 320 + 5 * 640 + 11 * 1280)
    assert counts["denoising_unet"] == (1274, 859_520_964 + 453_209_280 + tables)
    assert counts["reference_unet"] == (682, 859_508_800)

    run("export", "--model", str(tmp_path / "model"), "--to", "moore", "--output", str(tmp_path / "back"))
    for role, before in weights.items():
        after = torch.load(tmp_path / "back" / f"{role}.pth", weights_only=True, mmap=True)
        assert list(after) == list(before)
        for key, value in before.items():
            assert after[key].dtype == value.dtype and torch.equal(after[key], value), key
