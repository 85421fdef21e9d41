"""The command line: `python -m embedllm COMMAND`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 1, with one line on stderr, where the input is at fault."""
    parser = argparse.ArgumentParser(
        prog="python -m embedllm", description="Bring, fit and route with your own models."
    )
    parser.add_subparsers(required=True, metavar="COMMAND")
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, KeyError) as error:
        # A KeyError shows its message in quotes.
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
