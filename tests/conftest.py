"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def pytest_configure(config):
    # Most of the time of a default run is compilation of tiny networks, for which optimisation is wasted.
    if not config.option.markexpr or "not full" in config.option.markexpr:
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    os.environ["AA_JAX_CACHE"] = "off"  # a test neither reads nor fills the user's


@pytest.fixture(scope="session")
def golden() -> Path:
    """The golden data: the full set beside the checkout where it is there, else the small part kept in tests/data."""
    beside = TESTS.parent.parent / "shared" / "golden"
    return beside if beside.is_dir() else TESTS / "data" / "golden"


@pytest.fixture(scope="session")
def moore_folder(golden, tmp_path_factory) -> Path:
    """The tiny golden networks, written in Moore-AnimateAnyone's layout and converted."""
    from tests.golden_tools import write_tiny_moore_files
    from tools.convert_weights.__main__ import main

    folder = tmp_path_factory.mktemp("moore")
    arguments = write_tiny_moore_files(golden, folder)
    assert main([*arguments, "--output", str(folder / "model")]) == 0
    return folder / "model"


@pytest.fixture(scope="session")
def animator(moore_folder):
    """The tiny golden system, as its users load it."""
    from aa_jax.animator import Animator

    return Animator.from_pretrained(moore_folder)
