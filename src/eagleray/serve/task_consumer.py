"""`@task_consumer`: a deployment whose replicas take their work from a queue; `@task_handler` marks what does it.

The class stays what it was, with a note of its queue on it; the replica reads the note when it is up. So such a class
is constructed, served by HTTP and handle, and imported as any other.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from eagleray.base.errors import ConfigError
from eagleray.spec.tasks import TaskProcessorConfig
from eagleray.tasks.adapter import TaskProcessorAdapter

__all__ = ["instantiate_adapter_from_config", "task_consumer", "task_handler"]

_NOTE, _NAME = "_eagleray_task_processor_config", "_eagleray_task_name"

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


def task_consumer(*, task_processor_config: TaskProcessorConfig) -> Callable[[C], C]:
    """Replicas of the decorated class work off the queue of the config. Stands below `@serve.deployment`.

    TypeError for what is no class; ValueError for a class without `@task_handler`, or with two of one name.
    """
    if not isinstance(task_processor_config, TaskProcessorConfig):
        raise TypeError(
            f"task_processor_config must be a TaskProcessorConfig, got {type(task_processor_config).__name__}."
        )

    def mark(target: C) -> C:
        if not inspect.isclass(target):
            raise TypeError(f"@task_consumer must be applied to a class, got {type(target).__name__}.")
        names = [name for name, _ in _handlers(target)]
        if not names:
            raise ValueError(f"{target.__name__} has no method with @task_handler, so it could run no task.")
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(
                f"{target.__name__} has two handlers for task '{twice[0]}': name one of them otherwise."
            )
        setattr(target, _NOTE, task_processor_config)
        return target

    return mark


@overload
def task_handler(_func: F, /) -> F: ...
@overload
def task_handler(_func: None = None, /, *, name: str | None = None) -> Callable[[F], F]: ...
def task_handler(_func: F | None = None, /, *, name: str | None = None) -> F | Callable[[F], F]:
    """Tasks of this name, by default the method's, are run by it: `def` in a thread, `async def` on the loop.

    ValueError for a blank name.
    """
    if name is not None and (not isinstance(name, str) or not name.strip()):
        raise ValueError(f"Task name must be a string that is not blank, got {name!r}.")

    def mark(method: F) -> F:
        if not inspect.isfunction(method):
            raise TypeError(f"@task_handler must be applied to a method, got {type(method).__name__}.")
        setattr(method, _NAME, name or method.__name__)
        return method

    return mark if _func is None else mark(_func)


def instantiate_adapter_from_config(task_processor_config: TaskProcessorConfig) -> TaskProcessorAdapter:
    """The adapter that the config names, ready to enqueue: for whoever sends tasks.

    ConfigError for an import path that leads nowhere; TypeError when it leads to no TaskProcessorAdapter.
    """
    adapter = task_processor_config.adapter
    made = (_import(adapter) if isinstance(adapter, str) else adapter)(task_processor_config)
    if not isinstance(made, TaskProcessorAdapter):
        raise TypeError(
            f"{adapter!r} makes a {type(made).__name__}, which is no eagleray.serve.schema.TaskProcessorAdapter."
        )
    return made


def config_of(target: Any) -> TaskProcessorConfig | None:
    """The queue of a decorated class or of a subclass; None for any other target."""
    found: TaskProcessorConfig | None = getattr(target, _NOTE, None) if inspect.isclass(target) else None
    return found


def handlers_of(instance: Any) -> dict[str, Callable[..., Any]]:
    """Task name -> the bound method that runs it."""
    return {name: getattr(instance, method) for name, method in _handlers(type(instance))}


def _handlers(target: type) -> Iterator[tuple[str, str]]:
    """(task name, method name)."""
    for method, function in inspect.getmembers(target, inspect.isfunction):
        name = getattr(function, _NAME, None)
        if name is not None:
            yield name, method


def _import(path: str) -> Any:
    module, _, name = path.replace(":", ".").rpartition(".")
    if module == "ray.serve" or module.startswith("ray.serve."):  # also where nothing means Eagleray by `ray`
        module = f"eagleray.{module.removeprefix('ray.')}"
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"The task adapter '{path}' was not found: {error}. Give a class, or a path such as "
            f"'eagleray.serve.task_processor.SQLiteTaskProcessorAdapter'."
        ) from error
