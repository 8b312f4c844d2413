"""Asks the users' autoscaling policies, in a process for each application, and hands on what they say.

A policy that raises changes nothing. One that hangs or ends its process is left alone for a while, and its deployment
keeps its count; the other policies of the application go on in the next process.
"""

from __future__ import annotations

import asyncio
import json
import logging
from time import perf_counter
from typing import Any, NoReturn

from eagleray.base.errors import DeployError, EaglerayError
from eagleray.base.ids import new_unique_id
from eagleray.base.tasks import Tasks
from eagleray.controller.autoscaling import Autoscaling
from eagleray.controller.environments import Environments
from eagleray.controller.launch import Launcher
from eagleray.controller.observer import Observer
from eagleray.controller.passing import PassingChildren
from eagleray.controller.replica_stats import ReplicaStats
from eagleray.engine.base import Engine
from eagleray.reconcile.scaling import ScalingRules
from eagleray.reconcile.target import Target
from eagleray.reconcile.world import World
from eagleray.rpc.client import Client
from eagleray.wire.control import Empty
from eagleray.wire.scaling import PolicyAnswer, PolicyQuestion

logger = logging.getLogger("eagleray.controller")

POLICY_TIMEOUT_S = 5.0
"""A policy that has not answered by then hangs."""

_START_TIMEOUT_S = 30.0
_LONGEST_PERIOD_S, _SHORTEST_PERIOD_S = 1.0, 0.1
_BACK_OFF_S = (0.5, 1.0, 2.0, 5.0, 15.0, 30.0)


class _Silent(Exception):
    """A policy has given no answer, and `PolicyRunner` has noted which one."""


def _back_off_s(failures: int) -> float:
    return _BACK_OFF_S[min(failures, len(_BACK_OFF_S) - 1)]


