"""The interface of a queue of tasks; SQLite and Redis implement it, and one contract suite runs on each.

A task is claimed with a lease, which its consumer renews while it works; a lease that runs out gives the task to the
next consumer. What a consumer says of a task counts only while its token is the task's, so one that was taken for dead
cannot undo what another has done. All methods block and may be called from any thread; all raise TaskQueueError when
the store cannot be reached.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from eagleray.tasks.record import Claim, Counts, NewTask, TaskState


class TaskQueue(Protocol):
    """A store of any number of named queues."""

    def put(self, queue: str, task: NewTask) -> None:
        """Adds a task; when this returns it is as durable as the store is. The same id again changes nothing."""

    def claim(self, queue: str, lease_s: float) -> Claim | None:
        """Lends the oldest task that is due, or whose lease ran out; None when there is none."""

    def wait(self, queue: str, timeout_s: float) -> None:
        """Returns when there may be something to claim, at the latest after `timeout_s`."""

    def renew(self, claims: Sequence[Claim], lease_s: float) -> list[str]:
        """Extends leases. Returns the tokens of those that are lost: cancelled, or claimed again."""

    def succeed(self, claim: Claim, result: str) -> bool:
        """The task has ended well with this result, JSON text. False: the claim was lost, nothing has changed."""

    def retry(self, claim: Claim, delay_s: float, error: str) -> bool:
        """The attempt has failed, another is due after `delay_s`. False as above."""

    def fail(self, claim: Claim, error: str, copy_to: str | None) -> bool:
        """The task has failed for good; at the same moment a copy goes to the queue `copy_to`. False as above."""

    def release(self, claim: Claim) -> bool:
        """Gives the task back as if it had not been claimed. False as above."""

    def find(self, task_id: str) -> TaskState | None:
        """The task, or None if it is not known."""

    def cancel(self, task_id: str) -> bool:
        """Revokes a task: it is not begun, and what it may yet return is dropped. False: it had ended.

        Raises TaskNotFoundError for one that is not known.
        """

    def counts(self, queue: str) -> Counts:
        """What is in the queue."""

    def forget_ended(self, older_than_s: float) -> None:
        """Drops tasks that have ended so long ago, where the store does not do so by itself."""

    def close(self) -> None:
        """Idempotent; every other method raises TaskQueueError afterwards."""
