"""Looks whether the documentation names the feature that an item needs: `WITHOUT WITH`, two folders.

What is in the pages of the second folder and not in those of the first is there by a feature.
"""

import re
import sys
from pathlib import Path

NOTE = "Available on <strong>crate feature"


def pages(folder):
    """The pages of all items, by their path: redirections are none."""
    found = {}
    for path in Path(folder).glob("idempotent_*/**/*.html"):
        html = path.read_text()
        if path.name != "all.html" and "<title>Redirection" not in html:
            found[str(path.relative_to(folder))] = html
    return found


def members(html):
    """What an item's own methods, variants and fields say, by their ids."""
    own = re.split(r'<h2 id="trait-implementations"', html)[0]
    chunks = re.split(r'<section id="((?:method|tymethod|variant|structfield)\.[^"]+)"', own)
    return dict(zip(chunks[1::2], chunks[2::2]))


def main():
    without, complete = pages(sys.argv[1]), pages(sys.argv[2])
    packages = {Path(path).parts[0] for path in without}
    looked_at, silent = 0, []
    for path, html in complete.items():
        if Path(path).parts[0] not in packages:
            continue
        if path not in without:
            looked_at += 1
            if NOTE not in html.split("<h2 id=")[0]:
                silent.append(path)
            continue
        before = members(without[path])
        for member, text in members(html).items():
            if member not in before:
                looked_at += 1
                if NOTE not in text.split("<section")[0]:
                    silent.append(f"{path}#{member}")
    for place in silent:
        print(f"{place}: does not say which feature it needs")
    print(f"{looked_at} items and methods need a feature, {len(silent)} do not say which")
    sys.exit(bool(silent) or not looked_at)


main()
