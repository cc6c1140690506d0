"""The built documentation: links, navigation, search, and files for language models. Skipped without Sphinx."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

import smendpoint

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NEEDED = ("sphinx", "furo", "myst_parser", "sphinx_copybutton", "fcntl")
MISSING = [name for name in NEEDED if find_spec(name) is None]
built = pytest.mark.skipif(bool(MISSING), reason=f"the site cannot be built without {', '.join(MISSING)}")

WIDTH = 88
# Pages with lines of code that are still to be wrapped.
WIDE = {"README", "doctor", "measure"}


class Page(HTMLParser):
    """The ids of a page, where its links lead, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.meta: dict[str, str] = {}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag == "meta":
            self.meta[found.get("name") or found.get("property", "")] = found.get("content", "")
        if (
            tag == "link"
            and "href" in found
            and found.get("rel") not in {"index", "search", "next", "prev", "canonical"}
        ):
            self.loaded.append(found["href"])
        self.loaded += [found[name] for name in ("src", "srcset", "data", "poster") if name in found]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site, once for all workers of a run; warnings are errors. `SMENDPOINT_SITE` is a built one."""
    import fcntl

    if "SMENDPOINT_SITE" in os.environ:
        return Path(os.environ["SMENDPOINT_SITE"])
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder = shared / "site"
    with (shared / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
            build = subprocess.run(
                [*command, str(DOCS), str(shared / "site.new")],
                capture_output=True,
                text=True,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            assert build.returncode == 0, build.stdout + build.stderr
            (shared / "site.new").rename(folder)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in sorted(site.rglob("*.html"))}


def code_of(page: Path) -> list[tuple[int, str]]:
    """Give the lines in the fenced blocks of a page, and the number of each."""
    found, fence = [], ""
    for number, line in enumerate(page.read_text(encoding="utf-8").split("\n"), 1):
        if mark := re.match(r"\s*(```+|~~~+)(.*)", line):
            if not fence:
                fence = mark[1]
                # A directive has options, not code.
                code = not mark[2].startswith("{")
            elif mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif fence and code:
            found.append((number, line))
    return found


def test_no_line_of_code_on_a_page_is_wider_than_88_columns() -> None:
    programs = sorted((DOCS / "how-to" / "code").glob("*.py"))
    lines = [(page, number, line) for page in PAGES for number, line in code_of(page)]
    lines += [(path, *it) for path in programs for it in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)]
    wide = [
        f"{path.relative_to(ROOT)}:{number} has {len(line)}"
        for path, number, line in lines
        if len(line) > WIDTH and path.stem not in WIDE and ".venv/bin/python -m pytest" not in line
    ]
    assert not wide, "\n".join(wide)


def test_the_overview_of_each_part_lists_all_its_pages_with_a_sentence() -> None:
    for part in ("how-to", "reference", "explanation", "project"):
        overview = (DOCS / part / "index.md").read_text(encoding="utf-8")
        listed = re.findall(r"^\* \[[^\]]+\]\(([\w-]+)(?:/index)?\.md\): [^\n]", overview, re.MULTILINE)
        there = [page.stem for page in (DOCS / part).glob("*.md") if page.stem != "index"]
        there += [page.parent.name for page in (DOCS / part).glob("*/index.md")]
        assert sorted(listed) == sorted(there)


@built
def test_every_link_inside_the_site_leads_to_a_page_and_a_place_that_exist(site: Path, pages: dict[str, Page]) -> None:
    broken = []
    for name, page in pages.items():
        for link in {*page.links, *page.loaded}:
            if re.match(r"[a-z]+:", link):
                continue
            target, _, place = unquote(link).partition("#")
            path = (page.path.parent / target.partition("?")[0]).resolve() if target else page.path
            if not path.is_file() or (place and place not in pages[str(path.relative_to(site.resolve()))].ids):
                broken.append(f"{name}: {link}")
    assert not broken, "\n".join(sorted(broken))


@built
def test_no_id_is_on_a_page_twice(pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert [one for one, times in Counter(page.ids).items() if times > 1] == [], name


@built
def test_nothing_is_loaded_from_the_network(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert [url for url in page.loaded if re.match(r"(https?:)?//", url)] == [], name
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?\s*(https?:)?//", style.read_text(encoding="utf-8")), style.name


@built
def test_every_page_is_in_the_navigation_exactly_once(site: Path) -> None:
    text = (site / "index.html").read_text(encoding="utf-8")
    (tree,) = re.findall(r'<div class="sidebar-tree">(.*?)</div>\s*</div>', text, re.DOTALL)
    listed = Counter(link.removesuffix(".html") for link in re.findall(r'href="([^"#]+)"', tree))
    there = {str(page.relative_to(DOCS).with_suffix("")) for page in DOCS.rglob("*.md")} - {"index"}
    assert listed == Counter(there)


@built
def test_every_page_describes_itself_in_a_sentence(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        if (DOCS / name).with_suffix(".md").exists():
            assert page.meta["description"] == page.meta["og:description"] != "", name
            assert page.meta["og:title"], name


@built
def test_every_public_name_and_method_has_one_entry_with_one_signature(site: Path, pages: dict[str, Page]) -> None:
    entries = Counter(one for name, page in pages.items() if name.startswith("reference/") for one in page.ids)
    last = Counter(".".join(one.split(".")[-1:]) for one in entries if one.startswith("smendpoint."))
    assert [name for name in smendpoint.__all__ if not name.startswith("_") and not last[name]] == []
    for endpoint in (smendpoint.Endpoint, smendpoint.AsyncEndpoint):
        methods = {name for name in dir(endpoint) if not name.startswith("_")}
        assert {name for name in methods if not entries[f"smendpoint.{endpoint.__name__}.{name}"]} == set()
    for path in (site / "reference").glob("*.html"):
        assert not re.search(r'</dt>\s*<dt class="sig ', path.read_text(encoding="utf-8")), path.name


@built
def test_llms_txt_has_a_title_a_summary_and_a_sentence_for_each_page(site: Path) -> None:
    text = (site / "llms.txt").read_text(encoding="utf-8")
    assert re.match(r"# smendpoint\n\n> \S.*\n", text)
    links = re.findall(r"^- \[[^\]]+\]\((\S+)\): \S.*[.:]$", text, re.MULTILINE)
    assert len(links) == text.count("\n- ")
    there = {str(page.relative_to(DOCS)).removesuffix(".md") for page in DOCS.rglob("*.md")} - {"index"}
    assert Counter(link.removesuffix(".html.md") for link in links) == Counter(there)
    for link in links:
        assert (site / link).is_file()


@built
def test_llms_full_txt_has_all_pages_in_reading_order_with_the_text_of_the_api(site: Path) -> None:
    text = (site / "llms-full.txt").read_text(encoding="utf-8")
    links = re.findall(r"\((\S+\.html\.md)\)", (site / "llms.txt").read_text(encoding="utf-8"))
    places = [text.index((site / link).read_text(encoding="utf-8")) for link in ["index.html.md", *links]]
    assert places == sorted(places)
    assert not re.search(r"```\{(eval-rst|toctree|include|literalinclude)", text)
    for link in links:
        for target in re.findall(r"\]\(([^):#]+\.html\.md)", (site / link).read_text(encoding="utf-8")):
            assert (site / link).parent.joinpath(target).is_file(), f"{link} links to {target}"
    assert "invoke(input, /, *, stop=None, timeout=None" in text


SEARCH = """
const fs = require("fs"), vm = require("vm");
const [folder, ...queries] = process.argv.slice(1);
globalThis.window = globalThis;
globalThis.document = { addEventListener() {}, getElementById: () => null, readyState: "loading" };
globalThis.localStorage = { setItem() {} };
globalThis._ready = () => {};
globalThis._ = (text) => text;
globalThis.DOCUMENTATION_OPTIONS = {};
globalThis.SPHINX_HIGHLIGHT_ENABLED = false;
const read = (name) => fs.readFileSync(`${folder}/${name}`, "utf8");
const loaded = ["_static/language_data.js", "_static/searchtools.js"].map(read).join("\\n");
vm.runInThisContext(`${loaded}\\nglobalThis.Search = Search;`);
vm.runInThisContext(read("searchindex.js"));
const found = queries.map((query) => Search._performSearch(...Search._parseQuery(query)).map((result) => result[0]));
console.log(JSON.stringify(found.map((pages) => pages.reverse())));
"""

FOUND = {
    "timeout": "how-to/retries-and-timeouts",
    "timeouts": "how-to/retries-and-timeouts",
    "retry": "how-to/retries-and-timeouts",
    "throttling": "how-to/retries-and-timeouts",
    "429": "how-to/retries-and-timeouts",
    "FastAPI": "how-to/fastapi",
    "Starlette": "how-to/fastapi",
    "streaming": "how-to/streaming-ui",
    "Lambda": "how-to/lambda",
    "embeddings": "reference/handlers",
    "asynchronous inference": "how-to/async-inference",
    "boto3": "how-to/given-client",
    "Ray": "how-to/ray",
    "LangChain": "how-to/langchain",
    "Prometheus": "how-to/observe",
    "proxy": "how-to/proxies-and-tls",
    "pytest": "how-to/testing",
    "voice": "how-to/voice",
    "ThrottlingError": "reference/errors",
    "AsyncEndpoint": "reference/endpoint",
}


@built
@pytest.mark.skipif(shutil.which("node") is None, reason="the site's search is JavaScript, and there is no node")
def test_the_search_finds_the_page_that_people_look_for_among_the_first_two(site: Path) -> None:
    node = subprocess.run(["node", "-e", SEARCH, str(site), *FOUND], capture_output=True, text=True)
    assert node.returncode == 0, node.stderr
    firsts = {
        query: list(dict.fromkeys(pages))[:2] for query, pages in zip(FOUND, json.loads(node.stdout), strict=True)
    }
    assert {query: pages for query, pages in firsts.items() if FOUND[query] not in pages} == {}
