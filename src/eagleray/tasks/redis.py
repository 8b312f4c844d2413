"""TaskQueue in Redis: every step is one script, so it happens whole or not at all; time is the server's.

    <prefix>:task:<id>        hash: the task itself; expires some time after its end
    <prefix>:waiting:<queue>  sorted set of ids by the time from which they are due
    <prefix>:running:<queue>  sorted set of ids by the time at which their lease ends
    <prefix>:bell:<queue>     list on which idle consumers block: a token for each task that was put

A token that is lost with its consumer delays a task until the next one's wait is over, half a second. Durable as far as
Redis is (its append-only file). One server or a replicated one; not a cluster, whose scripts may touch one slot only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from eagleray.base.clock import wall_time_s
from eagleray.tasks.record import (
    FAILURE,
    PENDING,
    RETRY,
    SUCCESS,
    Claim,
    Counts,
    NewTask,
    TaskNotFoundError,
    TaskQueueError,
    TaskState,
)

_REPLY_S = 10.0
"""Seconds for the server to answer: its scripts take microseconds, a failover some seconds."""

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
"""
"""Microseconds, which a double holds exactly until the year 2255."""

_PUT = (
    _NOW
    + """
local function put(prefix, queue, id, name, payload, created_at, delay)
  local key = prefix .. ':task:' .. id
  if redis.call('EXISTS', key) == 1 then return end
  redis.call('HSET', key, 'queue', queue, 'name', name, 'payload', payload, 'status', 'PENDING',
             'created_at', created_at, 'attempts', 0, 'losses', 0, 'token', '')
  redis.call('ZADD', prefix .. ':waiting:' .. queue, now + delay, id)
  redis.call('RPUSH', prefix .. ':bell:' .. queue, 1)
  redis.call('LTRIM', prefix .. ':bell:' .. queue, -1024, -1)
end
"""
)

_ADD = _PUT + "put(KEYS[1], unpack(ARGV))"

_CLAIM = (
    _NOW
    + """
local prefix, queue, token, lease = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local running, waiting = prefix .. ':running:' .. queue, prefix .. ':waiting:' .. queue
while true do
  local from, lost = running, 1
  local id = redis.call('ZRANGEBYSCORE', running, '-inf', now, 'LIMIT', 0, 1)[1]
  if not id then
    from, lost = waiting, 0
    id = redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'LIMIT', 0, 1)[1]
  end
  if not id then return nil end
  redis.call('ZREM', from, id)
  local key = prefix .. ':task:' .. id
  local known = redis.call('HMGET', key, 'name', 'payload', 'attempts')
  if known[1] then
    local losses = redis.call('HINCRBY', key, 'losses', lost)
    redis.call('HSET', key, 'status', 'STARTED', 'token', token)
    redis.call('ZADD', running, now + lease, id)
    return {id, known[1], known[2], known[3], tostring(losses)}
  end
end
"""
)

_OURS = """
local prefix, id, token = KEYS[1], ARGV[1], ARGV[2]
local key = prefix .. ':task:' .. id
if redis.call('HGET', key, 'token') ~= token then return 0 end
local queue = redis.call('HGET', key, 'queue')
local running, waiting = prefix .. ':running:' .. queue, prefix .. ':waiting:' .. queue
"""

_RENEW = _NOW + _OURS + "redis.call('ZADD', running, now + ARGV[3], id) return 1"

_END = (
    _PUT
    + _OURS
    + """
redis.call('ZREM', running, id)
redis.call('HSET', key, 'status', ARGV[3], 'token', '', 'result', ARGV[4])
redis.call('EXPIRE', key, ARGV[5])
if ARGV[6] ~= '' then
  local known = redis.call('HMGET', key, 'name', 'payload')
  put(prefix, ARGV[6], ARGV[7], known[1], known[2], ARGV[8], 0)
end
return 1
"""
)

_AGAIN = (
    _NOW
    + _OURS
    + """
redis.call('ZREM', running, id)
redis.call('HSET', key, 'status', ARGV[3], 'token', '')
if ARGV[5] ~= '' then
  redis.call('HSET', key, 'result', ARGV[5])
  redis.call('HINCRBY', key, 'attempts', 1)
end
redis.call('ZADD', waiting, now + ARGV[4], id)
redis.call('RPUSH', prefix .. ':bell:' .. queue, 1)
return 1
"""
)

_CANCEL = """
local prefix, id = KEYS[1], ARGV[1]
local key = prefix .. ':task:' .. id
local known = redis.call('HMGET', key, 'status', 'queue')
if not known[1] then return -1 end
if known[1] == 'SUCCESS' or known[1] == 'FAILURE' or known[1] == 'REVOKED' then return 0 end
redis.call('ZREM', prefix .. ':running:' .. known[2], id)
redis.call('ZREM', prefix .. ':waiting:' .. known[2], id)
redis.call('HSET', key, 'status', 'REVOKED', 'token', '')
redis.call('HDEL', key, 'result')
redis.call('EXPIRE', key, ARGV[2])
return 1
"""

