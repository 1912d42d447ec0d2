"""UBC Fashion: its lists, downloads from a server that fails in every way, and folders of what is there already."""

import functools
import http.server
import threading
from pathlib import Path

import pytest

from aa_jax.data import ubc_fashion
from aa_jax.data.__main__ import main
from aa_jax.data.prepare import load_report
from aa_jax.data.records import RecordSource
from tests.datasets.videos import add_clip
from tests.full_disk import largest_file


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves files, with ranges; what its server says it does wrong."""

    def do_GET(self):  # noqa: N802 - the name that is called
        server = self.server
        start = int((self.headers["Range"] or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        server.requests.append((self.path, start))
        path = server.folder / self.path.lstrip("/")
        fault = server.faults.get(path.name, [])
        what = fault.pop(0) if fault else None
        if isinstance(what, int):
            return self.send_error(what)
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        if start >= len(data):
            return self.send_error(416)
        if what == "no ranges":
            start = 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : len(data) // 2 if what == "cut" else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path):
    """`server.url` serves `server.folder`: two lists, and their three videos."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.folder, server.requests, server.faults = tmp_path / "served", [], {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    for seed, name in enumerate(("A+1", "B2", "C3")):
        add_clip(server.folder, name, seed=seed)
    lines = [f"{server.url}/{name}.mp4" for name in ("A+1", "B2", "C3")]
    (server.folder / "fashion_train.txt").write_text(f"{lines[0]}\r\n{lines[1]}\n\n{lines[1]}\n")
    (server.folder / "fashion_test.txt").write_text(f"{lines[2]}\n")
    thread = threading.Thread(target=functools.partial(server.serve_forever, 0.01), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


ALL = ["fashion_test.txt", "fashion_train.txt", "test/C3.mp4", "train/A+1.mp4", "train/B2.mp4"]


def download(server, folder):
    lists = ubc_fashion.load_lists(folder, url=server.url)
    return ubc_fashion.download_videos(folder, lists)


def same(server, folder) -> bool:
    return all(file.read_bytes() == (server.folder / file.name).read_bytes() for file in folder.rglob("*.*"))


def test_download(server, tmp_path):
    folder, told = tmp_path / "ubc", []
    lists = ubc_fashion.load_lists(folder, url=server.url)
    assert {split: len(addresses) for split, addresses in lists.items()} == {"train": 2, "test": 1}
    failed = ubc_fashion.download_videos(folder, lists, progress=lambda done, total: told.append((done, total)))
    assert (failed, names(folder)) == ({}, ALL)
    assert same(server, folder)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    server.requests.clear()
    assert download(server, folder) == {}
    assert server.requests == []  # all is there


def test_interrupted_downloads_go_on(server, tmp_path):
    folder = tmp_path / "ubc"
    (folder / "train").mkdir(parents=True)
    whole = (server.folder / "B2.mp4").read_bytes()
    (folder / "train" / ".B2.mp4.part").write_bytes(whole[:300])
    server.faults["A+1.mp4"] = ["cut", 503]
    server.faults["C3.mp4"] = ["cut", "no ranges"]
    assert download(server, folder) == {}
    assert names(folder) == ALL
    assert same(server, folder)
    half = len((server.folder / "A+1.mp4").read_bytes()) // 2
    assert [start for path, start in server.requests if path == "/A+1.mp4"] == [0, half, half]
    assert [start for path, start in server.requests if path == "/B2.mp4"] == [300]


def test_a_whole_part_is_not_lost(server, tmp_path):
    folder = tmp_path / "ubc"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / ".B2.mp4.part").write_bytes((server.folder / "B2.mp4").read_bytes())
    assert download(server, folder) == {}
    assert same(server, folder)


