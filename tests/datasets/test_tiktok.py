"""The TikTok dancing videos: folders of frames, DisCo's files, and two test sets that are told apart."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from aa_jax.data import tiktok
from aa_jax.data.__main__ import main
from aa_jax.data.prepare import load_report
from aa_jax.data.records import RecordSource
from aa_jax.pose.disco import save_disco
from aa_jax.pose.files import save_keypoints
from aa_jax.video import write_video
from tests.datasets.videos import keypoints, picture

NAMES = ("00001", "00002", "00334", "00335", "00337", "00340")


@pytest.fixture
def published(tmp_path):
    """As published: frames in images/, masks beside them. Poses as DisCo has them, or ours."""
    folder = tmp_path / "TikTok_dataset"
    for seed, name in enumerate(NAMES):
        video = folder / name
        video.mkdir(parents=True)
        write_video(video / "images", picture(4 + seed, seed=seed), 30)
        write_video(video / "masks", picture(4 + seed, seed=seed + 9), 30)
        if seed % 2:
            save_keypoints(folder / f"{name}.npz", keypoints(4 + seed, seed=seed, fps=None))
        else:
            save_disco(video / "openpose_json", keypoints(4 + seed, seed=seed))
            for index in range(4 + seed):  # DisCo's frames lie beside
                (video / f"{index:04d}.png").write_bytes((video / "images" / f"{index:05d}.png").read_bytes())
    return folder


def row(key: str, frame: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="png")
    return f"{key}\t{base64.b64encode(file.getvalue()).decode()}\n"


@pytest.fixture
def disco(tmp_path):
    """Test images as DisCo packs them: of one published video, and of one that is nowhere else."""
    frames = picture(3, seed=20)
    rows = [row(f"TiktokDance_00337_{index + 1:04d}.png", frames[index]) for index in range(3)]
    rows += [row(f"TiktokDance_203_006_1x1_{index + 348:05d}.jpg", frames[index]) for index in range(3)]
    path = tmp_path / "new10val_TiktokDance.img.tsv"
    path.write_text("".join(rows))
    return path


def test_last_sequences(published, tmp_path):
    output = tmp_path / "data"
    assert main(["prepare", "tiktok", str(published), "--test", "335-340", "--output", str(output), "--quiet"]) == 0
    assert load_report(output).clips == {"train": 3, "test_335_340": 3}
    source, test = RecordSource(output), RecordSource(output, split="test_335_340")
    assert [source[index].name for index in range(3)] == ["00001", "00002", "00334"]
    assert [test[index].name for index in range(3)] == ["00335", "00337", "00340"]
    assert source[0].keypoints.fps == test[0].keypoints.fps == 30
    # DisCo's poses, and ours
    np.testing.assert_allclose(source[0].keypoints.points[:, 0], keypoints(4).points[:, 0], atol=1e-5)
    np.testing.assert_array_equal(source[1].keypoints.points, keypoints(5, seed=1).points)
    assert np.abs(source[1].frames([3]).astype(int) - picture(5, seed=1)[[3]]).mean() < 1
    with pytest.raises(ValueError, match="has no split 'test', expected one of train, test_335_340"):
        RecordSource(output, split="test")
    info = (output / "clips" / "1.0.0" / "dataset_info.json").read_text()
    assert "another test set, whose numbers do not compare" in info


def test_discos_test_set(published, disco, tmp_path):
    output = tmp_path / "data"
    command = ["prepare", "tiktok", str(published), "--test", str(disco), "--output", str(output), "--quiet"]
    save_keypoints(published / "203_006.npz", keypoints(3))
    assert main(command) == 0
    assert load_report(output).clips == {"train": 5, "test_disco": 2}
    test = RecordSource(output, split="test_disco")
    assert [test[index].name for index in range(2)] == ["00337", "203_006"]
    assert len(test[0].keypoints) == 8  # the published frames, not the three in the file
    assert "00337" not in [RecordSource(output)[index].name for index in range(5)]
    assert sorted(file.name for file in (published / "203_006").iterdir()) == ["00348.jpg", "00349.jpg", "00350.jpg"]
    assert np.abs(test[1].frames([2]).astype(int) - picture(3, seed=20)[[2]]).mean() < 1


def test_a_list_of_the_test_videos(published, tmp_path):
    (tmp_path / "list.txt").write_text("TiktokDance_00337_0001.png\n00340\n\nTiktokDance_203_006_1x1_00348.jpg\n")
    assert tiktok.read_disco(tmp_path / "list.txt") == ["00337", "00340", "203_006"]
    splits, missing = tiktok.split_disco(tiktok.find_videos(published), ["00337", "00340", "203_006"])
    assert [files.name for files in splits["test_disco"]] == ["00337", "00340"]
    assert [files.name for files in splits["train"]] == ["00001", "00002", "00334", "00335"]
    assert missing == {"203_006": "203_006 is a test video of DisCo's, but there is no such folder"}
    with pytest.raises(ValueError, match="holds no images, only the names of videos"):
        tiktok.unpack_disco(tmp_path / "list.txt", published)


def test_unpacking(disco, tmp_path):
    (tmp_path / "videos").mkdir()
    assert tiktok.unpack_disco(disco, tmp_path / "videos") == ["00337", "203_006"]
    assert tiktok.unpack_disco(disco, tmp_path / "videos") == []
    assert sorted(file.name for file in (tmp_path / "videos" / "00337").iterdir()) == [
        "0001.png",
        "0002.png",
        "0003.png",
    ]


@pytest.mark.parametrize(
    ("line", "message", "whole"),
    [
        ("cat.png\tAAAA", "line 4 has the key 'cat.png', expected one such as", []),
        ("TiktokDance_9_1.png\tA", "is no base64", ["8"]),
    ],
)
def test_damaged_files_of_disco(tmp_path, line, message, whole):
    text = "".join(row(f"TiktokDance_8_{index}.png", picture(1)[0]) for index in range(3))
    (tmp_path / "a.tsv").write_text(text + line + "\n")
    with pytest.raises(ValueError, match=message):
        tiktok.unpack_disco(tmp_path / "a.tsv", tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [*whole, "a.tsv"]


def test_other_folders(published, tmp_path, capsys):
    command = ["prepare", "tiktok", str(tmp_path / "none"), "--output", str(tmp_path / "data")]
    with pytest.raises(SystemExit) as error:
        main(command)
    assert error.value.code == 2
    assert "the following arguments are required: --test" in capsys.readouterr().err
    for folder, test, message in (
        (tmp_path / "none", "335-340", "none does not exist, expected the folder with 00001 to 00340"),
        (published / "00001", "335-340", "none of the sequences 335 to 340 is there"),
        (published / "00001" / "images", "335-340", "holds no folders of frames, expected 00001 to 00340"),
        (published, "none.tsv", "none.tsv does not exist, expected a TSV file of DisCo's"),
    ):
        arguments = ["prepare", "tiktok", str(folder), "--test", test, "--output", str(tmp_path / "data")]
        assert main(arguments) == 2
        assert message in capsys.readouterr().err
