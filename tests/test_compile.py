"""The command that compiles ahead of time: bad input is one line, before anything is read or written. What it writes is
looked at with `aa_jax.executables`' tests."""

import pytest

from aa_jax.compile import main
from tests.small_models import write_small_stack


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_small_stack(tmp_path_factory.mktemp("small") / "model")
    (folder / "vae.safetensors").unlink()  # it is refused before it is missed
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num-frames", "0"], "num_frames is 0, expected 1 or more"),
        (["--num-frames", "8", "--height", "62"], "height is 62, expected a positive multiple of 4"),
        (["--num-frames", "8", "--window-batch", "0"], "window_batch is 0, expected 1 or more"),
        (["--num-frames", "8", "--sampler", "none"], "none"),
        (["--num-frames", "8", "--windows", "endless"], "windows is 'endless'"),
        (["--num-frames", "many"], "invalid int value: 'many'"),
        ([], "--num-frames"),
        (["--num-frames", "8"], "vae.safetensors"),
    ],
)
def test_bad_arguments(model, tmp_path, capsys, arguments, message):
    try:
        code = main(["--model", str(model), "--output", str(tmp_path / "compiled"), *arguments])
    except SystemExit as error:
        code = error.code
    printed = capsys.readouterr()
    assert code == 2 and printed.out == ""
    (line,) = printed.err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it(model, tmp_path, capsys):
    (tmp_path / "mine").write_text("mine")
    assert main(["--model", str(model), "--output", str(tmp_path), "--num-frames", "8"]) == 2
    assert "exists already and is not empty" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "mine"
