"""The verifier as one file: the modules that make it up, joined.

What is joined is their own source, word for word but for the imports among them, so that
the file says what they say. It runs with Python and the package ``cryptography`` alone.
"""

import ast
from pathlib import Path

MODULES = ("canonical", "merkle", "checkpoint", "leaf", "published", "verifier")
HEADER = '''#!/usr/bin/env python3
"""The stand-alone verifier of Holdfast {version}: one file, no database, no network.

    python {name} BUNDLE --key KEY [--since CHECKPOINT] [--show]

BUNDLE is a bundle's file, or the folder of an exported log. KEY is the log's public key, or
a file that holds it; have it from somebody you trust, not from the bundle. It needs
Python 3.11 and the package cryptography. Exit status 0: it holds; 1: it does not.
"""
'''


def source(version: str, name: str = "holdfast_verifier.py") -> str:
    """Give the text of the stand-alone verifier."""
    parts = [HEADER.format(version=version, name=name)]
    for module in MODULES:
        parts += [f"\n\n# ==== memory/{module}.py\n\n", _without_own_imports(module)]
    return "".join(parts)


def _without_own_imports(module: str) -> str:
    text = Path(__file__).with_name(f"{module}.py").read_text(encoding="utf-8")
    own = {
        number
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom) and node.level
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = text.splitlines(keepends=True)
    return "".join(line for number, line in enumerate(lines, start=1) if number not in own)
