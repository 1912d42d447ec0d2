"""A source's tensors under current names; what is no weight is left out by name, or kept for the way back."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping

from aa_jax.network_tensors import listing
from aa_jax.tensor_file import LazyArray
from tools.convert_weights.detect import check_kind, describe
from tools.convert_weights.naming import canonical
from tools.convert_weights.sources import Source

# Parts of files that no network here has. What a file holds beyond them and its network's weights is an error.
IGNORED = {
    "checkpoint": (
        r"cond_stage_model\.|embedding_manager\.|model_ema\.",
        r"(?:(?:sqrt_|log_)?(?:one_minus_|recip_|recipm1_)?alphas_cumprod(?:_prev)?|betas|logvar|lvlb_weights|scale_factor"
        r"|posterior_(?:variance|log_variance_clipped|mean_coef[12]))$",
    ),
    "vae": (r"loss\.|model_ema\.",),
    "image_encoder": (r"text_model\.|(?:text_projection\.weight|logit_scale)$",),
    # AnimateDiff's loader, too, takes the temporal layers alone from a file of a whole UNet.
    "motion_module": (
        r"(?!.*\.motion_modules\.)(?:conv_in|time_embedding|down_blocks|mid_block|up_blocks|conv_norm_out|conv_out)\.",
    ),
}
CHECKPOINT_PREFIXES = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
# What modules register besides weights: counters and tables that follow from the configuration.
BUFFERS = re.compile(r"(?:.*\.)?(?:position_ids|num_batches_tracked)$")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One source's share of one network.

    Attributes:
      source: where it comes from.
      tensors: current PyTorch name to array.
      names: current PyTorch name to the key in the file.
      kept: key in the file to arrays that are no weights, small, and kept for the way back.
      ignored: what was left out, and how many tensors of it.
    """

    source: Source
    tensors: Mapping[str, LazyArray]
    names: Mapping[str, str]
    kept: Mapping[str, LazyArray]
    ignored: Mapping[str, int]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tensor.shape for key, tensor in self.tensors.items()}


def open_part(
    source: Source, role: str | None = None, *, prefix: str | None = None, also_ignored: str | None = None
) -> Part:
    """Bring a source's keys to current names and put aside what is no weight.

    Args:
      role: the network that it is to be, the source's own role by default.
      prefix: take only keys with this prefix, without it (a single-file checkpoint).
      also_ignored: a further pattern of current names to leave out.

    Raises:
      ValueError: the file is for something else, or two keys are two names of one tensor.
    """
    role = role or source.role
    prefix = source.prefix if prefix is None else prefix
    keys = {key.removeprefix(prefix): key for key in source.tensors if key.startswith(prefix)}
    current_names = canonical(keys)
    check_kind(role, source.argument, {current: source.tensors[keys[name]] for name, current in current_names.items()})
    patterns = [*IGNORED.get(role, ()), *([also_ignored] if also_ignored else [])]
    names: dict[str, str] = {}
    kept: dict[str, LazyArray] = {}
    ignored: collections.Counter[str] = collections.Counter()
    for name, current in current_names.items():
        if left_out := _ignored(current, patterns):
            ignored[left_out] += 1
        elif BUFFERS.match(current):
            kept[keys[name]] = source.tensors[keys[name]]
        elif current in names:
            raise ValueError(
                f"{source.argument}: {names[current]} and {keys[name]} are two names of one tensor, {current}"
            )
        else:
            names[current] = keys[name]
    tensors = {current: source.tensors[key] for current, key in names.items()}
    return Part(source=source, tensors=tensors, names=names, kept=kept, ignored=dict(ignored))


def open_checkpoint(source: Source) -> dict[str, Part]:
    """The parts of a single-file Stable Diffusion checkpoint by network."""
    prefixes = tuple(CHECKPOINT_PREFIXES.values())
    rest = [key for key in source.tensors if not key.startswith(prefixes)]
    if len(rest) == len(source.tensors):
        raise ValueError(
            f"{source.argument}: expected a single-file Stable Diffusion checkpoint "
            f"(model.diffusion_model.*, first_stage_model.*), but this looks like {describe(source.tensors)}"
        )
    left_out = {key: _ignored(key, IGNORED["checkpoint"]) for key in rest}
    if unknown := [key for key, name in left_out.items() if name is None]:
        raise ValueError(f"{source.argument}: {len(unknown)} keys are of no known part: {listing(unknown)}")
    parts = {role: open_part(source, role, prefix=prefix) for role, prefix in CHECKPOINT_PREFIXES.items()}
    parts["unet"] = dataclasses.replace(
        parts["unet"], ignored={**parts["unet"].ignored, **collections.Counter(map(str, left_out.values()))}
    )
    return parts


def _ignored(key: str, patterns: Iterable[str]) -> str | None:
    """The named part that `key` belongs to and that is left out."""
    for pattern in patterns:
        if match := re.match(pattern, key):
            return match[0] + ("*" if match[0].endswith(".") else "")
    return None
