"""Pages of the documentation site that are made from what the project says elsewhere (a hook of MkDocs).

The start page is `README.md`; the page on commands is what `--help` prints; three more are files of the project's root.
"""

import html
import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

__all__ = ["on_files", "on_page_markdown"]

ROOT = Path(__file__).parents[2]
_AT_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "LICENSE": "project/licence.md",
    "NOTICE": "project/licence.md",
}


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that no file of `docs/` is."""
    made = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in _AT_ROOT.items()}
    made["project/licence.md"] = _licence()
    made["reference/commands.md"] = _commands()
    for path, text in made.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between the root's files and `docs/` into links between pages; drop the tests' mark of examples."""
    markdown = re.sub(r"^```python no-run$", "```python", markdown, flags=re.MULTILINE)
    here = page.file.src_uri
    up = "../" * here.count("/")
    for source, target in _AT_ROOT.items():
        markdown = re.sub(rf"\]\((\.\./)*{re.escape(source)}(#[^)]*)?\)", rf"]({up}{target}\2)", markdown)
    if here in _AT_ROOT.values():
        markdown = re.sub(r"\]\(docs/", f"]({up}", markdown)
    return markdown


def _commands() -> str:
    """Return the help of every command, as Typer writes it in Markdown."""
    call = [sys.executable, "-m", "typer", "hybridface.commands.main", "utils", "docs", "--name", "hybridface"]
    text = subprocess.run(call, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    text = re.sub(r"^(#+) `(.*)`$", r"\1 \2", html.unescape(text), flags=re.MULTILINE)
    about = dict(re.findall(r"^#+ hybridface (.+)\n\n(.+)$", text, re.MULTILINE))  # Typer's list cuts it short
    overview = "\n".join(f"* [`{name}`](#hybridface-{name.replace(' ', '-')}): {said}" for name, said in about.items())
    start, _, rest = text.partition("**Commands**:")
    return f"{start}**Commands**:\n\n{overview}\n\n{rest[rest.index('## ') :]}".replace("# hybridface", "# Commands", 1)


def _licence() -> str:
    licence, notice = ((ROOT / name).read_text(encoding="utf-8") for name in ("LICENSE", "NOTICE"))
    credits = (ROOT / "hybridface/photos/CREDITS.md").read_text(encoding="utf-8")
    return f"# Licence\n\n```text\n{notice}```\n\n#{credits}\n\n## Apache License\n\n```text\n{licence.lstrip()}```\n"
