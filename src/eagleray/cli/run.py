"""`eagleray run module:app`: serve an application until Ctrl-C.

Exit codes: 0 stopped after it had served, 1 it could not be served, 2 wrong usage, 130 interrupted before it served.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import click

from eagleray.base.errors import EaglerayError
from eagleray.cli import interrupt
from eagleray.cli.plan import Plan


def _parse_arguments(pairs: tuple[str, ...]) -> dict[str, str]:
    """`key=value` pairs for an application builder; values stay strings, only the first `=` splits."""
    arguments = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise click.UsageError(
                f"Invalid application argument '{pair}', must be of the form '<key>=<val>'."
            )
        arguments[key] = value
    return arguments


def _check_import_path(path: str) -> str:
    module, colon, attribute = path.partition(":")
    if not colon:
        module, _, attribute = path.rpartition(".")
    dotted = all(part.isidentifier() for part in [*module.split("."), *attribute.split(".")])
    if not dotted or path.endswith(".py"):
        raise click.UsageError(
            f"'{path}' is no import path: expected 'module:attribute', for example 'hello:app'.{_hint(path)}"
        )
    return path


def _hint(path: str) -> str:
    """What was meant, when it looks like the name of a file or of a module."""
    file, _, attribute = path.partition(":")
    if not Path(file).name:
        return ""
    where = Path(file).with_suffix("")
    option = f"--app-dir {where.parent} " if where.is_absolute() else ""
    parts = [where.name] if option else [part for part in where.parts if part != "."]
    if not parts or not all(part.isidentifier() for part in parts):
        return ""
    what = (
        "A file is named by its module"
        if file.endswith(".py") or "/" in file
        else "Name the application, too"
    )
    return f" {what}: write '{option}{'.'.join(parts)}:{attribute if attribute.isidentifier() else 'app'}'."


def _check_prefix(prefix: str) -> str | None:
    if prefix.lower() in ("none", ""):
        return None
    if (
        not prefix.startswith("/")
        or (prefix.endswith("/") and prefix != "/")
        or "{" in prefix
        or "}" in prefix
    ):
        raise click.UsageError(
            f"--route-prefix '{prefix}' must start with '/', may not end with '/' (unless it is '/') and may not "
            f"contain '{{' or '}}'."
        )
    return prefix


@click.command()
@click.argument("import_path")
@click.argument("arguments", nargs=-1)
@click.option(
    "-d", "--app-dir", default=".", show_default=True, help="Directory to import the application from."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the HTTP proxy binds.")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0: any free port."
)
@click.option(
    "--grpc-port",
    default=9000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port of the gRPC proxy, which there is with --grpc-servicer-functions only.",
)
@click.option(
    "--grpc-servicer-functions",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="A generated add_XServicer_to_server, importable from --app-dir; may be repeated.",
)
@click.option(
    "--route-prefix", default="/", show_default=True, help="Path under which it is served; 'none': no HTTP."
)
@click.option("--name", default="default", show_default=True, help="Name of the application.")
@click.option(
    "-r", "--reload", is_flag=True, help="Watch --app-dir; a change restarts the deployments it concerns."
)
def run(
    import_path: str,
    arguments: tuple[str, ...],
    app_dir: str,
    host: str,
    port: int,
    grpc_port: int,
    grpc_servicer_functions: tuple[str, ...],
    route_prefix: str,
    name: str,
    reload: bool,
) -> None:
    """Serve IMPORT_PATH ('module:app', an application or a builder with KEY=VALUE arguments) until Ctrl-C."""
    directory = Path(app_dir).resolve()
    if not directory.is_dir():
        raise click.UsageError(f"--app-dir '{app_dir}' is no directory.")
    if not name or "#" in name:
        raise click.UsageError(f"--name '{name}' must not be empty or contain '#'.")
    plan = Plan(
        import_path=_check_import_path(import_path),
        arguments=_parse_arguments(arguments),
        app_dir=str(directory),
        host=host,
        port=port,
        route_prefix=_check_prefix(route_prefix),
        name=name,
        reload=reload,
        grpc_port=grpc_port,
        grpc_servicer_functions=grpc_servicer_functions,
    )
    sys.exit(_serve(plan))


def _grpc_options(plan: Plan) -> dict[str, Any]:
    if not plan.grpc_servicer_functions:
        return {}
    from eagleray.spec.options import gRPCOptions  # pydantic takes longer to import than all else here

    options = gRPCOptions(port=plan.grpc_port, grpc_servicer_functions=list(plan.grpc_servicer_functions))
    return {**options.model_dump(mode="json"), "sys_path": [plan.app_dir]}


def _serve(plan: Plan) -> int:
    """Node starts first: it takes a while, in which this process imports what else it needs."""
    stop_asked = threading.Event()
    interrupt.tell(stop_asked.set)
    from eagleray.engine.spawn import node_config, spawn_node

    try:
        config = node_config(http_host=plan.host, http_port=plan.port, grpc_options=_grpc_options(plan))
        node = spawn_node(config, writes_bytecode=not plan.reload)
    except (EaglerayError, OSError) as error:
        raise click.ClickException(f"Eagleray could not start: {error}") from error
    try:
        from eagleray.cli.driver import Driver

        return Driver(plan, node).run(stop_asked)
    finally:
        interrupt.ignore()
        node.close()
