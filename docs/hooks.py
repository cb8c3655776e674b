"""For mkdocs: links out of docs become names of files."""

import re
from typing import Any


def on_page_markdown(markdown: str, **_: Any) -> str:
    """What a page's Markdown is for the site."""
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)
