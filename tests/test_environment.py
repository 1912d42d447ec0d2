"""What is written beside a number."""

import subprocess
from pathlib import Path

from aa_jax.environment import git_state


def test_git_state(tmp_path):
    def git(*arguments):
        who = ["-c", "user.name=n", "-c", "user.email=e"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("1")
    git("init")
    assert git_state(package) is None  # a package installed below somebody's checkout is not of it
    git("add", ".")
    git("commit", "-m", "m")
    assert git_state(package) == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (package / "module.py").write_text("2")
    assert git_state(package)["dirty"]


def test_no_git(tmp_path, monkeypatch):
    assert git_state(tmp_path) is None
    monkeypatch.setenv("PATH", "")
    assert git_state(Path(__file__).parent) is None
