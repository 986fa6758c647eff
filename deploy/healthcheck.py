"""Container health checks that need nothing but Python: no Django, no settings, 30 ms.

`healthcheck.py http PATH`: the web processes answer PATH with 2xx.
`healthcheck.py spool SECONDS`: no closed spool segment has waited longer, so the shipper keeps up.
`healthcheck.py fresh FILE SECONDS`: FILE (or FILE.*) was written within the time.
"""

import os
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def http(path: str) -> str:
    """Return what is wrong with the answer to `path`, or nothing."""
    url = f"http://127.0.0.1:{os.environ.get('PORT') or 8080}{path}"
    try:
        with urllib.request.urlopen(url, timeout=4) as answer:
            return "" if answer.status < 300 else f"{url} answered {answer.status}"
    except (OSError, urllib.error.URLError) as problem:
        return f"{url}: {problem}"


def spool(seconds: str) -> str:
    """Return which closed segment has waited too long, or nothing."""
    directory = Path(os.environ.get("GATEWAY_DATA_DIR") or "data") / "spool"
    oldest = min(_written(directory, "*.seg"), default=time.time())
    late_s = time.time() - oldest
    return f"a segment has waited {late_s:.0f} s" if late_s > float(seconds) else ""


def fresh(file: str, seconds: str) -> str:
    """Return that `file` is stale or absent, or nothing."""
    path = Path(file)
    newest = max(_written(path.parent, f"{path.name}*"), default=0.0)
    return f"{file} was not written within {seconds} s" if time.time() - newest > float(seconds) else ""


def _written(directory: Path, pattern: str) -> list[float]:
    found = []
    for path in directory.glob(pattern):
        try:
            found.append(path.stat().st_mtime)
        except FileNotFoundError:  # shipped while we looked
            continue
    return found


CHECKS = {"http": http, "spool": spool, "fresh": fresh}

if __name__ == "__main__":
    trouble = CHECKS[sys.argv[1]](*sys.argv[2:])
    if trouble:
        sys.exit(trouble)
