"""Sphinx configuration."""

import importlib.metadata

from sphinx_gallery.sorting import ExplicitOrder

project = "skaimz"
author = project_copyright = "The skaimz developers"
version = release = importlib.metadata.version("skaimz")
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = f"skaimz {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_js_files = ["copy.js"]
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "logo": {"image_light": "_static/logo.svg", "image_dark": "_static/logo_dark.svg", "alt_text": "skaimz"},
    "show_toc_level": 2,
}
# Pages outside of sections have no navigation at their side.
html_sidebars = {
    page: []
    for page in ("index", "install", "tutorial", "glossary", "migration", "performance", "faq", "design", "changes")
}
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline"]
numpydoc_show_class_members = False
# Docstrings name no unknown parameters, and describe what is returned.
numpydoc_validation_checks = {"PR02", "RT01"}
# One line says what these methods return.
numpydoc_validation_exclude = {r"\.PredictiveDistribution\.", r"\.Site\.(allows|shape_on)"}
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
# Long signatures have a line for each parameter.
maximum_signature_line_length = 80
autosummary_generate = False
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": ExplicitOrder(
        ["quick_start.py", "schools.py", "prior_search.py", "arviz_results.py", "*", "demo.py"]
    ),
    "image_scrapers": ("matplotlib",),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
}