class PolicyRunner:
    """One task for each application that has policies of its own. Reads the world; tells `autoscaling`."""

    def __init__(
        self,
        world: World,
        engine: Engine,
        observer: Observer,
        launcher: Launcher,
        environments: Environments,
        autoscaling: Autoscaling,
    ) -> None:
        self._world = world
        self._engine = engine
        self._observer = observer
        self._launcher = launcher
        self._environments = environments
        self._autoscaling = autoscaling
        self._stats = ReplicaStats(world, observer)
        self._tasks = Tasks("policies")
        self._children = PassingChildren(observer, self._tasks)
        self._running: dict[str, tuple[tuple[int, str], asyncio.Task[None]]] = {}
        """Application -> generation of its spec with the version that serves, and the task."""
        self._states: dict[str, Any] = {}
        self._silent: dict[str, tuple[int, float]] = {}
        """Deployments whose policy gave no answer: how often in a row, and when to ask it again."""

    def refresh(self) -> None:
        """After a pass of the controller: applications with policies may have come or gone."""
        apps = {key.partition("#")[0] for key, rules in self._autoscaling.rules.items() if rules.is_custom}
        wanted = {
            app: (self._world.applications[app].spec_generation, self._target(app).version) for app in apps
        }
        for app, (generation, task) in list(self._running.items()):
            if wanted.get(app) != generation:  # other code: a module that was imported does not change
                task.cancel()
                del self._running[app]
                self._silent = {
                    key: told for key, told in self._silent.items() if not key.startswith(f"{app}#")
                }
        for app, generation in wanted.items():
            if app not in self._running:
                task = self._tasks.start(self._follow(app), name=f"policies of {app}")
                self._running[app] = generation, task
        for key in [key for key in self._states if key not in self._autoscaling.rules]:
            del self._states[key]
        for key in [key for key in self._silent if key not in self._autoscaling.rules]:
            del self._silent[key]

    async def close(self) -> None:
        """Ends the processes. Idempotent."""
        await self._tasks.close()

    async def _follow(self, app: str) -> None:
        """A task's root: asks for as long as the application has policies."""
        failures = 0
        while True:
            ref = f"policy-{new_unique_id()}"
            began = asyncio.get_running_loop().time()
            is_policy = False
            with self._children.one(ref):
                try:
                    await self._ask_until_failure(app, ref)
                except _Silent:
                    is_policy = True
                except (OSError, EaglerayError, TimeoutError) as error:
                    problem = f"its policies do not answer: {error or 'no answer in time'}"
                    logger.error("Autoscaling of application '%s' stands still, %s", app, problem)
                    for key in self._keys(app):
                        self._autoscaling.failed(key, problem)
            if asyncio.get_running_loop().time() - began > _BACK_OFF_S[-1] + POLICY_TIMEOUT_S:
                failures = 0
            await asyncio.sleep(_back_off_s(0 if is_policy else failures))
            failures += not is_policy

    async def _ask_until_failure(self, app: str, ref: str) -> NoReturn:
        target = self._target(app)
        prepared = await self._environments.prepare(target.environment)
        if prepared.error:
            raise DeployError(prepared.error)
        await self._engine.start(self._launcher.policy_child(ref, app, target, prepared))
        client = await self._observer.dial(ref, self._launcher.address(ref))
        await client.request("ready", Empty(), Empty, timeout_s=_START_TIMEOUT_S)
        while True:
            rules = {key: self._autoscaling.rules[key] for key in self._keys(app)}
            await self._ask(client, rules)
            interval = min((one.interval_s for one in rules.values()), default=_LONGEST_PERIOD_S)
            await asyncio.sleep(min(max(interval, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S))

    def _keys(self, app: str) -> list[str]:
        return [
            key
            for key, rules in self._autoscaling.rules.items()
            if rules.is_custom and key.startswith(f"{app}#")
        ]

    def _target(self, app: str) -> Target:
        """Policies run where the code of the first deployment that has one does."""
        for key in [*self._keys(app), *self._world.deployments_of(app)]:
            found = self._world.deployments.get(key)
            if found is not None and found.serving is not None:
                return found.serving
        raise DeployError(f"application '{app}' is going")

    async def _ask(self, client: Client, rules: dict[str, ScalingRules]) -> None:
        """One round: each policy for its deployment, an application's policy for all that it has."""
        await self._stats.collect(rules)
        whole = {key: one for key, one in rules.items() if one.policy_kind == "app"}
        groups = [{key: one} for key, one in rules.items() if key not in whole]
        for group in [*groups, *([whole] if whole else [])]:
            first, some = next(iter(group.items()))
            if self._silent.get(first, (0, 0.0))[1] > asyncio.get_running_loop().time():
                continue
            contexts = {key: self._context(key) for key in group}
            question = PolicyQuestion(
                policy=some.policy,
                kwargs=some.policy_kwargs,
                is_app_level=bool(whole) and group is whole,
                contexts={key: json.dumps(told).encode() for key, told in contexts.items() if told},
            )
            if question.contexts:
                began = perf_counter()
                try:
                    answer = await client.request(
                        "decide", question, PolicyAnswer, timeout_s=POLICY_TIMEOUT_S
                    )
                except (EaglerayError, TimeoutError) as error:
                    self._has_failed(group, error)
                    raise _Silent from error
                for key in group:
                    self._autoscaling.policy_ms[key] = (perf_counter() - began) * 1000.0
                self._silent.pop(first, None)
                self._take(answer, group)

    def _has_failed(self, group: dict[str, ScalingRules], error: Exception) -> None:
        """The process is of no use any more, and it is this policy's doing."""
        first = next(iter(group))
        failures = self._silent.get(first, (0, 0.0))[0]
        self._silent[first] = failures + 1, asyncio.get_running_loop().time() + _back_off_s(failures)
        problem = f"its policy does not answer: {error or 'no answer in time'}"
        logger.error("Autoscaling of %s stands still, %s", ", ".join(group), problem)
        for key in group:
            self._autoscaling.failed(key, problem)

    def _context(self, key: str) -> dict[str, Any] | None:
        told = self._autoscaling.context(key)
        if told is not None:
            told |= self._stats.of(key)
            told["policy_state"] = self._states.get(key, {})
        return told

    def _take(self, answer: PolicyAnswer, group: dict[str, ScalingRules]) -> None:
        if answer.error:
            logger.error("The autoscaling policy of %s has failed:\n%s", ", ".join(group), answer.error)
            for key in group:
                self._autoscaling.failed(key, answer.error)
            return
        for key in group:
            if key in answer.counts:
                self._autoscaling.wanted(key, answer.counts[key])
            if key in answer.states:
                self._states[key] = json.loads(answer.states[key])
