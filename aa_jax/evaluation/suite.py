"""The metrics of a protocol, ready to run: what each needs, and which cannot be had."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from aa_jax.data.synthetic.logo import bit_accuracy
from aa_jax.data.synthetic.source import SyntheticClip
from aa_jax.evaluation.footage import ClipFootage, Footage
from aa_jax.evaluation.keypoint_regressor import KeypointRegressor, load, pck
from aa_jax.evaluation.protocols import Metric, Protocol
from aa_jax.metrics import image, temporal
from aa_jax.metrics.features import frame_features, window_features
from aa_jax.metrics.identity import FaceEmbedding, five_points, identity_similarity
from aa_jax.metrics.lpips import lpips
from aa_jax.metrics.weights import Kind, MetricNetwork, MissingWeightsError, load_metric_network
from aa_jax.pose.fit import fit_keypoints
from aa_jax.pose.keypoints import VISIBLE

Frames = UInt8[np.ndarray, "t h w 3"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """A pair's frames, of one size.

    Attributes:
      predicted, truth: the frames.
      footage: the true clip, for what else is known of it.
    """

    predicted: Frames
    truth: Frames
    footage: Footage

    @property
    def character(self) -> SyntheticClip:
        """The synthetic clip that the truth is."""
        assert isinstance(self.footage, ClipFootage) and isinstance(self.footage.clip, SyntheticClip)
        return self.footage.clip

    @functools.cached_property
    def masks(self) -> np.ndarray:
        """(t, h, w) where the synthetic character is."""
        return self.character.masks(range(len(self.truth)))

    @functools.cached_property
    def flow(self) -> tuple[Float[np.ndarray, "n h w 2"], Bool[np.ndarray, "n h w"]]:
        """True flow of the synthetic character's frames but the last, and where it leads to the same part, alone."""
        truth = self.character.annotation(range(len(self.truth)))
        flow, parts = np.asarray(truth.flow)[:-1], np.asarray(truth.parts)
        frame, row, column = np.indices(flow.shape[:3])
        x, y = (np.rint(start + flow[..., axis]).astype(int) for axis, start in enumerate((column, row)))
        there = parts[1:][frame, y.clip(0, parts.shape[1] - 1), x.clip(0, parts.shape[2] - 1)]
        return flow, (there == parts[:-1]) & temporal.visible_uncrowded(flow)


