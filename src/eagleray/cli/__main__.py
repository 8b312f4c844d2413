"""Entry of the `eagleray` command and of `python -m eagleray.cli`."""

from __future__ import annotations

import click

import eagleray
from eagleray.cli.run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(eagleray.__version__, prog_name="eagleray")
def main() -> None:
    """Serve Python models online."""


main.add_command(run)

if __name__ == "__main__":
    main()
