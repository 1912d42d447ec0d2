"""Protocols: everything that a score depends on beside the frames. Where papers leave something open, `choices` says
what was chosen here."""

import dataclasses
from typing import Literal

from aa_jax.metrics.lpips import PixelRange
from aa_jax.metrics.resize import WindowResize

Metric = Literal[
    "psnr", "psnr_uint8_overflow", "ssim", "ssim_gaussian", "l1", "l1_disco", "lpips_alex", "lpips_vgg",
    "identity", "flicker", "fid", "fid_vid", "fvd",
    "foreground_psnr", "background_psnr", "emblem_bits", "pose", "warping_error", "second_difference",
]  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """Which clips are compared, how, and by what.

    Attributes:
      name: of the protocol.
      clips: which clips these are, in words.
      num_clips: of the whole test set; None where any number is one. Another number is told in the results.
      split: of prepared records, or of the synthetic characters.
      num_frames: of a synthetic clip; None where the truth is no synthetic characters but files.
      height, width: of the frames that are compared; None compares at the truth's own size.
      fit: how frames of another aspect become that size: the centre of them ("crop"), or all of them ("letterbox").
      resample: filter for that.
      fps: at which clips are compared; those of another rate are refused. None asks for one rate of both.
      reference: the frame of the true clip that a model is shown.
      lengths: clips of unequal length are refused ("equal"), or compared as far as the shorter one goes ("shorter").
      sizes: predicted frames of another size than the true ones are refused ("equal"), or resized ("resize").
      average: over all "frames", or over "clips", a clip's frames before.
      metrics: names, in the order of the table.
      lpips_range: what LPIPS is given, see `aa_jax.metrics.lpips`.
      window_stride: between the windows of 16 frames of FVD and FID-VID.
      window_resize: see `aa_jax.metrics.features`.
      choices: what the published description leaves open, and was chosen here.
      published: tables of `aa_jax.evaluation.published` with numbers of this protocol.
    """

    name: str
    clips: str
    num_clips: int | None = None
    split: str = "test"
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    fit: Literal["crop", "letterbox"] = "crop"
    resample: Literal["lanczos", "bicubic"] = "bicubic"
    fps: float | None = None
    reference: Literal["first", "other"] = "first"
    lengths: Literal["equal", "shorter"] = "equal"
    sizes: Literal["equal", "resize"] = "equal"
    average: Literal["frames", "clips"] = "frames"
    metrics: tuple[Metric, ...]
    lpips_range: PixelRange = "signed"
    window_stride: int = 1
    window_resize: WindowResize = "bicubic_stretch"
    choices: tuple[str, ...] = ()
    published: str | None = None


IMAGE: tuple[Metric, ...] = ("psnr", "psnr_uint8_overflow", "ssim", "ssim_gaussian", "l1", "l1_disco")
VIDEO: tuple[Metric, ...] = ("fid", "fid_vid", "fvd", "warping_error", "flicker")
CHARACTERS: tuple[Metric, ...] = (
    "psnr", "foreground_psnr", "background_psnr", "ssim", "lpips_alex", "emblem_bits", "pose", "warping_error",
    "second_difference", "flicker", "fvd",
)  # fmt: skip

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="ubc-fashion",
            clips="the 100 test videos of UBC Fashion, each from its first frame",
            num_clips=100,
            height=768,
            width=576,
            fit="letterbox",
            sizes="resize",
            metrics=(*IMAGE, "lpips_alex", "lpips_vgg", "identity", *VIDEO),
            choices=(
                "size and resizing: papers do not state theirs",
                "LPIPS on [-1, 1], as it is defined, by both networks: papers do not say which is theirs",
                "every window of 16 frames for FVD and FID-VID, as in DisCo",
            ),
            published="ubc-fashion",
        ),
        Protocol(
            name="tiktok-disco",
            clips="DisCo's ten test videos of TikTok, each from its first frame",
            num_clips=10,
            split="test_disco",
            height=256,
            width=256,
            sizes="resize",
            metrics=(*IMAGE, "lpips_vgg", "identity", *VIDEO),
            lpips_range="unit",
            choices=("the middle of frames that are no squares",),
            published="tiktok",
        ),
        Protocol(
            name="tiktok-335-340",
            clips="sequences 335 to 340 of the published TikTok data, each from its first frame",
            num_clips=6,
            split="test_335_340",
            height=1024,
            width=576,
            sizes="resize",
            metrics=(*IMAGE, "lpips_alex", "lpips_vgg", "identity", *VIDEO),
            choices=("size, all frames, and windows at every frame: the paper that introduced this set states none",),
            published="tiktok-335-340",
        ),
        Protocol(
            name="characters",
            clips="64 clips of synthetic characters, 24 frames of 256x192",
            num_clips=64,
            split="identity",
            num_frames=24,
            height=256,
            width=192,
            fps=12.0,
            reference="other",
            average="clips",
            metrics=CHARACTERS,
        ),
        Protocol(
            name="characters-small",
            clips="64 clips of synthetic characters, 16 frames of 64x48",
            num_clips=64,
            split="identity",
            num_frames=16,
            height=64,
            width=48,
            fps=12.0,
            reference="other",
            average="clips",
            metrics=CHARACTERS,
        ),
        Protocol(
            name="videos",
            clips="any videos, at their own size",
            average="clips",
            metrics=(*IMAGE, "lpips_alex", "lpips_vgg", "identity", *VIDEO),
        ),
    )
}
