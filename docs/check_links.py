"""Check the built site without a network: links within it by file and anchor, others by their form.

Scripts, styles and images must belong to the site, so that its pages need no other host.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ADDRESSES = {"a": "href", "link": "href", "img": "src", "script": "src"}


class Page(HTMLParser):
    """The anchors and the addresses of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.anchors: set[str] = set()
        self.addresses: list[tuple[str, bool]] = []
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record anchors and addresses."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if ADDRESSES.get(tag) in values:
            may_leave = tag == "a" or (tag == "link" and "stylesheet" not in values.get("rel", ""))
            self.addresses.append((values[ADDRESSES[tag]], may_leave))


def broken(root: Path) -> list[str]:
    """Return a line for each broken link of the site."""
    # Files of the theme are templates, not pages.
    own = (path for path in sorted(root.rglob("*.html")) if "_static" not in path.relative_to(root).parts)
    pages = {path.resolve(): Page(path) for path in own}
    found = []
    for path, page in pages.items():
        for address, may_leave in page.addresses:
            parts = urlsplit(address)
            if parts.scheme in ("mailto", "data"):
                continue
            if parts.scheme or parts.netloc:
                is_address = parts.scheme in ("http", "https") and "." in parts.netloc and " " not in address
                well_formed = may_leave and is_address
            else:
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                anchors = pages[target].anchors if target in pages and parts.fragment else {unquote(parts.fragment)}
                well_formed = target.is_file() and unquote(parts.fragment) in anchors
            if not well_formed:
                found.append(f"{path.relative_to(root.resolve())}: {address}")
    if not pages:
        found.append(f"{root}: no pages")
    return found


if __name__ == "__main__":
    lines = broken(Path(sys.argv[1]))
    print("\n".join(lines) or "No link is broken.")
    sys.exit(bool(lines))
