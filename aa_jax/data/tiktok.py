"""The TikTok dancing videos (Jafarian and Park, HDNet, CVPR 2021): 340 folders of frames, at 30 per second.

    FOLDER/00001/0001.png, ... or FOLDER/00001/images/0001.png, ...
    FOLDER/00001.npz, or DisCo's FOLDER/00001/openpose_json/: the poses

Two test sets are in use, and their numbers do not compare:

    disco     DisCo's ten videos: two of TikTok, and eight that its authors filmed, which are in its TSV files alone.
              This is what the tables of papers report.
    335_340   the last six sequences of the published data: a set that everybody can have, but another one.

DisCo's TSV files have an image a row: its key, `TiktokDance_00337_0010.png` or `TiktokDance_203_006_1x1_00348.jpg`, and
the image file in base64.
"""  # fmt: skip

import base64
import binascii
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from aa_jax.atomic import StrPath, aside
from aa_jax.data.builders import ClipBuilder
from aa_jax.data.folder import ClipFiles, clip_files
from aa_jax.video import is_image

FPS = 30.0
LAST = range(335, 341)
TEST_LAST, TEST_DISCO = "test_335_340", "test_disco"
KEY = re.compile(r"TiktokDance_(?P<video>.+?)(?:_1x1)?_(?P<frame>\d+)\.\w+$")


class Tiktok(ClipBuilder):
    """TikTok dancing videos with poses; the name of the test split says which test set it is."""

    DESCRIPTION = (
        "TikTok dancing videos. The split test_disco is DisCo's ten videos, on which papers report; the split "
        "test_335_340 is sequences 335 to 340 of the published data: another test set, whose numbers do not compare."
    )
    HOMEPAGE = "https://www.yasamin.page/hdnet_tiktok"
    CITATION = (
        "@inproceedings{jafarian2021tiktok, title={Learning High Fidelity Depths of Dressed Humans by Watching Social "
        "Media Dance Videos}, author={Yasamin Jafarian and Hyun Soo Park}, booktitle={CVPR}, year={2021}}"
    )


def find_videos(folder: StrPath) -> list[ClipFiles]:
    """The sequences of a folder, ordered by name.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no folders of frames.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder} does not exist, expected the folder with 00001 to 00340")
    videos = []
    for video in sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")):
        inner = video / "images"
        images = inner if inner.is_dir() else video
        if any(is_image(file) for file in images.iterdir()):
            poses = [clip_files(place, name=video.name).poses for place in (images, video)]
            videos.append(ClipFiles(name=video.name, images=images, poses=poses[0] or poses[1], fps=FPS))
    if not videos:
        raise ValueError(f"{folder} holds no folders of frames, expected 00001 to 00340")
    return videos


def split_last(videos: Sequence[ClipFiles]) -> dict[str, list[ClipFiles]]:
    """`train` and `test_335_340`.

    Raises:
      ValueError: none of the sequences 335 to 340 is there.
    """
    test = [files for files in videos if files.name.isdigit() and int(files.name) in LAST]
    if not test:
        raise ValueError(f"none of the sequences {LAST[0]} to {LAST[-1]} is there, which are to be the test set")
    return {"train": [files for files in videos if files not in test], TEST_LAST: test}


def split_disco(videos: Sequence[ClipFiles], names: Sequence[str]) -> tuple[dict[str, list[ClipFiles]], dict[str, str]]:
    """`train` and `test_disco`, and the test videos that are not there, with the reason.

    Args:
      videos: all sequences.
      names: of DisCo's test videos.
    """
    there = {files.name: files for files in videos}
    test = [there[name] for name in names if name in there]
    missing = {name: f"{name} is a test video of DisCo's, but there is no such folder" for name in names}
    train = [files for files in videos if files.name not in names]
    return {"train": train, TEST_DISCO: test}, {name: why for name, why in missing.items() if name not in there}


def read_disco(path: StrPath) -> list[str]:
    """The names of the videos of one of DisCo's TSV files, or of a text file that lists keys of images or videos.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a row has no such key.
    """
    return list(dict.fromkeys(video for video, _, _ in _rows(path)))


def unpack_disco(path: StrPath, folder: StrPath) -> list[str]:
    """Write the frames in one of DisCo's TSV files as folders of images; videos that a folder has already are left.

    Returns:
      The names of the videos written.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a row is damaged.
    """
    written = []
    for video, rows in itertools.groupby(_rows(path), key=lambda row: row[0]):
        target = Path(folder) / video
        if target.exists():
            continue
        with aside(target) as partial:
            partial.mkdir(parents=True)
            for _, frame, encoded in rows:
                if not encoded or not frame:
                    raise ValueError(f"{path} holds no images, only the names of videos, and {target} does not exist")
                (partial / frame).write_bytes(_decode(encoded, f"{path}, {video} {frame}"))
        written.append(video)
    return written


def _rows(path: StrPath) -> Iterator[tuple[str, str, str]]:
    """The video, the name of the frame's file, and the image in base64, the last two of which a list may lack."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} does not exist, expected a TSV file of DisCo's, or a list of videos")
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            key, _, rest = line.strip().partition("\t")
            match = KEY.search(key)
            if match:
                yield match["video"], f"{match['frame']}{Path(key).suffix}", rest.partition("\t")[0]
            elif re.fullmatch(r"[\w-]+", key):
                yield key, "", ""
            elif key:
                raise ValueError(
                    f"{path}, line {number} has the key {key[:60]!r}, expected one such as TiktokDance_00337_0010.png, "
                    "or the name of a video"
                )


def _decode(encoded: str, where: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error as error:
        raise ValueError(f"{where}: the image is no base64") from error
