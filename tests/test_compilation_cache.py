"""The cache of compiled programs that commands have: where it is, when there is none, and what is broken in it."""

import os
import subprocess
import sys

import filelock
import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache as jax_cache

from aa_jax import cli, compilation_cache

SETTINGS = (
    "jax_compilation_cache_dir",
    "jax_compilation_cache_max_size",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user who has no cache yet and has said nothing of one; all that is compiled is written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(compilation_cache.SWITCH)
    before = {name: getattr(jax.config, name) for name in SETTINGS}
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax_cache.reset_cache()
    yield tmp_path / "home"
    for name, value in before.items():
        jax.config.update(name, value)
    jax_cache.reset_cache()


def run_once() -> dict[str, int]:
    """A program as another process would compile it; how often it was found in the cache, and how often it was not."""
    jax.clear_caches()
    jax_cache.reset_cache()
    found = {"cache_hits": 0, "cache_misses": 0}

    def listen(event, **_):
        for name in found:
            found[name] += event.endswith(f"/{name}")

    jax.monitoring.register_event_listener(listen)
    try:
        assert jax.jit(lambda x: jnp.sin(x) * 3 + 1)(0.0) == 1
    finally:
        jax.monitoring.unregister_event_listener(listen)
    return found


def entries():
    return sorted(compilation_cache.folder().glob("*-cache"))


def test_a_command_finds_what_an_earlier_one_compiled(home, capfd):
    first, second = {}, {}
    assert cli.run("any", lambda: first.update(run_once()), home) == 0
    assert compilation_cache.folder().is_relative_to(home / "aa_jax") and entries()
    assert cli.run("any", lambda: second.update(run_once()), home) == 0
    assert first["cache_misses"] > 0 and first["cache_hits"] == 0
    assert second["cache_misses"] == 0 and second["cache_hits"] > 0
    assert jax.config.jax_compilation_cache_max_size == compilation_cache.MAX_BYTES
    assert capfd.readouterr() == ("", "")


def test_it_is_its_users_alone(home):
    compilation_cache.enable()
    assert compilation_cache.folder().stat().st_mode & 0o077 == 0


def test_switched_off(home, monkeypatch):
    monkeypatch.setenv("AA_JAX_CACHE", "off")
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir is None and not home.exists()


def test_the_users_own_stays(home, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own") and not home.exists()
    assert jax.config.jax_compilation_cache_max_size == -1


def test_the_users_own_limit_stays(home):
    jax.config.update("jax_compilation_cache_max_size", 1000)
    compilation_cache.enable()
    assert jax.config.jax_compilation_cache_max_size == 1000


def test_a_folder_that_cannot_be_made_is_one_line(home, capfd):
    home.write_text("no folder")
    assert cli.run("any", run_once, home) == 0
    assert jax.config.jax_compilation_cache_dir is None
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("aa_jax: compiled programs are not kept:") and "AA_JAX_CACHE=off" in line


def test_broken_entries(home, capfd):
    """One whose process died while it wrote it is removed, and written again; another that was damaged costs its
    compilation, and neither is heard of."""
    compilation_cache.enable()
    run_once()
    entry = entries()[0]
    content = entry.read_bytes()
    entry.write_bytes(content[: len(content) // 2])
    assert run_once()["cache_misses"] == 1
    entry.with_name(entry.name.removesuffix("-cache") + "-atime").unlink()
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.enable()
    assert entry not in entries()
    assert run_once()["cache_misses"] == 1 and entry in entries()
    assert run_once()["cache_misses"] == 0
    assert capfd.readouterr() == ("", "")


def test_entries_that_are_being_written_are_left_alone(home):
    compilation_cache.folder().mkdir(parents=True)
    entry = compilation_cache.folder() / "program-cache"
    entry.write_bytes(b"half")
    with filelock.FileLock(entry.with_name(".lockfile")):
        compilation_cache.enable()
    assert entry.exists()


def test_importing_leaves_jax_as_it_is():
    """In the modules of the commands, which import JAX before they run: else there would be no cache for them."""
    names = ("animate", "train", "evaluate", "demo", "compile")
    script = f"""
import sys
for name in {names}:
    __import__("aa_jax." + name)
    config = sys.modules["jax"].config
    assert config.jax_compilation_cache_dir is None and config.jax_compilation_cache_max_size == -1
"""
    environment = {name: value for name, value in os.environ.items() if name != compilation_cache.SWITCH}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
