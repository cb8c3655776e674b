"""For mkdocs: the README's results stand on a page of their own, and links out of docs become names of files."""

import re
from pathlib import Path
from typing import Any

MARK = "<!-- README results -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What a page's Markdown is for the site."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    section = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", readme, flags=re.DOTALL)
    assert section is not None
    results = re.sub(r"\]\((?!https?:|#)", "](../", section[1]).replace("](../docs/", "](")
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown.replace(MARK, results))
