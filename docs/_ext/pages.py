"""Describe each page in one sentence, for search engines and for language models (`llms.txt`, `llms-full.txt`).

The sentences are those of the overview of each part: its lines `* [Title](page.md): sentence`. The two files follow
llmstxt.org. Sphinx-llms-txt makes them too, but copies the sources, in which the API is nothing but directives.
"""

from __future__ import annotations

import html
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.util.docutils import new_document
from sphinx.writers.text import TextTranslator

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

ENTRY = re.compile(r"^\* \[[^\]]+\]\(([\w/-]+)\.md\): (.+(?:\n  .+)*)", re.MULTILINE)
BLOCK = re.compile(r"^```\{eval-rst\}\n.*?^```\n", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r"^```\{literalinclude\} (\S+)\n.*?^```\n", re.MULTILINE | re.DOTALL)
TOCTREE = re.compile(r"^```\{toctree\}\n.*?^```\n+", re.MULTILINE | re.DOTALL)


def mark_blocks(app: Sphinx, page: str, source: list[str]) -> None:
    """Mark where the entries of the API begin and end, so that their text can be found in the page's tree."""
    source[0] = BLOCK.sub(lambda it: f"% api\n\n{it[0]}\n% end\n", source[0])


def sentences(app: Sphinx) -> dict[str, str]:
    """Give the sentence of each page that an overview lists."""
    found = {app.config.root_doc: app.config.site_summary}
    for page in app.env.found_docs:
        if page.endswith("/index"):
            text = Path(app.env.doc2path(page)).read_text(encoding="utf-8")
            for name, sentence in ENTRY.findall(text):
                found[f"{page.removesuffix('index')}{name}"] = " ".join(sentence.split())
    return found


def describe(app: Sphinx, page: str, sentence: dict[str, str]) -> str:
    """Give a page's sentence, or else the first sentence of its text."""
    if page in sentence:
        text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", sentence[page])
        return text[0].upper() + text[1:]
    paragraph = next((it for it in app.env.get_doctree(page).findall(nodes.paragraph) if it.astext()), None)
    return re.split(r"(?<=[.:]) ", " ".join(paragraph.astext().split()))[0] if paragraph else ""


def add_tags(
    sentence: dict[str, str],
    app: Sphinx,
    page: str,
    template: str,
    context: dict[str, Any],
    tree: nodes.document | None,
) -> None:
    """Add the page's description, and mend two places of the theme that screen readers trip over."""
    if navigation := context.get("furo_navigation_tree"):
        context["furo_navigation_tree"] = navigation.replace('role="heading"', 'role="heading" aria-level="2"')
    if tree is None:
        return
    description = html.escape(describe(app, page, sentence))
    title = html.escape(app.env.titles[page].astext())
    context["metatags"] += (
        f'<meta name="description" content="{description}">\n'
        f'<meta property="og:type" content="website">\n'
        f'<meta property="og:site_name" content="{app.config.project}">\n'
        f'<meta property="og:title" content="{title}">\n'
        f'<meta property="og:description" content="{description}">\n'
    )


def groups(env: BuildEnvironment) -> list[tuple[str, list[tuple[str, str]]]]:
    """Give the groups of the navigation: the caption, and the title and the name of each page, in reading order."""
    found = []
    for tree in env.get_doctree(env.config.root_doc).findall(addnodes.toctree):
        found.append((tree["caption"], [it for title, page in tree["entries"] for it in _with_parts(env, title, page)]))
    return found


def _with_parts(env: BuildEnvironment, title: str | None, page: str) -> list[tuple[str, str]]:
    below = [
        it
        for tree in env.get_doctree(page).findall(addnodes.toctree)
        for name, part in tree["entries"]
        for it in _with_parts(env, name, part)
    ]
    return [(title or env.titles[page].astext(), page), *below]


class _Plain(TextTranslator):
    """Text without marks for emphasis: a type has many pieces of it, side by side."""

    def visit_emphasis(self, node: nodes.Element) -> None: ...
    def depart_emphasis(self, node: nodes.Element) -> None: ...

    visit_literal_emphasis = depart_literal_emphasis = visit_emphasis


def markdown(app: Sphinx, page: str) -> str:
    """Give a page as Markdown: its source, with the text of the API where the source has directives."""
    env = app.env
    source = Path(env.doc2path(page)).read_text(encoding="utf-8")
    entries: list[str] = []
    tree = env.get_and_resolve_doctree(page, app.builder, tags=app.tags) if BLOCK.search(source) else new_document(page)
    for mark in tree.findall(lambda it: isinstance(it, nodes.comment) and it.astext() == "api"):
        document = new_document(page)
        at = mark.parent.index(mark) + 1
        while not isinstance(mark.parent[at], nodes.comment):
            document += mark.parent[at].deepcopy()
            at += 1
        writer = _Plain(document, app.builder)
        document.walkabout(writer)
        entries.append(f"```text\n{writer.body.strip()}\n```\n")
    text = BLOCK.sub(lambda _: entries.pop(0), TOCTREE.sub("", source))
    folder = Path(env.doc2path(page)).parent
    text = INCLUDE.sub(lambda it: f"```python\n{(folder / it[1]).read_text(encoding='utf-8')}```\n", text)
    text = re.sub(r"\{[a-z:]+\}(`[^`]+`)", r"\1", text)
    return re.sub(r"(\]\([^):]+)\.md((?:#[^)]*)?\))", r"\1.html.md\2", text).strip() + "\n"


def prepare(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Collect what is known only when all pages have been read."""
    words = {page: [title, *app.config.site_words.get(page, ())] for _, pages in groups(env) for title, page in pages}
    app.connect("doctree-resolved", partial(add_words, words))
    app.connect("html-page-context", partial(add_tags, sentences(app)), priority=900)  # after the theme
    return []


def add_words(words: dict[str, list[str]], app: Sphinx, tree: nodes.document, page: str) -> None:
    """Let the search find a page by its title in the navigation, and by the words that `site_words` adds."""
    entries = [("single", word, "", "main", None) for word in words.get(page, ())]
    tree.insert(0, addnodes.index(entries=entries))


def write(app: Sphinx, failure: Exception | None) -> None:
    """Write each page as Markdown beside the page, `llms.txt` with links to them, and `llms-full.txt` with all."""
    if failure or app.builder.name != "html":
        return
    sentence = sentences(app)
    texts: dict[str, str] = {app.config.root_doc: markdown(app, app.config.root_doc)}
    root = app.config.html_baseurl
    links = [f"# {app.config.project}\n\n> {app.config.site_summary}\n\n[All pages in one text]({root}llms-full.txt)\n"]
    for caption, pages in groups(app.env):
        links.append(f"\n## {caption}\n\n")
        for title, page in pages:
            texts[page] = markdown(app, page)
            links.append(f"- [{title}]({root}{page}.html.md): {describe(app, page, sentence)}\n")
    for page, text in texts.items():
        Path(app.outdir, f"{page}.html.md").write_text(text, encoding="utf-8")
    Path(app.outdir, "llms.txt").write_text("".join(links), encoding="utf-8")
    Path(app.outdir, "llms-full.txt").write_text("\n".join(texts.values()), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_config_value("site_summary", "", "html", types=frozenset({str}))
    app.add_config_value("site_words", {}, "env", types=frozenset({dict}))
    app.connect("env-updated", prepare)
    app.connect("source-read", mark_blocks)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
