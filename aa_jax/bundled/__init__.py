"""The model that comes with the package: small synthetic characters, trained by `configs/characters_bundled_*.py`."""

from pathlib import Path

BUNDLED = Path(__file__).with_name("characters")
"""Its folder; what it is, and what it is worth, is in its README.md."""
