"""UBC Fashion (Zablotskaia et al., DwNet, BMVC 2019): 500 training and 100 test videos of about 350 frames.

The data set is two lists of addresses, one video a line. The videos lie in `train/` and `test/` of a folder, under the
names that their addresses end in; those that are not there are downloaded.
"""

import concurrent.futures
import errno
import http.client
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from aa_jax.atomic import StrPath, cannot_write
from aa_jax.data.builders import ClipBuilder
from aa_jax.data.folder import ClipFiles, clip_files, find_clips

SPLITS = ("train", "test")
LISTS = "https://vision.cs.ubc.ca/datasets/fashion/resources/fashion_dataset"
TIMEOUT = 30.0
CHUNK = 1 << 20
# Connections at once: the lists name a shop's image server.
CONNECTIONS = 8
ATTEMPTS = 3
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


class UbcFashion(ClipBuilder):
    """UBC Fashion with poses."""

    DESCRIPTION = "UBC Fashion: a model in a dress turns before a white wall; 500 training and 100 test videos."
    HOMEPAGE = "https://vision.cs.ubc.ca/datasets/fashion/"
    CITATION = (
        "@inproceedings{zablotskaia2019dwnet, title={DwNet: Dense warp-based network for pose-guided human video "
        "generation}, author={Polina Zablotskaia and Aliaksandr Siarohin and Bo Zhao and Leonid Sigal}, "
        "booktitle={BMVC}, year={2019}}"
    )


def list_name(split: str) -> str:
    """The file that lists the videos of a split."""
    return f"fashion_{split}.txt"


def load_lists(folder: StrPath, *, url: str = LISTS, download: bool = True) -> dict[str, list[str]]:
    """The addresses of the videos of each split, from the lists in a folder, which are downloaded if they are missing.

    Raises:
      FileNotFoundError: a list is missing and is not to be downloaded.
      OSError: a list cannot be downloaded.
      ValueError: a list is empty, or names no videos.
    """
    lists = {}
    for split in SPLITS:
        path = Path(folder) / list_name(split)
        if not path.is_file():
            if not download:
                raise FileNotFoundError(f"{path} is missing, the list of the videos of {split}: download it from {url}")
            fetch(f"{url}/{path.name}", path)
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        addresses = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
        wrong = next((line for line in addresses if not video_name(line)), None)
        if wrong or not addresses:
            found = f"{wrong[:80]!r}" if wrong else "nothing"
            raise ValueError(
                f"{path} is no list of videos, expected an address that ends in .mp4 per line, got {found}"
            )
        lists[split] = addresses
    return lists


def video_name(address: str) -> str:
    """The name of a video's file; empty where the address is no video's."""
    name = urllib.parse.unquote(urllib.parse.urlsplit(address).path).rpartition("/")[2]
    return name if name.lower().endswith(".mp4") else ""


def place(folder: StrPath, split: str, address: str) -> Path:
    """Where a video lies, or is to lie: in the split's folder, or where all lie in one, there."""
    name = video_name(address)
    together = Path(folder) / name
    return together if together.is_file() else Path(folder) / split / name


def find_splits(
    folder: StrPath, lists: Mapping[str, Sequence[str]] | None
) -> tuple[dict[str, list[ClipFiles]], dict[str, str]]:
    """The clips of each split, and the clips that are listed but are not there, with the reason.

    Args:
      folder: of the videos.
      lists: the addresses of each split; without them, the splits are what lies in `train/` and `test/`.

    Raises:
      FileNotFoundError: there are no lists, and no such folders either.
    """
    root = Path(folder)
    if lists is None:
        splits = {split: find_clips(root / split) for split in SPLITS if (root / split).is_dir()}
        if not splits:
            raise FileNotFoundError(f"{folder} holds neither train/ nor test/, where the videos of UBC Fashion lie")
        return splits, {}
    splits, missing = {split: [] for split in lists}, {}
    for split, addresses in lists.items():
        for address in addresses:
            video = place(root, split, address)
            if video.is_file():
                splits[split].append(clip_files(video, name=video.stem))
            else:
                missing[video.stem] = f"{video} is missing: it is to be downloaded from {address}"
    return splits, missing


def download_videos(
    folder: StrPath,
    lists: Mapping[str, Sequence[str]],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, str]:
    """Download the videos that a folder lacks; what was begun in an earlier run is gone on with.

    Args:
      folder: holds `train/` and `test/`.
      lists: the addresses of each split.
      progress: is told the number of videos there, and of all.

    Returns:
      The clips that could not be had, and why.

    Raises:
      OSError: the disk is full, or cannot be written to.
    """
    wanted = {place(folder, split, address): address for split in lists for address in lists[split]}
    missing = [path for path in wanted if not path.is_file()]
    progress(len(wanted) - len(missing), len(wanted))
    failed = {}
    with concurrent.futures.ThreadPoolExecutor(CONNECTIONS) as pool:
        futures: dict[Future[None], Path] = {pool.submit(fetch, wanted[path], path): path for path in missing}
        try:
            for count, future in enumerate(concurrent.futures.as_completed(futures), 1):
                error = future.exception()
                if isinstance(error, CannotFetchError):
                    failed[futures[future].stem] = str(error)
                elif error is not None:
                    raise error
                progress(len(wanted) - len(missing) + count, len(wanted))
        finally:
            pool.shutdown(cancel_futures=True)
    return dict(sorted(failed.items()))


class CannotFetchError(OSError):
    """A file that could not be downloaded."""


def fetch(address: str, path: Path) -> None:
    """Download a file; what is there of an interrupted download is kept and gone on with.

    Raises:
      CannotFetchError: it could not be downloaded; the line names the address.
      OSError: it could not be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _fetch_rest(address, part)
            part.replace(path)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # nothing follows what is there: the file has changed, or its end was not recognised
                part.unlink(missing_ok=True)
            failure: Exception = error
            final = 400 <= error.code < 500 and error.code not in (408, 416, 429)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and error.errno in FULL:
                raise cannot_write(part, error) from error
            failure, final = error, isinstance(error, ValueError)
        if final or attempt == ATTEMPTS:
            reason = getattr(failure, "reason", None) or failure
            code = f"{failure.code} " if isinstance(failure, urllib.error.HTTPError) else ""
            raise CannotFetchError(f"{address} cannot be downloaded: {code}{reason}") from failure


def _fetch_rest(address: str, part: Path) -> None:
    begun = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "aa_jax", **({"Range": f"bytes={begun}-"} if begun else {})}
    with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=TIMEOUT) as response:
        going_on = response.status == 206
        announced = response.headers.get("Content-Length")
        with open(part, "ab" if going_on else "wb") as file:
            shutil.copyfileobj(response, file, CHUNK)
    expected = int(announced) + (begun if going_on else 0) if announced else None
    if expected is not None and part.stat().st_size != expected:
        raise OSError(f"the connection ended after {part.stat().st_size} of {expected} bytes")
