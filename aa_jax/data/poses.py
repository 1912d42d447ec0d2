"""Keypoints for the videos of a data set that have none: DWPose, one video after another, going on where it stopped."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from aa_jax.data.folder import ClipFiles, with_poses
from aa_jax.pose.dwpose import DWPose
from aa_jax.pose.extract import extract


def extract_missing(
    splits: Mapping[str, Sequence[ClipFiles]],
    model: DWPose,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[dict[str, list[ClipFiles]], dict[str, str]]:
    """Extract the keypoints of the clips that have no poses, into `NAME.npz` beside each.

    Args:
      splits: the clips of each split.
      model: finds the keypoints.
      progress: is told the number of clips with poses, and of all.

    Returns:
      The clips that have poses now, and those that cannot be read or hold nobody, with the reason.

    Raises:
      OSError: a keypoint file cannot be written.
    """
    total = sum(len(clips) for clips in splits.values())
    without = [files for clips in splits.values() for files in clips if files.poses is None]
    done, broken = total - len(without), {}
    progress(done, total)
    for files in without:
        try:
            extract(files.images, model, output=with_poses(files.images))
        except (ValueError, FileNotFoundError) as error:
            broken[files.name] = str(error)
        done += 1
        progress(done, total)
    found = {split: [_found(files) for files in clips if files.name not in broken] for split, clips in splits.items()}
    return found, broken


def _found(files: ClipFiles) -> ClipFiles:
    return files if files.poses else dataclasses.replace(files, poses=with_poses(files.images))
