"""How Sphinx builds this documentation."""

import os
import sys
from pathlib import Path

from smendpoint import __version__

sys.path.append(str(Path(__file__).parent / "_ext"))

project = "smendpoint"
author = "The smendpoint maintainers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "api",
    "pages",
]
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = project
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_baseurl = os.environ.get("READTHEDOCS_CANONICAL_URL", "")
site_summary = "Call models on Amazon SageMaker endpoints: small, typed, exact about failures, sync and async."
html_show_copyright = False
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

myst_heading_anchors = 3
doctest_global_setup = "from smendpoint import *"
napoleon_use_ivar = True  # an attribute is described once, where the class says so
default_role = "code"  # docstrings write names in single backticks
autoclass_content = "both"  # the constructor of an endpoint has its arguments in its own docstring
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
