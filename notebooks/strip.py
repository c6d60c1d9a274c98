"""Take out of the notebooks what running them leaves there: outputs, counts, metadata.

make notebooks-strip
"""

import json
from pathlib import Path
from typing import Any

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def stripped(text: str) -> str:
    """Give a notebook's file as it is kept in git."""
    notebook: dict[str, Any] = json.loads(text)
    for number, cell in enumerate(notebook["cells"], 1):
        cell |= {"id": f"cell-{number:02}", "metadata": {}}
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    kept = {**notebook, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    for path in Path(__file__).parent.glob("*.ipynb"):
        path.write_text(stripped(path.read_text(encoding="utf-8")), encoding="utf-8")
