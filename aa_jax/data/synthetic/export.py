"""Synthetic clips as a folder of videos with keypoint files beside them, as `aa_jax.data.folder` reads them."""

from pathlib import Path

from tqdm import tqdm

from aa_jax.atomic import StrPath
from aa_jax.data.folder import REFERENCES
from aa_jax.data.synthetic.source import SyntheticClip, SyntheticSource
from aa_jax.pose.files import save_keypoints
from aa_jax.video import write_video


def export(folder: StrPath, source: SyntheticSource, *, references: bool = True, progress: bool = False) -> list[Path]:
    """Write every clip as NAME.mp4 and NAME.npz.

    The keypoint file is written last: a clip that has one is complete and left alone, so that an interrupted export is
    taken up where it was.

    Args:
      folder: where to; made if it is not there.
      source: the clips.
      references: also write the clips that reference images are drawn from, as references/NAME.mp4 and .npz.
      progress: show a bar.

    Returns:
      The videos of the clips, in the source's order.

    Raises:
      ValueError: an odd height or width, which MP4 does not have.
      OSError: a file could not be written.
    """
    videos = []
    for index in tqdm(range(len(source)), desc="export", unit="clip", disable=not progress):
        clip = source[index]
        if references:
            _write(Path(folder, REFERENCES), clip.name, clip.reference)
        videos.append(_write(Path(folder), clip.name, clip))
    return videos


def _write(folder: Path, name: str, clip: SyntheticClip) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    video, points = folder / f"{name}.mp4", folder / f"{name}.npz"
    if not (points.exists() and video.exists()):
        write_video(video, clip.frames(range(clip.num_frames)), clip.fps)
        save_keypoints(points, clip.keypoints)
    return video
