"""The contract of TaskQueue, on SQLite in a file and in memory, and on a real Redis."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from tests.redis_process import RedisProcess, running_redis
from tests.waiting import wait_until

from eagleray.tasks.queue import TaskQueue
from eagleray.tasks.record import Claim, Counts, NewTask, TaskNotFoundError, TaskQueueError, TaskState
from eagleray.tasks.redis import RedisTaskQueue
from eagleray.tasks.sqlite import MEMORY, SqliteTaskQueue

Open = Callable[[], TaskQueue]
LONG_S = 600.0


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with running_redis() as process:
        yield process


@pytest.fixture(params=["file", "memory", "redis"])
def open_queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens one store, each time as another process would."""
    opened: list[TaskQueue] = []
    prefix = uuid4().hex
    if request.param == "redis":
        url = request.getfixturevalue("server").url

    def opening() -> TaskQueue:
        if request.param == "redis":
            opened.append(RedisTaskQueue(url, prefix, 60))
        elif request.param == "file":
            opened.append(SqliteTaskQueue(str(tmp_path / "tasks.db")))
        elif not opened:
            opened.append(SqliteTaskQueue(MEMORY))
        return opened[-1]

    yield opening
    for queue in opened:
        queue.close()
        if isinstance(queue, SqliteTaskQueue):
            queue._db.close()


@pytest.fixture
def queue(open_queue: Open) -> TaskQueue:
    return open_queue()


def put(queue: TaskQueue, task_id: str, to: str = "q", delay_s: float = 0.0, payload: str = "{}") -> None:
    queue.put(to, NewTask(task_id, "work", payload, 1700000000.25, delay_s))


def claim(queue: TaskQueue, lease_s: float = LONG_S, of: str = "q") -> Claim:
    found = queue.claim(of, lease_s)
    assert found is not None
    return found


def status(queue: TaskQueue, task_id: str) -> str:
    found = queue.find(task_id)
    assert found is not None
    return found.status


def test_tasks_are_claimed_in_the_order_in_which_they_came(queue: TaskQueue) -> None:
    for number in range(20):
        put(queue, f"task-{number}")
    assert [claim(queue).id for _ in range(20)] == [f"task-{number}" for number in range(20)]
    assert queue.claim("q", LONG_S) is None


def test_a_task_is_what_was_put(queue: TaskQueue) -> None:
    put(queue, "a", payload='{"args": ["ü\\u0000"]}')
    assert queue.find("a") == TaskState("a", "PENDING", 1700000000.25, None)
    found = claim(queue)
    assert (found.id, found.name, found.payload) == ("a", "work", '{"args": ["ü\\u0000"]}')
    assert (found.attempts, found.losses) == (0, 0)
    assert status(queue, "a") == "STARTED"


def test_queues_of_one_store_are_apart(queue: TaskQueue) -> None:
    put(queue, "a", to="one")
    assert queue.claim("other", LONG_S) is None
    assert claim(queue, of="one").id == "a"


def test_the_same_id_again_changes_nothing(queue: TaskQueue) -> None:
    put(queue, "a", payload="1")
    put(queue, "a", payload="2")
    assert claim(queue).payload == "1"
    assert queue.claim("q", LONG_S) is None


def test_a_result_is_found_by_others(open_queue: Open) -> None:
    producer, consumer = open_queue(), open_queue()
    put(producer, "a")
    assert consumer.succeed(claim(consumer), '{"x": 1}')
    assert producer.find("a") == TaskState("a", "SUCCESS", 1700000000.25, '{"x": 1}')
    assert producer.counts("q") == Counts(0, 0, 0)


def test_a_lease_that_runs_out_gives_the_task_to_the_next(queue: TaskQueue) -> None:
    put(queue, "a")
    lost = claim(queue, lease_s=0.0)
    found = claim(queue)
    assert (found.id, found.losses, found.attempts) == ("a", 1, 0)
    assert queue.renew([lost, found], LONG_S) == [lost.token], "only the first one is told"
    assert not queue.succeed(lost, "1"), "who was taken for dead changes nothing"
    assert not queue.retry(lost, 0.0, "no") and not queue.fail(lost, "no", "dead") and not queue.release(lost)
    assert queue.counts("dead") == Counts(0, 0, 0)
    assert queue.succeed(found, "2")
    state = queue.find("a")
    assert state is not None and state.result == "2"


def test_a_lease_that_is_renewed_does_not_run_out(queue: TaskQueue) -> None:
    put(queue, "a")
    held = claim(queue, lease_s=0.0)
    assert queue.renew([held], LONG_S) == []
    assert queue.claim("q", LONG_S) is None


def test_a_retry_is_not_due_before_its_time(queue: TaskQueue) -> None:
    put(queue, "a")
    assert queue.retry(claim(queue), LONG_S, "ValueError: no")
    assert queue.claim("q", LONG_S) is None
    assert queue.find("a") == TaskState("a", "RETRY", 1700000000.25, json.dumps("ValueError: no"))
    assert queue.counts("q") == Counts(0, 0, 1)
    put(queue, "b")
    assert queue.retry(claim(queue), 0.0, "no")
    assert (found := claim(queue)).id == "b" and found.attempts == 1


def test_a_task_with_a_delay_is_not_due_before(queue: TaskQueue) -> None:
    put(queue, "later", delay_s=LONG_S)
    put(queue, "now")
    assert claim(queue).id == "now"
    assert queue.claim("q", LONG_S) is None
    assert queue.counts("q") == Counts(0, 1, 1)


