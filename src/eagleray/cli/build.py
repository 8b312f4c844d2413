"""`eagleray build`: writes a config file for applications as their code has them.

It is the only command that imports the user's code itself: it needs no instance, and ends with what it has found.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

import eagleray
from eagleray.base import ray_names
from eagleray.build import build as build_application
from eagleray.cli.rendering import to_yaml
from eagleray.spec.application import ApplicationSpec
from eagleray.spec.config import NOT_OVERRIDABLE
from eagleray.wire.control import BuilderLaunch

_HEADER = f"""# This file was generated using the `eagleray build` command on Eagleray v{eagleray.__version__}.

"""


@click.command()
@click.argument("import_paths", nargs=-1, required=True)
@click.option("-d", "--app-dir", default=".", show_default=True, help="Directory to import from.")
@click.option("-o", "--output-path", default=None, help="File to write; standard output otherwise.")
@click.option("--grpc-servicer-functions", multiple=True, metavar="MODULE:FUNCTION", help="May be repeated.")
@click.option("--as-ray", is_flag=True, help="The code imports ray and ray.serve, and means Eagleray.")
@click.option("--grpc-enable-reflection/--grpc-disable-reflection", "reflection", default=True)
def build(
    import_paths: tuple[str, ...],
    app_dir: str,
    output_path: str | None,
    grpc_servicer_functions: tuple[str, ...],
    as_ray: bool,
    reflection: bool,
) -> None:
    """Write a config file for the applications that IMPORT_PATHS lead to, with the options that their code sets."""
    directory = str(Path(app_dir).resolve())
    applications = []
    for number, path in enumerate(import_paths, 1):
        name = f"app{number}"
        prefix = "/" if len(import_paths) == 1 else f"/{name}"
        applications.append(_describe(path, name, prefix, directory, as_ray))
    config = {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "grpc_options": {
            "port": 9000,
            "grpc_servicer_functions": list(grpc_servicer_functions),
            "enable_reflection": reflection,
        },
        "logging_config": {
            "encoding": "TEXT",
            "log_level": "INFO",
            "logs_dir": None,
            "enable_access_log": True,
            "additional_log_standard_attrs": [],
        },
        "applications": applications,
    }
    text = _HEADER + to_yaml(config)
    if output_path is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output_path).write_text(text)
    except OSError as error:
        raise click.ClickException(f"{output_path} cannot be written: {error}") from None


def _describe(path: str, name: str, prefix: str, directory: str, as_ray: bool) -> dict[str, Any]:
    launch = BuilderLaunch(
        import_path=path, name=name, route_prefix=prefix, sys_path=[directory], reload=True
    )
    names = ray_names.hook() if as_ray else contextlib.nullcontext()
    with names, contextlib.redirect_stdout(sys.stderr):  # what the user's modules print is no YAML
        built = build_application(launch)
    if built.error:
        raise click.ClickException(built.error)
    spec = ApplicationSpec.from_json(built.spec)
    return {
        "name": name,
        "route_prefix": prefix,
        "import_path": path,
        "runtime_env": {"env_vars": {ray_names.VARIABLE: "1"}} if as_ray else {},
        "deployments": [
            {
                key: value
                for key, value in bound.spec.model_dump(mode="json", exclude_unset=True).items()
                if key not in NOT_OVERRIDABLE
            }
            for bound in spec.deployments
        ],
    }
