"""Compares the minimum Rust of each feature in docs/features.md with what its dependencies state.

`WORKSPACE` holds the unpacked packages, with the oldest dependencies that Cargo can choose for the oldest
Rust. Prints the features that need no newer one.
"""

import json
import re
import subprocess
import sys

OWN = "idempotent-axum"
# Not for users.
UNDOCUMENTED = {"default", "failpoints"}


def cargo(*arguments):
    command = ["cargo", *arguments, "--quiet"]
    done = subprocess.run(command, cwd=sys.argv[1], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def version(text):
    """`1.85.0` and `1.85` are one."""
    return tuple(map(int, text.split(".")))[:2]


def stated():
    """What each package states, by name and version, and the features of ours."""
    packages = json.loads(cargo("metadata", "--all-features", "--format-version=1"))["packages"]
    rust = {(p["name"], p["version"]): version(p["rust_version"] or "1.0") for p in packages}
    features = next(set(p["features"]) for p in packages if p["name"] == OWN)
    return rust, features - UNDOCUMENTED


def needed(feature, rust):
    """The newest Rust that something asks for which is built with the feature."""
    options = ["--no-default-features", "--features", feature, "--edges", "normal,build"]
    tree = cargo("tree", "--package", OWN, *options, "--prefix", "none", "--format", "{p}")
    lines = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    return max((rust[name, number.removeprefix("v")], name) for name, number in lines)


def documented():
    with open("docs/features.md") as page:
        rows = re.findall(r"^\| `([a-z-]+)`.* \| ([0-9.]+) \|$", page.read(), re.MULTILINE)
    return {feature: version(number) for feature, number in rows}


def main():
    rust, features = stated()
    table = documented()
    wrong = [f"{feature}: in the table, but no feature" for feature in table.keys() - features]
    for feature in sorted(features):
        number, name = needed(feature, rust)
        if table.get(feature) != number:
            wrong.append(f"{feature}: needs {number}, as {name} does; the table says {table.get(feature)}")
    oldest = next(number for (name, _), number in rust.items() if name == OWN)
    for line in wrong:
        print(line, file=sys.stderr)
    print(",".join(sorted(feature for feature in features if table.get(feature) == oldest)))
    sys.exit(bool(wrong))


main()
