"""The Python examples of a page, and how they are run: offline, against an emulator.

A fence may name what its example needs beyond the package, as pip writes it: ```` ```python sagemaker<3 ````. If that
is not installed, the example is skipped. The pages for users of other libraries show the other library's code in this
way, so that one page can have code for two versions of a library. Such an example need not have its output right after
it: it must print the text that follows next, which our own code prints too.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import logging
import os
import re
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from garbage import collect
from packaging.requirements import Requirement

from smendpoint.emulator import Emulator, ModelReply, ModelRequest
from smendpoint.emulator._variables import URL_VARIABLES

ROOT = Path(__file__).resolve().parent.parent
# The pages whose examples need a framework, and the module that it is imported as.
FRAMEWORKS = {
    "crewai": "crewai",
    "fastapi": "fastapi",
    "instructor": "instructor",
    "langchain": "langchain",
    "litellm": "litellm",
    "llama-index": "llama_index",
    "llm": "llm",
    "multiprocessing": "joblib",
    "notebooks": "nbclient",
    "openai-agents": "agents",
    "pydantic-ai": "pydantic_ai",
}
# The pages whose examples are the cells of a notebook.
NOTEBOOKS = {"notebooks"}


def _broken(request: ModelRequest) -> ModelReply:
    return ModelReply(b'{"error": "CUDA out of memory"}', status=500)


# The endpoints of the emulator that are not a text model; every other name is one.
MODELS = {"my-broken-llm": _broken, "my-embeddings": "tei", "my-xgboost": "xgboost"}
FENCE = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A ``python`` block, and what it prints: the ``text`` block right after it. A page's examples share names."""

    line: int
    code: str
    output: str | None
    needs: str | None


def examples(page: str) -> list[Example]:
    found: list[Example] = []
    end = -1
    for fence in FENCE.finditer(page):
        language, needs, body = fence.groups()
        if language == "python":
            found.append(Example(page.count("\n", 0, fence.start(3)), body, None, needs))
            end = fence.end()
        elif language == "text" and end >= 0:
            if not page[end : fence.start()].strip():
                found[-1] = found[-1]._replace(output=body)
            found = [one._replace(output=body) if one.needs and one.output is None else one for one in found]
            end = -1
    return found


def installed(needs: str) -> bool:
    """Say whether the requirements of an example, separated by spaces, are installed."""
    try:
        return all(
            requirement.specifier.contains(version(requirement.name), prereleases=True)
            for requirement in map(Requirement, needs.split())
        )
    except PackageNotFoundError:
        return False


def run(page: Path, folder: Path) -> None:
    """Run the examples of a page, for which AWS is an emulator and its configuration is in `folder`."""
    with Emulator() as emulator, mock.patch.dict(os.environ):  # examples may change it as well
        emulator.models.update(MODELS)
        emulator.descriptions["my-deleted-llm"] = {"EndpointStatus": "Deleting"}
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ |= {
            "AWS_ENDPOINT_URL_SAGEMAKER": emulator.url,
            **dict.fromkeys(URL_VARIABLES, emulator.url),
            "AWS_ENDPOINT_URL_S3": emulator.url + "/s3",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_REGION": "us-west-2",
            "AWS_CONFIG_FILE": str(folder / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
            "AWS_EC2_METADATA_DISABLED": "true",
            "LLM_USER_PATH": str(folder / "llm"),
        }
        # Like most scripts, examples leave it to the end of the process to close what they opened.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            (_run_cells if page.stem in NOTEBOOKS else _run)(page)
            collect()
        logging.getLogger("smendpoint").setLevel(logging.NOTSET)


def _run(page: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for line, code, output, needs in examples(page.read_text(encoding="utf-8")):
        if needs and not installed(needs):
            continue
        # Blank lines in front bring the page's own line numbers into tracebacks.
        program = compile("\n" * line + code, str(page), "exec", dont_inherit=True)
        printed = io.StringIO()
        logging.disable(logging.INFO if needs else logging.NOTSET)  # the SageMaker SDK logs to standard output
        try:
            with contextlib.redirect_stdout(printed):
                exec(program, names)
        finally:
            logging.disable(logging.NOTSET)
        if printed.getvalue() or not needs:
            _check(page, line, output, printed.getvalue())


def _run_cells(page: Path) -> None:
    """Run the examples in a kernel of Jupyter. A cell prints what it writes, and the value of its last line."""
    import nbclient
    import nbformat

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    found = examples(page.read_text(encoding="utf-8"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(example.code) for example in found])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute()
    for cell, (line, _, output, _) in zip(book.cells, found, strict=True):
        _check(page, line, output, "".join(map(_printed, cell.outputs)))


def _printed(output: Any) -> str:
    if output.output_type == "execute_result":
        return f"{output.data['text/plain']}\n"
    return str(output.text) if output.get("name") == "stdout" else ""


def _check(page: Path, line: int, output: str | None, printed: str) -> None:
    if output is not None:
        got = printed.rstrip() + "\n"
        same = doctest.OutputChecker().check_output(output, got, doctest.ELLIPSIS)
        assert same, f"{page}:{line}: expected\n{output}\nprinted\n{got}"
