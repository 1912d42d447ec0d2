"""Synthetic clips as a folder of videos with keypoint files beside them, as real data come."""

from pathlib import Path

from tqdm import tqdm

from aa_jax.atomic import StrPath
from aa_jax.data.synthetic.source import SyntheticSource
from aa_jax.pose.files import save_keypoints
from aa_jax.video import write_video


def export(folder: StrPath, source: SyntheticSource, *, progress: bool = False) -> list[Path]:
    """Write every clip as NAME.mp4 and NAME.npz.

    The keypoint file is written last: a clip that has one is complete and left alone, so that an interrupted export is
    taken up where it was.

    Args:
      folder: where to; made if it is not there.
      source: the clips.
      progress: show a bar.

    Returns:
      The videos, in the source's order.

    Raises:
      ValueError: an odd height or width, which MP4 does not have.
      OSError: a file could not be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    videos = []
    for index in tqdm(range(len(source)), desc="export", unit="clip", disable=not progress):
        clip = source[index]
        video, points = folder / f"{clip.name}.mp4", folder / f"{clip.name}.npz"
        videos.append(video)
        if points.exists() and video.exists():
            continue
        write_video(video, clip.frames(range(clip.num_frames)), clip.fps)
        save_keypoints(points, clip.keypoints)
    return videos
