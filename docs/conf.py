"""Sphinx: `python -m sphinx -W docs DIR`. Pages are Markdown (MyST), the API reference comes from the docstrings."""

import aa_jax

project = "aa_jax"
author = "the authors of aa_jax"
version = release = aa_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["attrs_block"]
myst_heading_anchors = 3
# A page that is included keeps its own links.
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"aa_jax {version}"
html_show_sourcelink = False
html_copy_source = False


def setup(app):
    """In docstrings an indented block after a colon is code."""
    app.connect("autodoc-process-docstring", mark_code, priority=400)


def mark_code(app, what, name, of, options, lines):
    """Make such a colon reStructuredText's mark of code, in place."""
    for index in range(len(lines) - 2):
        before, blank, after = lines[index : index + 3]
        indent = len(before) - len(before.lstrip())
        if before.endswith(":") and not blank.strip() and after.startswith(" " * (indent + 4)):
            lines[index] = f"{before}:"
