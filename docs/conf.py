"""Sphinx configuration."""

import importlib.metadata

project = "skaimz"
author = "The skaimz developers"
version = release = importlib.metadata.version("skaimz")
extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
html_theme = "pydata_sphinx_theme"
html_title = f"skaimz {release}"
exclude_patterns = ["_build"]
numpydoc_show_class_members = False
autodoc_member_order = "bysource"