Values = Callable[[Compared], Float[np.ndarray, " n"]]
"""One or several numbers of a pair, NaN where there is none."""
Features = Callable[[Frames], Float[np.ndarray, "n d"]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Info:
    """What a column says.

    Attributes:
      title: at its head.
      better: "higher", "lower", or "truth": the closer to the true frames' own value.
      digits: after the point.
      own: true frames have a value of their own, which is worth telling.
    """

    title: str
    better: str
    digits: int
    own: bool = False


INFO: Mapping[Metric, Info] = {
    "psnr": Info(title="PSNR, dB", better="higher", digits=2),
    "psnr_uint8_overflow": Info(title="PSNR with 8-bit overflow, dB", better="higher", digits=2),
    "foreground_psnr": Info(title="PSNR of the character, dB", better="higher", digits=2),
    "background_psnr": Info(title="PSNR of the background, dB", better="higher", digits=2),
    "ssim": Info(title="SSIM (gray, 7x7)", better="higher", digits=4),
    "ssim_gaussian": Info(title="SSIM (RGB, Gaussian)", better="higher", digits=4),
    "l1": Info(title="L1", better="lower", digits=4),
    "l1_disco": Info(title="L1 as DisCo's", better="lower", digits=8),
    "lpips_alex": Info(title="LPIPS (AlexNet)", better="lower", digits=4),
    "lpips_vgg": Info(title="LPIPS (VGG)", better="lower", digits=4),
    "identity": Info(title="Identity (cosine)", better="higher", digits=4, own=True),
    "fid": Info(title="FID", better="lower", digits=2),
    "fid_vid": Info(title="FID-VID", better="lower", digits=2),
    "fvd": Info(title="FVD", better="lower", digits=2),
    "flicker": Info(title="Flicker (VBench)", better="truth", digits=4, own=True),
    "emblem_bits": Info(title="Emblem bits", better="higher", digits=4, own=True),
    "pose": Info(title="Pose (PCK)", better="higher", digits=4, own=True),
    "warping_error": Info(title="Warping error", better="truth", digits=6, own=True),
    "second_difference": Info(title="Unevenness in time", better="truth", digits=3),
}
SYNTHETIC = ("foreground_psnr", "background_psnr", "emblem_bits", "pose")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Suite:
    """What is computed of each pair.

    Attributes:
      values: functions of a pair.
      features: functions of a clip, whose distributions are compared.
      unavailable: metrics of the protocol that cannot be had, and why.
      networks: of each network, the SHA-256 and the sources of its weights.
    """

    values: Mapping[Metric, Values]
    features: Mapping[Metric, Features]
    unavailable: Mapping[Metric, str]
    networks: Mapping[str, Any]


def build_suite(
    protocol: Protocol, *, networks: Path | None, face: Path | None, flow: Path | None, synthetic: bool
) -> Suite:
    """The metrics of a protocol.

    Args:
      networks: folder of the metric networks that `tools.convert_weights metrics` wrote.
      face: an ONNX network of face embeddings, for "identity".
      flow: folder of the true clips' optical flow, for "warping_error": `NAME.npy`, (t - 1, h, w, 2) as in
        `aa_jax.metrics.temporal`, and `NAME_backward.npy` where the flow back is known too.
      synthetic: the true clips are synthetic characters, of which everything is known.

    Raises:
      FileNotFoundError: there is no such folder or file.
      ValueError: a network's file is damaged.
    """
    loaded: dict[str, MetricNetwork] = {}
    cards: dict[str, Any] = {}
    values: dict[Metric, Values] = {}
    features: dict[Metric, Features] = {}
    unavailable: dict[Metric, str] = {}

    def network(kind: Kind) -> MetricNetwork:
        if networks is None:
            raise MissingWeightsError(Path("--networks"), kind)
        if kind not in loaded:
            loaded[kind] = load_metric_network(networks, kind)
            cards[kind] = {"sha256": loaded[kind].sha256, "sources": loaded[kind].sources}
        return loaded[kind]

    for metric in protocol.metrics:
        lacking = _lacking(metric, face=face, flow=flow, synthetic=synthetic)
        try:
            if lacking:
                unavailable[metric] = lacking
            elif metric in ("fid", "fid_vid", "fvd"):
                features[metric] = _features(metric, protocol, network)
            elif metric == "identity" and face is not None:
                embed = FaceEmbedding(face)
                cards["face"] = {"file": embed.path.name, "sha256": embed.sha256}
                values[metric] = functools.partial(_identity, embed, protocol)
            elif metric == "warping_error" and flow is not None and not synthetic:
                cards["flow"] = {str(file.relative_to(flow)): file.stat().st_mtime_ns for file in flow.rglob("*.npy")}
                values[metric] = functools.partial(_warping_error_along, flow)
            else:
                values[metric] = _values(metric, protocol, network)
            if metric == "pose" and metric in values:
                cards["keypoint-regressor"] = {"sha256": regressor().sha256, **regressor().metadata}
        except MissingWeightsError as error:
            unavailable[metric] = f"needs {error.file}"
    return Suite(values=values, features=features, unavailable=unavailable, networks=cards)


def _lacking(metric: Metric, *, face: Path | None, flow: Path | None, synthetic: bool) -> str | None:
    """Why a metric cannot be had, whatever networks there are."""
    if metric in SYNTHETIC and not synthetic:
        return "needs synthetic characters as the truth"
    if metric == "identity" and face is None:
        return "needs a network of face embeddings (--face)"
    if metric == "warping_error" and not synthetic and flow is None:
        return "needs optical flow (--flow)"
    return None


def _features(metric: Metric, protocol: Protocol, network: Callable[[Kind], MetricNetwork]) -> Features:
    if metric == "fid":
        return functools.partial(frame_features, network("inception"))
    return functools.partial(
        window_features,
        network("i3d" if metric == "fvd" else "resnet3d"),
        stride=protocol.window_stride,
        resize=protocol.window_resize,
    )


def _values(metric: Metric, protocol: Protocol, network: Callable[[Kind], MetricNetwork]) -> Values:
    if metric in ("lpips_alex", "lpips_vgg"):
        found = network("lpips-alex" if metric == "lpips_alex" else "lpips-vgg")
        return lambda pair: lpips(found, pair.predicted, pair.truth, pixel_range=protocol.lpips_range)
    return VALUES[metric]


def _one(value: float) -> Float[np.ndarray, " 1"]:
    return np.array([value], np.float32)


def _warping_error(pair: Compared) -> Float[np.ndarray, " 1"]:
    return _one(temporal.warping_error(pair.predicted, *pair.flow))


def _warping_error_along(folder: Path, pair: Compared) -> Float[np.ndarray, " 1"]:
    """By flow from files; NaN for a clip without one."""
    path, backward = (folder / f"{pair.footage.name}{ending}.npy" for ending in ("", "_backward"))
    if not path.is_file():
        return _one(np.nan)
    flow = np.load(path)[: len(pair.truth) - 1]
    if flow.shape != (len(pair.truth) - 1, *pair.truth.shape[1:3], 2):
        raise ValueError(
            f"{path} has the shape {flow.shape}, expected {(len(pair.truth) - 1, *pair.truth.shape[1:3], 2)}: "
            "flow of the true frames at the size that they are compared at"
        )
    if backward.is_file():
        visible = temporal.visible_both_ways(flow, np.load(backward)[: len(flow)])
    else:
        visible = temporal.visible_uncrowded(flow)
    return _one(temporal.warping_error(pair.predicted, flow, visible))


def _emblem_bits(pair: Compared) -> Float[np.ndarray, " 1"]:
    return _one(bit_accuracy(pair.predicted, pair.character.emblem_cells(range(len(pair.truth)))))


def _identity(embed: FaceEmbedding, protocol: Protocol, pair: Compared) -> Float[np.ndarray, " t"]:
    """Of each frame's face to the first true frame's; NaN where the true clip has no keypoints or shows no face."""
    keypoints = pair.footage.keypoints
    if keypoints is None:
        return np.full(len(pair.truth), np.nan, np.float32)
    height, width = pair.truth.shape[1:3]
    fitted = fit_keypoints(keypoints, height, width, protocol.fit)
    first, compared = fitted.take([0]), fitted.take(slice(len(pair.truth)))
    if not five_points(first)[1].any():
        return np.full(len(pair.truth), np.nan, np.float32)
    return identity_similarity(embed, pair.truth[0], first, pair.predicted, compared).similarity


def _pose(pair: Compared) -> Float[np.ndarray, " t"]:
    keypoints = pair.character.keypoints
    found = regressor()(pair.predicted)
    body = slice(found.shape[1])
    height, width = pair.truth.shape[1:3]
    return pck(found, keypoints.points[:, body], keypoints.scores[:, body] >= VISIBLE, aspect=width / height)


@functools.cache
def regressor() -> KeypointRegressor:
    """The one that comes with the package."""
    return load()


# Those that need no network of the user's.
VALUES: Mapping[Metric, Values] = {
    "psnr": lambda pair: image.psnr(pair.predicted, pair.truth),
    "psnr_uint8_overflow": lambda pair: image.psnr_uint8_overflow(pair.predicted, pair.truth),
    "foreground_psnr": lambda pair: image.psnr(pair.predicted, pair.truth, pair.masks),
    "background_psnr": lambda pair: image.psnr(pair.predicted, pair.truth, ~pair.masks),
    "ssim": lambda pair: image.ssim(pair.predicted, pair.truth),
    "ssim_gaussian": lambda pair: image.ssim_gaussian(pair.predicted, pair.truth),
    "l1": lambda pair: image.l1(pair.predicted, pair.truth),
    "l1_disco": lambda pair: image.l1_disco(pair.predicted, pair.truth),
    "flicker": lambda pair: _one(temporal.flicker(pair.predicted)),
    "second_difference": lambda pair: _one(temporal.second_difference(pair.predicted, pair.truth)),
    "emblem_bits": _emblem_bits,
    "warping_error": _warping_error,
    "pose": _pose,
}