def test_what_cannot_be_had_is_told(server, tmp_path):
    folder = tmp_path / "ubc"
    (server.folder / "A+1.mp4").unlink()
    server.faults["C3.mp4"] = ["cut", 500, 500]
    failed = download(server, folder)
    assert list(failed) == ["A+1", "C3"]
    assert failed["A+1"] == f"{server.url}/A+1.mp4 cannot be downloaded: 404 Not Found"
    assert failed["C3"] == f"{server.url}/C3.mp4 cannot be downloaded: 500 Internal Server Error"
    assert [path for path, _ in server.requests].count("/A+1.mp4") == 1  # it will not be there another time
    assert not (folder / "test" / "C3.mp4").exists()


def test_full_disk(server, tmp_path):
    lists = ubc_fashion.load_lists(tmp_path / "ubc", url=server.url)
    with largest_file(500), pytest.raises(OSError, match="cannot write .*part: File too large"):
        ubc_fashion.download_videos(tmp_path / "ubc", lists)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an address that ends in .mp4 per line, got nothing"),
        ("<html>moved</html>", "got '<html>moved</html>'"),
        ("https://host/a.mp4\nhttps://host/", "got 'https://host/'"),
    ],
)
def test_what_is_no_list(tmp_path, text, message):
    (tmp_path / "fashion_train.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        ubc_fashion.load_lists(tmp_path, download=False)


def arguments(server, folder, output, *more) -> list[str]:
    return ["prepare", "ubc_fashion", str(folder), "--output", str(output), "--lists-url", server.url, "--quiet", *more]


def test_prepare(server, tmp_path, capsys):
    """Download, extract the poses by hand, prepare."""
    folder, output = tmp_path / "ubc", tmp_path / "data"
    (server.folder / "B2.mp4").unlink()
    assert main(arguments(server, folder, output)) == 2
    assert f"none of 2 clips in {folder} has keypoints: give --detector and --pose-model" in capsys.readouterr().err
    for name in ("train/A+1", "test/C3"):
        (folder / f"{name}.npz").write_bytes((server.folder / f"{Path(name).name}.npz").read_bytes())
    assert main(arguments(server, folder, output)) == 0
    report = load_report(output)
    assert report.clips == {"train": 1, "test": 1}
    assert report.skipped == (("B2", f"{server.url}/B2.mp4 cannot be downloaded: 404 Not Found"),)
    assert RecordSource(output)[0].name == "A+1"
    assert RecordSource(output, split="test")[0].name == "C3"


def test_prepare_what_is_there(server, tmp_path, capsys):
    folder = tmp_path / "ubc"
    for name in ("train/A+1", "train/B2", "test/C3"):
        add_clip(folder, name)
    server.shutdown()
    server.server_close()
    assert main(arguments(server, folder, tmp_path / "no_network")) == 0
    assert "the videos in train/ and test/ are used, without the lists: " in capsys.readouterr().err
    assert load_report(tmp_path / "no_network").clips == {"train": 2, "test": 1}
    server.requests.clear()
    assert main(arguments(server, folder, tmp_path / "asked", "--no-download")) == 0
    assert load_report(tmp_path / "asked").clips == {"train": 2, "test": 1}
    assert main(arguments(server, tmp_path / "none", tmp_path / "nothing", "--no-download")) == 2
    assert "fashion_train.txt is missing, the list of the videos of train: download it from" in capsys.readouterr().err


def test_videos_in_one_folder(server, tmp_path):
    """As other copies of the data set have them."""
    folder = tmp_path / "ubc"
    for name in ("A+1", "C3"):
        add_clip(folder, name)
    for split in ("train", "test"):
        name = f"fashion_{split}.txt"
        (folder / name).write_bytes((server.folder / name).read_bytes())
    assert main(arguments(server, folder, tmp_path / "data", "--no-download")) == 0
    report = load_report(tmp_path / "data")
    assert report.clips == {"train": 1, "test": 1}
    assert [name for name, _ in report.skipped] == ["B2"]
    assert "B2.mp4 is missing" in report.skipped[0][1]
