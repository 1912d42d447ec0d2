"""diffusers' names to those of the original Stable Diffusion files.

The other way round than the converter goes, and written apart from it.
"""

import numpy as np

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}


def ldm_unet_key(key: str) -> str:
    """The original name of a UNet's tensor, for four levels of two layers."""
    parts = key.split(".")
    whole = {
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
    }
    for name, original in whole.items():
        if key.startswith(name + "."):
            return original + key[len(name) :]
    if parts[0] == "mid_block":
        if parts[1] == "attentions":
            return ".".join(["middle_block.1", *parts[3:]])
        return ".".join([f"middle_block.{2 * int(parts[2])}", RESNET[parts[3]], *parts[4:]])
    block, kind, layer = int(parts[1]), parts[2], int(parts[3])
    if parts[0] == "down_blocks":
        if kind == "downsamplers":
            return f"input_blocks.{3 * block + 3}.0.op.{parts[5]}"
        place = f"input_blocks.{3 * block + layer + 1}"
    else:
        if kind == "upsamplers":
            return f"output_blocks.{3 * block + 2}.{1 if block == 0 else 2}.conv.{parts[5]}"
        place = f"output_blocks.{3 * block + layer}"
    if kind == "attentions":
        return ".".join([f"{place}.1", *parts[4:]])
    return ".".join([f"{place}.0", RESNET[parts[4]], *parts[5:]])


def ldm_vae_key(key: str) -> str:
    """The original name of an autoencoder's tensor, for four levels."""
    parts = key.split(".")
    if parts[1] == "conv_norm_out":
        return f"{parts[0]}.norm_out.{parts[2]}"
    if parts[1] == "mid_block":
        if parts[2] == "resnets":
            return ".".join([parts[0], "mid", f"block_{int(parts[3]) + 1}", *parts[4:]])
        name = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}[parts[4]]
        return f"{parts[0]}.mid.attn_1.{name}.{parts[-1]}"
    if parts[1] in ("down_blocks", "up_blocks"):
        level = int(parts[2]) if parts[1] == "down_blocks" else 3 - int(parts[2])
        place = f"{parts[0]}.{'down' if parts[1] == 'down_blocks' else 'up'}.{level}"
        if parts[3] == "resnets":
            return ".".join([place, "block", parts[4], parts[5].replace("conv_shortcut", "nin_shortcut"), *parts[6:]])
        return f"{place}.{parts[3].removesuffix('rs')}.conv.{parts[-1]}"
    return key


def ldm_vae_value(key: str, value: np.ndarray) -> np.ndarray:
    """Attention is made of 1x1 convolutions there."""
    return value[..., None, None] if ".mid_block.attentions.0.to_" in key and value.ndim == 2 else value
