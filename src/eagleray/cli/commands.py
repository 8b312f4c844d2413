"""The commands of `eagleray`. None imports what it does not need: a person waits for each of them."""

from __future__ import annotations

import click

import eagleray
from eagleray.cli.run import run


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(eagleray.__version__, prog_name="eagleray")
def commands() -> None:
    """Serve Python models online."""


commands.add_command(run)
