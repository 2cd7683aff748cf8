"""Prepare a release: write the repository's owner into links, and compare a tag with the version.

Links name the owner by the placeholder OWNER. `.github/workflows/release.yml` runs this script before it builds. To
fill the links in the repository itself, run it once and commit what it has changed.
"""

import argparse
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "/OWNER/skaimz"
FILES = (
    "CITATION.cff",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
    ".github/ISSUE_TEMPLATE/config.yml",
)


def fill(root: Path, owner: str) -> list[Path]:
    """Replace the placeholder by the owner, and return the files that changed."""
    changed = []
    for path in (root / name for name in FILES):
        text = path.read_text()
        filled = text.replace(PLACEHOLDER, f"/{owner}/skaimz")
        if filled != text:
            path.write_text(filled)
            changed.append(path)
    return changed


def version(root: Path) -> str:
    """Return the version that pyproject.toml states."""
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]


def main(arguments: list[str] | None = None) -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("owner", help="user or organisation that owns the repository")
    parser.add_argument("--tag", help="a tag that must be v and the version")
    options = parser.parse_args(arguments)
    if options.tag not in (None, f"v{version(ROOT)}"):
        parser.error(f"the tag {options.tag} is not v{version(ROOT)}, the version in pyproject.toml")
    for path in fill(ROOT, options.owner):
        print(f"filled {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
