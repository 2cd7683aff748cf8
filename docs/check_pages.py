"""Look at each page of the built site in Chromium, at the widths of a desk and of a phone.

A page passes if nothing is wider than the window, and no block of code is cut off. A small server on this machine shows
each page in a frame of each width, and a script in the frame's parent measures it.
"""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from html import unescape
from pathlib import Path

WIDTHS = (1440, 390)
NAMES = ("chromium", "chromium-browser", "google-chrome")
# Shows every page at every width, and writes what it finds into the document.
HARNESS = """<!doctype html><meta charset="utf-8"><title>measuring</title><body><script>
const pages = PAGES, widths = WIDTHS, found = [];
async function look(page, width) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:900px;border:0`;
  const loaded = new Promise((resolve) => (frame.onload = resolve));
  frame.src = page;
  document.body.append(frame);
  await loaded;
  const inner = frame.contentDocument, root = inner.documentElement;
  if (root.scrollWidth > width + 1) found.push(`${page} at ${width}: ${root.scrollWidth} pixels wide`);
  for (const pre of inner.querySelectorAll("pre"))
    if (pre.scrollWidth > pre.clientWidth + 1)
      found.push(`${page} at ${width}: code is cut off: ${pre.textContent.slice(0, 60)}`);
  frame.remove();
}
(async () => {
  for (const page of pages) for (const width of widths) await look(page, width);
  document.body.textContent = "MEASURED" + JSON.stringify(found) + "MEASURED";
})();
</script>"""


def browser() -> str | None:
    """Return the path of Chromium, None where it is not installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def too_wide(root: Path, chromium: str) -> list[str]:
    """Return a line for each page that does not fit, or whose code is cut off."""
    pages = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.html") if "_static" not in path.parts)
    harness = root / "measure-pages.html"
    harness.write_text(HARNESS.replace("PAGES", json.dumps(pages), 1).replace("WIDTHS", json.dumps(WIDTHS), 1))
    handler = functools.partial(_Quiet, directory=str(root))
    try:
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_port}/{harness.name}"
            dom = _dom_of(address, chromium)
            server.shutdown()
    finally:
        harness.unlink()
    match = re.search(r"MEASURED(\[.*?\])MEASURED", dom, re.DOTALL)
    if match is None:
        raise RuntimeError(f"Chromium did not measure all {len(pages)} pages.")
    return json.loads(unescape(match[1]))


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Log nothing."""


def _dom_of(address: str, chromium: str) -> str:
    """Return the document at an address after its scripts have run, for ten minutes of the page's own time at most."""
    with tempfile.TemporaryDirectory() as profile:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,1000"]
        run = subprocess.run(
            [chromium, *options, f"--user-data-dir={profile}", "--virtual-time-budget=600000", "--dump-dom", address],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
    return run.stdout


if __name__ == "__main__":
    path = browser()
    if path is None:
        print("Chromium is not installed: the pages were not looked at.")
        sys.exit()
    lines = too_wide(Path(sys.argv[1]), path)
    print("\n".join(lines) or f"All pages fit at {' and '.join(map(str, WIDTHS))} pixels.")
    sys.exit(bool(lines))
