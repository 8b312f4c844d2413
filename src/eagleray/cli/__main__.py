"""Entry of the `eagleray` command and of `python -m eagleray.cli`."""

from __future__ import annotations

from eagleray.cli import interrupt


def main() -> None:
    """Runs the command line and exits."""
    interrupt.end_at_once()
    from eagleray.cli.commands import commands  # only now, so that Ctrl-C during the imports is quiet

    commands()


if __name__ == "__main__":
    main()
