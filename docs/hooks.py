"""For mkdocs: the results that the README has stand on a page of their own, too."""

import re
from pathlib import Path
from typing import Any

MARK = "<!-- README results -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the README's section where the mark is; its links to files outside of docs become their names."""
    if MARK not in markdown:
        return markdown
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    section = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", readme, flags=re.DOTALL)
    assert section is not None
    text = re.sub(r"\]\(docs/", "](", section[1])
    return markdown.replace(MARK, re.sub(r"\[([^\]]+)\]\((?!https?:|\w[\w-]*\.md)([^)]+)\)", r"`\2`", text))