def test_a_failed_task_is_copied_to_another_queue(queue: TaskQueue) -> None:
    put(queue, "a", payload='{"args": [1]}')
    assert queue.fail(claim(queue), "KeyError: 'x'", "dead")
    assert queue.find("a") == TaskState("a", "FAILURE", 1700000000.25, json.dumps("KeyError: 'x'"))
    copy = claim(queue, of="dead")
    assert copy.id != "a" and (copy.name, copy.payload, copy.attempts) == ("work", '{"args": [1]}', 0)


def test_a_failed_task_without_another_queue_is_only_remembered(queue: TaskQueue) -> None:
    put(queue, "a")
    assert queue.fail(claim(queue), "no", None)
    assert status(queue, "a") == "FAILURE" and queue.counts("q") == Counts(0, 0, 0)


def test_a_task_that_is_given_back_is_as_before(queue: TaskQueue) -> None:
    put(queue, "a")
    assert queue.release(claim(queue))
    assert status(queue, "a") == "PENDING"
    assert (found := claim(queue)).id == "a" and (found.attempts, found.losses) == (0, 0)


def test_a_cancelled_task_is_never_claimed(queue: TaskQueue) -> None:
    put(queue, "a")
    assert queue.cancel("a")
    assert queue.claim("q", LONG_S) is None
    assert status(queue, "a") == "REVOKED"
    assert not queue.cancel("a"), "it has ended"
    with pytest.raises(TaskNotFoundError, match="no task 'b'"):
        queue.cancel("b")


def test_what_a_cancelled_task_comes_to_is_dropped(queue: TaskQueue) -> None:
    put(queue, "a")
    held = claim(queue)
    assert queue.cancel("a")
    assert queue.renew([held], LONG_S) == [held.token]
    assert not queue.succeed(held, "1")
    assert queue.find("a") == TaskState("a", "REVOKED", 1700000000.25, None)


def test_each_task_goes_to_one_of_many_consumers(open_queue: Open) -> None:
    queues = [open_queue() for _ in range(4)]
    for number in range(60):
        put(queues[0], str(number))

    def consume(queue: TaskQueue) -> list[str]:
        found = []
        while (held := queue.claim("q", LONG_S)) is not None:
            assert queue.succeed(held, "null")
            found.append(held.id)
        return found

    with ThreadPoolExecutor(4) as pool:
        claimed = [task_id for part in pool.map(consume, queues) for task_id in part]
    assert sorted(claimed, key=int) == [str(number) for number in range(60)]


def test_a_waiting_consumer_hears_of_a_new_task(open_queue: Open) -> None:
    producer, consumer = open_queue(), open_queue()

    def wait_claim() -> Claim | None:
        consumer.wait("q", 0.5)
        return consumer.claim("q", LONG_S)

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(wait_until, wait_claim, "a claim")
        put(producer, "a")
        assert found.result().id == "a"


def test_a_closed_queue_says_so(open_queue: Open) -> None:
    queue = open_queue()
    if isinstance(queue, SqliteTaskQueue) and queue._path == MEMORY:
        return  # it is shared by the process and stays open
    queue.close()
    queue.close()
    with pytest.raises(TaskQueueError):
        put(queue, "a")


def test_redis_that_is_not_there_is_named_without_its_password() -> None:
    queue = RedisTaskQueue("redis://:secret@127.0.0.1:1/0", "p", 60)
    with pytest.raises(TaskQueueError, match=r"127\.0\.0\.1:1 failed") as caught:
        put(queue, "a")
    assert "secret" not in str(caught.value)
    queue.close()


def test_leases_of_an_earlier_boot_have_run_out(tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    before = SqliteTaskQueue(path, clock=lambda: 1e9)
    before._boot = "the boot before"
    put(before, "a")
    put(before, "b", delay_s=LONG_S)
    assert claim(before).id == "a"
    before.close()
    after = SqliteTaskQueue(path, clock=lambda: 1.0)
    assert [claim(after).id, claim(after).id] == ["a", "b"]
    after.close()


def test_results_are_forgotten_when_they_are_old(tmp_path: Path) -> None:
    queue = SqliteTaskQueue(str(tmp_path / "tasks.db"))
    put(queue, "done")
    assert queue.succeed(claim(queue), "1")
    put(queue, "open")
    queue.forget_ended(3600.0)
    assert queue.find("done") is not None
    queue.forget_ended(-1.0)
    assert queue.find("done") is None and queue.find("open") is not None
    queue.close()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "tasks.db")
    queue = SqliteTaskQueue(path)
    queue._db.execute("PRAGMA user_version = 7")
    queue.close()
    with pytest.raises(TaskQueueError, match="schema 7"):
        SqliteTaskQueue(path)


def test_text_that_is_no_utf_8_costs_one_task_only(queue: TaskQueue) -> None:
    put(queue, "bad")
    put(queue, "good")
    if isinstance(queue, SqliteTaskQueue):
        queue._db.execute("UPDATE tasks SET payload = CAST(x'ff' AS TEXT) WHERE id = 'bad'")
    else:
        assert isinstance(queue, RedisTaskQueue)
        queue._redis.hset(f"{queue._prefix}:task:bad", "payload", b"\xff")
    assert [(one.id, one.payload) for one in (claim(queue), claim(queue))] == [
        ("bad", "\\xff"),
        ("good", "{}"),
    ]
