"""aa_jax: animate a still image of a character. Animate Anyone (Hu et al., arXiv 2311.17117) in JAX."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aa_jax.animator import Animator

__version__ = "0.1.0"
__all__ = ["Animator", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `Animator` when it is first asked for: `import aa_jax` alone loads no JAX."""
    if name == "Animator":
        from aa_jax.animator import Animator

        return Animator
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
