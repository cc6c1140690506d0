"""How Sphinx builds this documentation."""

import os
import sys
from pathlib import Path

from smendpoint import __version__

HERE = Path(__file__).parent
sys.path.append(str(HERE / "_ext"))

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
site_summary = (
    "A small, typed client for models on Amazon SageMaker endpoints, sync and async, fast, and exact about failures."
)
html_search_scorer = str(HERE / "_static" / "scorer.js")
site_words = {  # that people search for, beside a page's title in the navigation
    "how-to/retries-and-timeouts": ["timeouts", "retries", "retry", "backoff", "throttling", "429", "503"],
    "how-to/streaming-ui": ["streams", "tokens"],
    "how-to/structured-output": ["structured output", "JSON schema", "pydantic"],
    "how-to/chat-tools": ["function calling", "tool calls"],
    "how-to/notebooks": ["Jupyter", "notebook"],
    "how-to/when-it-goes-wrong": ["troubleshooting", "errors", "400", "403", "404", "424", "429", "503", "hangs"],
    "how-to/coming-from-sagemaker-sdk": ["Predictor", "sagemaker"],
    "how-to/coming-from-boto3": ["invoke_endpoint", "migration"],
    "how-to/async-inference": ["async inference", "S3"],
    "how-to/given-client": ["boto3", "botocore", "aiobotocore"],
    "how-to/choosing": ["batch transform", "map"],
    "how-to/batch-files": ["batches", "JSON Lines", "CSV", "Parquet"],
    "how-to/fastapi": ["FastAPI", "Starlette"],
    "how-to/lambda": ["Lambda", "serverless"],
    "how-to/serve": ["OpenAI API", "proxy server"],
    "how-to/observe": ["logging", "metrics", "tracing", "Prometheus", "OpenTelemetry"],
    "how-to/proxies-and-tls": ["proxy", "TLS", "certificates"],
    "how-to/testing": ["pytest", "mocks"],
    "how-to/measure": ["benchmark", "latency", "throughput"],
    "how-to/doctor": ["doctor", "permissions", "403"],
    "how-to/shell": ["command line", "shell"],
    "reference/errors": ["400", "403", "413", "424", "429", "500", "503", "530", "exceptions"],
    "reference/handlers": ["embeddings", "reranking", "chat"],
    "reference/configuration": ["credentials", "region", "environment variables"],
    "reference/emulator": ["emulator", "fixtures"],
    "tutorial/asyncio": ["async", "await"],
}
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
