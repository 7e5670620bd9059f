"""The documentation as a site, from the repository's Markdown and the docstrings: `make docs`."""

project = "Poselift"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
include_patterns = [
    "docs/**",
    "README.md",
    "experiments/generalisation/README.md",
    "experiments/comparisons/README.md",
    "experiments/compute/README.md",
    "experiments/real_video/README.md",
    "reports/benchmarks/*.md",
    "reports/results.md",
]
exclude_patterns = ["docs/site"]
root_doc = "docs/index"
html_theme = "furo"
html_title = "Poselift"
html_copy_source = False
myst_heading_anchors = 3
myst_enable_extensions = ["attrs_inline"]
suppress_warnings = ["myst.header"]  # the results table begins with a heading of the third level
default_role = "code"  # docstrings are plain text with `names`
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}
autodoc_typehints = "none"  # shapes are in the signature in the source, and are no types that could be linked


def setup(app):
    """Docstrings have formulas in plain text, in which | is no markup."""
    app.connect(
        "autodoc-process-docstring",
        lambda app, what, name, obj, options, lines: lines.__setitem__(
            slice(None), [x.replace("|", r"\|") for x in lines]
        ),
    )
