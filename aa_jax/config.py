"""What a model folder's `config.json` says: its networks' shapes, how they were trained, and how they are to be run.

A value here is the paper's or the correct one by default. Where a published system does otherwise, its converted
weights carry that system's value, so that they give its results.
"""

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from aa_jax.diffusion.schedule import NoiseSchedule
from aa_jax.models.config import CLIPVisionConfig, PoseGuiderConfig, UNetConfig, VAEConfig, require

FORMAT = 1
Family = Literal["aa_jax", "moore", "novita", "musepose", "open", "sd", "animatediff"]
NETWORKS = (
    "denoising_unet", "reference_unet", "controlnet", "unet", "motion_module", "pose_guider", "vae", "image_encoder",
)  # fmt: skip
NEEDED = ("denoising_unet", "pose_guider", "vae")
"""What animating and training take,"""
APPEARANCE = ("reference_unet", "controlnet", "image_encoder")
"""and of these one or more, to see the reference with."""
# Fields of the denoising UNet that the networks beside it have too.
SHARED = ("in_channels", "block_out_channels", "layers_per_block", "attention_levels", "cross_attention_dim")
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How the weights are to be run. "Moore-like" are Moore-AnimateAnyone, novita's AnimateAnyone and MusePose.

    Attributes:
      num_inference_steps: denoising steps. Moore and novita 30, MusePose 20, Open-AnimateAnyone 25.
      guidance_scale: classifier-free guidance. Moore-like 3.5, Open 7.5.
      height: of the video, in pixels. Moore and novita 784, MusePose 768, Open 512. Sizes are multiples of
        `ModelConfig.downscale`.
      width: of the video, in pixels. Moore and novita 512, MusePose 768, Open 512.
      windows: how a clip longer than `window_length` is cut into overlapping windows and put together. "moore" (Moore,
        novita, Open): uniform windows, the last of which wraps round, so that frame 0 seems to follow the last frame.
      window_length: frames of a window. Moore and novita 24, MusePose 48, Open 16.
      window_overlap: frames that neighbouring windows share, None for the strategy's own number. 4 in all published
        systems.
      previous_timestep: a DDIM step goes to the "next" timestep of the table, or to the present one minus the whole
        "stride" (diffusers, so all published systems; off by one where the steps do not divide the 1000 of training, as
        Moore's 30).
      bank_dtype: dtype to which the ReferenceNet's features are rounded. "float16" (Moore-like), even where all else is
        float32.
      unconditional_embedding: image embedding of the unconditional half: "zeros" (all published systems), or CLIP's of
        a black image, "zero_image", which is what Moore drops to in training.
      clip_resize: how the reference becomes CLIP's square: "shortest_edge" and centre crop (the processor's own way;
        Moore's training, Open), "squash" without regard to aspect (Moore's and MusePose's long pipelines), "pad" by
        reflection (novita).
      reference_resample: filter that resizes the reference for the VAE. "lanczos" (Moore-like), "bicubic" (Open).
      pose_resample: filter that resizes drawn poses. "lanczos" (Moore-like), "bicubic" (Open, Moore's short pipeline).
      draw_face: face landmarks are drawn (Moore). Not in the paper, novita and MusePose.
      draw_feet: feet are drawn (novita).
      hand_joint_radius: of the discs at hand joints, in pixels. 2 (novita), 4 elsewhere.
      draw_scale_to: widths of sticks and discs are those of a drawing whose shorter side has so many pixels, and scale
        with the drawing's; None: the same in every drawing, as all published systems.
    """

    num_inference_steps: int = 20
    guidance_scale: float = 3.5
    height: int = 784
    width: int = 512
    windows: Literal["paper", "uniform", "triangular", "shifted", "moore"] = "paper"
    window_length: int = 24
    window_overlap: int | None = None
    previous_timestep: Literal["next", "stride"] = "next"
    bank_dtype: Literal["float32", "float16"] = "float32"
    unconditional_embedding: Literal["zeros", "zero_image"] = "zeros"
    clip_resize: Literal["shortest_edge", "squash", "pad"] = "shortest_edge"
    reference_resample: Literal["lanczos", "bicubic"] = "lanczos"
    pose_resample: Literal["lanczos", "bicubic"] = "lanczos"
    draw_face: bool = True
    draw_feet: bool = False
    hand_joint_radius: int = 4
    draw_scale_to: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_inference_steps", "height", "width", "window_length"):
            number = getattr(self, name)
            require(number > 0, f"InferenceConfig.{name} is {number}, expected at least 1")
        require(
            self.window_overlap is None or 0 <= self.window_overlap < self.window_length,
            f"InferenceConfig.window_overlap is {self.window_overlap}, expected 0 to {self.window_length - 1} "
            f"(below the window length {self.window_length})",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model folder: where its weights come from, the networks it has (None: not there), and how they are run.

    Attributes:
      family: the published system, or "aa_jax" for weights trained here.
      controlnet: sees the reference instead of or besides ReferenceNet and image encoder (the paper's ablation).
      unet: plain SD-1.5 UNet (family "sd").
      motion_module: temporal layers alone, described by the UNet that they go into (family "animatediff").
    """

    family: Family = "aa_jax"
    denoising_unet: UNetConfig | None = None
    reference_unet: UNetConfig | None = None
    controlnet: UNetConfig | None = None
    unet: UNetConfig | None = None
    motion_module: UNetConfig | None = None
    pose_guider: PoseGuiderConfig | None = None
    vae: VAEConfig | None = None
    image_encoder: CLIPVisionConfig | None = None
    schedule: NoiseSchedule = dataclasses.field(default_factory=NoiseSchedule)
    inference: InferenceConfig = dataclasses.field(default_factory=InferenceConfig)

    def __post_init__(self) -> None:
        self._check_widths()
        self._check_downscale()
        motion = self.denoising_unet and self.denoising_unet.motion
        require(
            not motion or self.inference.window_length <= motion.max_length,
            f"inference.window_length is {self.inference.window_length}, "
            f"but the temporal layers have {motion and motion.max_length} positions",
        )

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks that are there."""
        return tuple(name for name in NETWORKS if getattr(self, name) is not None)

    @property
    def lacking(self) -> str:
        """What animating and training take and is not there, in words; empty where all is."""
        missing = [name for name in NEEDED if getattr(self, name) is None]
        if all(getattr(self, name) is None for name in APPEARANCE):
            missing.append(" or ".join(APPEARANCE))
        return ", ".join(missing)

    @property
    def downscale(self) -> int:
        """Pixels, per side, that become one latent: the VAE's, or Stable Diffusion's 8 where there is no VAE."""
        return 8 if self.vae is None else self.vae.downscale

    def _check_widths(self) -> None:
        """What one network gives, the next must take."""
        unet = self.denoising_unet
        if unet is None:
            return
        for name in ("reference_unet", "controlnet"):
            other = getattr(self, name)
            for field in SHARED if other is not None else ():
                mine, its = getattr(unet, field), getattr(other, field)
                require(mine == its, f"{name} has {field} {its}, but denoising_unet {mine}: they must be the same")
            require(other is None or other.motion is None, f"{name}.motion is set, but a {name} sees one image alone")
        if self.image_encoder is not None:
            clip = self.image_encoder
            width = clip.projection_dim if clip.output == "image_embeds" else clip.hidden_size
            require(
                width == unet.cross_attention_dim,
                f"image_encoder gives embeddings of {width} channels ({clip.output}), "
                f"but denoising_unet takes {unet.cross_attention_dim}",
            )
        if self.pose_guider is not None:
            wanted = unet.in_channels if self.pose_guider.into_latent else unet.block_out_channels[0]
            require(
                self.pose_guider.out_channels == wanted,
                f"pose_guider gives {self.pose_guider.out_channels} channels, but denoising_unet takes {wanted} there",
            )
        if self.vae is not None:
            latent = self.vae.latent_channels
            require(
                latent == unet.in_channels,
                f"vae has latents of {latent} channels, but denoising_unet takes {unet.in_channels}",
            )
            require(
                latent == unet.out_channels,
                f"vae has latents of {latent} channels, but denoising_unet gives {unet.out_channels}",
            )

    def _check_downscale(self) -> None:
        """Latents and pose features must have one size, and the video must divide into latents."""
        guider = self.pose_guider
        if self.denoising_unet is not None and guider is not None and self.vae is not None:
            require(
                guider.downscale == self.vae.downscale,
                f"pose_guider ({guider.architecture}) downscales by {guider.downscale}, "
                f"but vae by {self.vae.downscale}: they must be the same",
            )
        for side in ("height", "width"):
            size = getattr(self.inference, side)
            require(
                size % self.downscale == 0,
                f"inference.{side} is {size}, expected a positive multiple of {self.downscale}, the pixels of a latent",
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; `from_dict` gives the same configuration back."""
        return {"format": FORMAT, **_plain(dataclasses.asdict(self))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ModelConfig":
        """The configuration that `to_dict` wrote.

        Raises:
          ValueError: a field is unknown, or a value has another type or is out of range.
        """
        require(isinstance(data, Mapping), f"a model configuration is a JSON object, got {type(data).__name__}")
        require(
            data.get("format") == FORMAT,
            f"model configuration has format {data.get('format')!r}, expected {FORMAT}: "
            "convert the weights again, or update aa_jax",
        )
        return build(cls, {key: value for key, value in data.items() if key != "format"}, "config")


def build(cls: type[T], data: Any, where: str) -> T:
    """The dataclass `cls` from JSON values, checked against its annotations; `where` names it in errors."""
    require(isinstance(data, Mapping), f"{where} is {data!r}, expected an object")
    hints = get_type_hints(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    unknown = [key for key in data if key not in names]
    require(not unknown, f"{where} has unknown field {', '.join(map(str, unknown))}, expected only {', '.join(names)}")
    return cls(**{key: _typed(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def _typed(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotation `hint` wants it."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        (inner,) = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else _typed(inner, value, where)
    if origin is Literal:
        require(
            value in get_args(hint), f"{where} is {value!r}, expected one of {', '.join(map(repr, get_args(hint)))}"
        )
        return value
    if origin is tuple:
        require(isinstance(value, list | tuple), f"{where} is {value!r}, expected a list")
        return tuple(_typed(get_args(hint)[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return build(hint, value, where)
    fits = isinstance(value, int | float) and not isinstance(value, bool) if hint is float else type(value) is hint
    require(fits, f"{where} is {value!r}, expected {hint.__name__}")
    return float(value) if hint is float else value


def _plain(value: Any) -> Any:
    """Tuples as lists, all the way down, as JSON has them."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value
