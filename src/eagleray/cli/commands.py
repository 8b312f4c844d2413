"""The commands of `eagleray`. None imports what it does not need: a person waits for each of them."""

from __future__ import annotations

from importlib import import_module

import click

import eagleray

_HOMES = {
    "run": "eagleray.cli.run",
    "start": "eagleray.cli.start",
    "deploy": "eagleray.cli.deploy",
    "status": "eagleray.cli.status",
    "config": "eagleray.cli.status",
    "controller-health": "eagleray.cli.status",
    "top": "eagleray.cli.top",
    "logs": "eagleray.cli.logs",
    "events": "eagleray.cli.events",
    "bench": "eagleray.cli.bench",
    "build": "eagleray.cli.build",
    "delete": "eagleray.cli.start",
    "shutdown": "eagleray.cli.start",
}
"""Command -> the module that has it."""


class _Lazy(click.Group):
    """Imports a command's module when the command is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        home = _HOMES.get(cmd_name)
        if home is None:
            return None
        found: click.Command = getattr(import_module(home), cmd_name.replace("-", "_"))
        return found


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(eagleray.__version__, prog_name="eagleray")
def commands() -> None:
    """Serve Python models online."""