_COUNT = (
    _NOW
    + """
local waiting = KEYS[1] .. ':waiting:' .. ARGV[1]
return {redis.call('ZCOUNT', waiting, '-inf', now), redis.call('ZCARD', KEYS[1] .. ':running:' .. ARGV[1]),
        redis.call('ZCOUNT', waiting, '(' .. string.format('%.0f', now), '+inf')}
"""
)


class RedisTaskQueue:
    """Owns its connections. `url` may hold a password: errors do not show it."""

    def __init__(self, url: str, prefix: str, keep_results_s: float) -> None:
        try:
            # No retries by the client: a step that was done before its answer was lost must be seen by its caller.
            self._redis: Any = redis.Redis.from_url(
                url,
                decode_responses=True,
                # What is no UTF-8 makes one task unprocessable; refused, it would end the consumers that read it.
                encoding_errors="backslashreplace",
                socket_timeout=_REPLY_S,
                socket_connect_timeout=_REPLY_S,
                retry=Retry(NoBackoff(), 0),
            )
        except ValueError as error:
            raise TaskQueueError(f"The URL of Redis cannot be read: {error}.") from None
        pool = self._redis.connection_pool.connection_kwargs
        self._place = str(pool.get("path") or f"{pool.get('host', 'localhost')}:{pool.get('port', 6379)}")
        self._prefix = prefix
        self._keep_s = max(1, round(keep_results_s))
        self._is_closed = False
        self._scripts = {
            text: self._redis.register_script(text)
            for text in (_ADD, _CLAIM, _RENEW, _END, _AGAIN, _CANCEL, _COUNT)
        }

    def _run(self, script: str, *args: Any) -> Any:
        return self._call(self._scripts[script], keys=[self._prefix], args=args)

    def _call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        if self._is_closed:
            raise TaskQueueError(f"The connection to Redis at {self._place} has been closed.")
        try:
            return function(*args, **kwargs)
        except redis.RedisError as error:
            raise TaskQueueError(
                f"Redis at {self._place} failed: {type(error).__name__}: {error}."
            ) from error

    def put(self, queue: str, task: NewTask) -> None:
        delay_us = round(task.delay_s * 1e6)
        self._run(_ADD, queue, task.id, task.name, task.payload, repr(task.created_at), delay_us)

    def claim(self, queue: str, lease_s: float) -> Claim | None:
        token = uuid4().hex
        found = self._run(_CLAIM, queue, token, round(lease_s * 1e6))
        if not found:
            return None
        task_id, name, payload, attempts, losses = found
        return Claim(task_id, token, name, payload, int(attempts), int(losses))

    def wait(self, queue: str, timeout_s: float) -> None:
        self._call(self._redis.blpop, [f"{self._prefix}:bell:{queue}"], timeout=timeout_s)

    def renew(self, claims: Sequence[Claim], lease_s: float) -> list[str]:
        lease_us = round(lease_s * 1e6)
        return [claim.token for claim in claims if not self._run(_RENEW, claim.id, claim.token, lease_us)]

    def succeed(self, claim: Claim, result: str) -> bool:
        return bool(self._run(_END, claim.id, claim.token, SUCCESS, result, self._keep_s, "", "", ""))

    def retry(self, claim: Claim, delay_s: float, error: str) -> bool:
        told = json.dumps(error)
        return bool(self._run(_AGAIN, claim.id, claim.token, RETRY, round(delay_s * 1e6), told))

    def fail(self, claim: Claim, error: str, copy_to: str | None) -> bool:
        copy = (copy_to or "", uuid4().hex, repr(wall_time_s()))
        return bool(self._run(_END, claim.id, claim.token, FAILURE, json.dumps(error), self._keep_s, *copy))

    def release(self, claim: Claim) -> bool:
        return bool(self._run(_AGAIN, claim.id, claim.token, RETRY if claim.attempts else PENDING, 0, ""))

    def find(self, task_id: str) -> TaskState | None:
        names = ["status", "created_at", "result"]
        status, created_at, result = self._call(self._redis.hmget, f"{self._prefix}:task:{task_id}", names)
        return None if status is None else TaskState(task_id, status, float(created_at), result)

    def cancel(self, task_id: str) -> bool:
        done = self._run(_CANCEL, task_id, self._keep_s)
        if done == -1:
            raise TaskNotFoundError(f"There is no task '{task_id}' in Redis at {self._place}.")
        return bool(done)

    def counts(self, queue: str) -> Counts:
        return Counts(*self._run(_COUNT, queue))

    def forget_ended(self, older_than_s: float) -> None:
        """Redis expires them by itself."""

    def close(self) -> None:
        self._is_closed = True
        self._redis.close()
