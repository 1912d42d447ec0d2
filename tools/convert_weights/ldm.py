"""Names of the original Stable Diffusion (latent diffusion, "LDM") files, brought to diffusers'."""

import re
from collections.abc import Callable, Iterable, Sequence

Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str]]

RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def is_ldm_unet(keys: Iterable[str]) -> bool:
    """Whether the keys are those of an LDM UNet."""
    return any(key.startswith("input_blocks.") for key in keys)


def is_ldm_vae(keys: Iterable[str]) -> bool:
    """Whether the keys are those of an LDM autoencoder."""
    return any(key.startswith("encoder.down.") for key in keys)


def ldm_unet_names(keys: Sequence[str]) -> dict[str, str]:
    """LDM name to diffusers name; names that no rule knows stay as they are."""
    # Blocks are counted through: the first downsampling comes after one level's layers (and conv_in, which is number
    # 0).
    downsamplings = [int(match[1]) for key in keys if (match := re.match(r"input_blocks\.(\d+)\.0\.op\.", key))]
    per_level = min(downsamplings, default=3)

    def down(index: str) -> tuple[int, int]:
        return divmod(int(index) - 1, per_level)

    def up(index: str) -> tuple[int, int]:
        return divmod(int(index), per_level)

    def layer(side: str, place: tuple[int, int], kind: str, rest: str) -> str:
        return f"{side}_blocks.{place[0]}.{kind}.{place[1]}.{rest}"

    rules: list[Rule] = [
        _rule(r"time_embed\.([02])\.", lambda m: f"time_embedding.linear_{int(m[1]) // 2 + 1}."),
        _rule(r"input_blocks\.0\.0\.", lambda m: "conv_in."),
        _rule(r"out\.0\.", lambda m: "conv_norm_out."),
        _rule(r"out\.2\.", lambda m: "conv_out."),
        _rule(r"input_blocks\.(\d+)\.0\.op\.", lambda m: f"down_blocks.{down(m[1])[0]}.downsamplers.0.conv."),
        _rule(r"input_blocks\.(\d+)\.0\.(.*)", lambda m: layer("down", down(m[1]), "resnets", _resnet(m[2]))),
        _rule(r"input_blocks\.(\d+)\.1\.(.*)", lambda m: layer("down", down(m[1]), "attentions", m[2])),
        _rule(r"middle_block\.1\.", lambda m: "mid_block.attentions.0."),
        _rule(r"middle_block\.([02])\.(.*)", lambda m: f"mid_block.resnets.{int(m[1]) // 2}.{_resnet(m[2])}"),
        _rule(r"output_blocks\.(\d+)\.[12]\.conv\.", lambda m: f"up_blocks.{up(m[1])[0]}.upsamplers.0.conv."),
        _rule(r"output_blocks\.(\d+)\.0\.(.*)", lambda m: layer("up", up(m[1]), "resnets", _resnet(m[2]))),
        _rule(r"output_blocks\.(\d+)\.1\.(.*)", lambda m: layer("up", up(m[1]), "attentions", m[2])),
    ]
    return _rename(keys, rules)


def ldm_vae_names(keys: Sequence[str]) -> dict[str, str]:
    """LDM name to diffusers name; names that no rule knows stay as they are."""
    last = max((int(match[1]) for key in keys if (match := re.match(r"decoder\.up\.(\d+)\.", key))), default=0)
    rules: list[Rule] = [
        _rule(
            r"encoder\.down\.(\d+)\.block\.(\d+)\.(.*)",
            lambda m: f"encoder.down_blocks.{m[1]}.resnets.{m[2]}.{_vae_resnet(m[3])}",
        ),
        _rule(r"encoder\.down\.(\d+)\.downsample\.", lambda m: f"encoder.down_blocks.{m[1]}.downsamplers.0."),
        # The decoder's levels are counted from the finest there, in the order of the forward pass here.
        _rule(
            r"decoder\.up\.(\d+)\.block\.(\d+)\.(.*)",
            lambda m: f"decoder.up_blocks.{last - int(m[1])}.resnets.{m[2]}.{_vae_resnet(m[3])}",
        ),
        _rule(r"decoder\.up\.(\d+)\.upsample\.", lambda m: f"decoder.up_blocks.{last - int(m[1])}.upsamplers.0."),
        _rule(r"(encoder|decoder)\.mid\.block_([12])\.", lambda m: f"{m[1]}.mid_block.resnets.{int(m[2]) - 1}."),
        _rule(
            r"(encoder|decoder)\.mid\.attn_1\.(norm|q|k|v|proj_out)\.",
            lambda m: f"{m[1]}.mid_block.attentions.0.{VAE_ATTENTION[m[2]]}.",
        ),
        _rule(r"(encoder|decoder)\.norm_out\.", lambda m: f"{m[1]}.conv_norm_out."),
    ]
    return _rename(keys, rules)


def _rule(pattern: str, name: Callable[[re.Match[str]], str]) -> Rule:
    return re.compile(pattern), name


def _rename(keys: Iterable[str], rules: Sequence[Rule]) -> dict[str, str]:
    """Rewrite the part that the first fitting rule matches."""

    def rename(key: str) -> str:
        for pattern, name in rules:
            if match := pattern.match(key):
                return name(match) + key[match.end() :]
        return key

    return {key: rename(key) for key in keys}


def _resnet(rest: str) -> str:
    for old, new in RESNET.items():
        if rest.startswith(f"{old}."):
            return new + rest[len(old) :]
    return rest


def _vae_resnet(rest: str) -> str:
    return rest.replace("nin_shortcut.", "conv_shortcut.")
