"""A source of training data, by configuration."""

import dataclasses
from pathlib import Path
from typing import Literal, get_args

from aa_jax.data.clips import ClipSource

Kind = Literal["records", "folder", "synthetic"]
SYNTHETIC = ("num_clips", "num_frames", "height", "width", "fps", "num_identities", "moving_camera")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Which clips to train on.

    Attributes:
      kind: "records" that `python -m aa_jax.data prepare` wrote, a "folder" of videos and poses (or a meta JSON), or
        "synthetic" characters, rendered when they are asked for.
      path: where records or folder are.
      split: of records, or of the synthetic characters (see `aa_jax.data.synthetic.SyntheticSource`); a folder has
        "train" alone.
      num_clips: synthetic clips in the split.
      num_frames: of a synthetic clip.
      height, width: of synthetic frames, in pixels.
      fps: of synthetic clips.
      num_identities: synthetic characters in the split; as many as clips by default.
      moving_camera: the camera of synthetic clips pans and zooms.

    Raises:
      ValueError: a kind that is none, a path missing or not expected, or a value that the kind has no use for.
    """

    kind: Kind = "records"
    path: str | None = None
    split: str = "train"
    num_clips: int = 1000
    num_frames: int = 16
    height: int = 256
    width: int = 192
    fps: float = 12.0
    num_identities: int | None = None
    moving_camera: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"source.kind is {self.kind!r}, expected one of {', '.join(get_args(Kind))}")
        if self.kind == "synthetic":
            if self.path is not None:
                raise ValueError(f"source.path is {self.path!r}, but synthetic clips have none: leave it out")
            return
        if not self.path:
            raise ValueError(f"source.path is {self.path!r}, expected a folder, since source.kind is {self.kind!r}")
        if self.kind == "folder" and self.split != "train":
            raise ValueError(f"source.split is {self.split!r}, but a folder has no splits: give the path of one")
        fields = {field.name: field for field in dataclasses.fields(self)}
        for name in SYNTHETIC:
            if getattr(self, name) != fields[name].default:
                raise ValueError(
                    f"source.{name} is {getattr(self, name)!r}, but only synthetic clips have it, "
                    f"and source.kind is {self.kind!r}: leave it out"
                )


def open_source(config: SourceConfig) -> ClipSource:
    """The clips.

    Raises:
      FileNotFoundError: there is nothing at the path.
      ValueError: the data set is damaged, holds no clips or no such split, or a value is out of its range.
    """
    # Each is imported where it is used: synthetic characters take JAX, records array_record.
    if config.kind == "synthetic":
        from aa_jax.data.synthetic import SyntheticSource

        return SyntheticSource(**{name: getattr(config, name) for name in ("split", *SYNTHETIC)})
    path = Path(config.path or "")
    if config.kind == "folder":
        from aa_jax.data.folder import FolderSource

        return FolderSource(path)
    from aa_jax.data.records import RecordSource

    return RecordSource(path, split=config.split)
