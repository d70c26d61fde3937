"""Take the proving ground's protocols and tables into the site, where `evidence.md` links to them (a hook of MkDocs)."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_ROOT = Path(__file__).parent.parent / "proving_ground"
_PAGES = {
    "protocol.md": "protocol.md",
    "protocol2.md": "protocol2.md",
    "protocol3.md": "protocol3.md",
    "results/tables.md": "tables.md",
    "results2/tables.md": "tables2.md",
    "real/protocol.md": "protocol-real.md",
    "real/results/tables.md": "tables-real.md",
}
"""In the repository → in the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for source, page in _PAGES.items():
        files.append(File.generated(config, f"proving-ground/{page}", abs_src_path=str(_ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001  (MkDocs names them)
    """Turn links to files beside `docs` into links to their pages."""
    for source, name in _PAGES.items():
        markdown = markdown.replace(f"](../proving_ground/{source})", f"](proving-ground/{name})")
    return markdown
