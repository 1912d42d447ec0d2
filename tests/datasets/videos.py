"""Small videos with poses, and ways to make them broken."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from aa_jax.pose.files import save_keypoints
from aa_jax.pose.keypoints import NUM_KEYPOINTS, Keypoints
from aa_jax.video import write_video


def picture(frames: int = 12, height: int = 48, width: int = 32, seed: int = 0) -> np.ndarray:
    """A smooth pattern whose brightness tells the frame: frame i is brighter by 4 i on average."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    base = np.stack([60 + 40 * np.sin(3 * x + seed), 60 + 40 * np.cos(4 * y - seed), 60 + 40 * x * y], -1)
    return np.stack([base + 4 * i for i in range(frames)]).round().clip(0, 255).astype(np.uint8)


def keypoints(frames: int = 12, height: int = 48, width: int = 32, seed: int = 0, fps: float | None = 12) -> Keypoints:
    rng = np.random.default_rng(seed)
    points = rng.uniform(0.1, 0.9, (frames, NUM_KEYPOINTS, 2)).astype(np.float32)
    scores = rng.uniform(0, 1, (frames, NUM_KEYPOINTS)).astype(np.float32)
    return Keypoints(points=points, scores=scores, height=height, width=width, fps=fps)


def add_clip(folder: Path, name: str, frames: int = 12, height: int = 48, width: int = 32, seed: int = 0) -> Path:
    """`NAME.mp4` and `NAME.npz`."""
    video = folder / f"{name}.mp4"
    video.parent.mkdir(parents=True, exist_ok=True)
    write_video(video, picture(frames, height, width, seed), 12)
    save_keypoints(video.with_suffix(".npz"), keypoints(frames, height, width, seed))
    return video


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    *,
    times: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    index_first: bool = False,
    **options: str,
) -> None:
    """Write with FFmpeg alone, at `times` in milliseconds; options of the codec follow."""
    with av.open(str(path), "w", options={"movflags": "faststart"} if index_first else {}) as container:
        stream = container.add_stream(codec, rate=12, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
