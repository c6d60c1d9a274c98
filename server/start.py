"""Where the ``holdfast`` script begins: at the hook, which must answer at once, or the commands.

The hook is run before every prompt of a coding agent; it imports what it needs and no more.
"""

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["hook"]:
        from .agent_commands import run_hook

        raise SystemExit(run_hook(sys.argv[2:]))
    from .cli import main as run

    run()
