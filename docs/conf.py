"""docs/ as a site: ``uv run --group docs sphinx-build -W docs site``. It loads nothing from elsewhere."""

project = "kvmwhy"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "kvmwhy"
html_show_copyright = False
html_copy_source = False
root_doc = "contents"  # of the sidebar; index.md is the page to begin with
exclude_patterns = ["man"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
# Pages link to files of the checkout (README.md, lab/), which the site has not; tests/docs follows all links.
suppress_warnings = ["myst.xref_missing"]
