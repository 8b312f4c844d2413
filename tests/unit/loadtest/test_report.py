"""What a report says of counts, and what it warns of."""

from __future__ import annotations

import json

from eagleray.loadtest.histogram import Histogram
from eagleray.loadtest.ledger import Line
from eagleray.loadtest.plan import Message, Plan, Url
from eagleray.loadtest.report import notes, summary, text
from eagleray.loadtest.tally import MOST_POINTS, Tally

URL = Url.parse("http://localhost:8000/x")


def counted() -> Tally:
    tally = Tally()
    for number in range(2000):
        tally.answered(200, 0.001 + number / 1e6)
    tally.answered(503, 0.5)
    tally.failed("timeout", 2)
    tally.tick(1.0, is_sending=True)
    tally.sent = 2003
    return tally


def test_a_report_says_what_was_counted() -> None:
    found = summary(URL, Message(), Plan(), counted())
    assert found["rps"] == 2000.0 and found["answers"] == {"200": 2000, "503": 1}
    assert found["errors"] == {"timeout": 2} and found["loop"] == "closed" and found["send_lag_ms"] is None
    assert abs(found["latency_ms"]["p50"] - 2.0) < 0.02 and found["latency_ms"]["max"] == 2.999
    assert found["refused_latency_ms"]["p50"] == 500.0
    assert found["points"] == [
        {
            "t_s": 1.0,
            "rps": 2000.0,
            "failed_per_s": 3.0,
            "p50_ms": found["latency_ms"]["p50"],
            "p99_ms": found["latency_ms"]["p99"],
        }
    ]
    assert sum(count for _, _, count in found["histogram_ms"]) == 2000
    assert json.loads(json.dumps(found)) == found


def test_its_text_says_the_same() -> None:
    shown = text(summary(URL, Message(), Plan(rate=100.0), counted()))
    for words in (
        "GET http://localhost:8000/x",
        "open loop, 100 requests/s",
        "200: 2,000  503: 1",
        "timeout: 2",
    ):
        assert words in shown
    assert "!" not in shown


def test_a_report_without_answers_is_one_too() -> None:
    tally = Tally()
    tally.failed("refused", 3)
    tally.tick(1.0, is_sending=True)
    found = summary(URL, Message(), Plan(), tally)
    assert found["latency_ms"] is None and found["histogram_ms"] == []
    assert "answers    none" in text(found) and "refused: 3" in text(found)


def test_it_warns_of_a_late_client_and_of_too_few_connections() -> None:
    tally = counted()
    assert list(notes(Plan(rate=1.0), tally)) == []
    tally.lag = Histogram([0.0001] * 98 + [0.05] * 2)
    tally.waited = 7
    late, busy = notes(Plan(rate=1.0, connections=5), tally)
    assert "too slow to send on schedule" in late and "7 requests found all 5 connections busy" in busy


def test_points_are_bounded_and_lose_no_answer() -> None:
    tally = Tally()
    for second in range(5 * MOST_POINTS):
        tally.answered(200, 0.9 if second == 77 else 0.001)
        tally.tick(float(second + 1), is_sending=True)
    assert len(tally.points) < MOST_POINTS
    assert sum(point.answered for point in tally.points) == 5 * MOST_POINTS
    assert sum(point.seconds for point in tally.points) == 5 * MOST_POINTS
    assert max(point.p99_s for point in tally.points) == 0.9


def test_a_line_of_the_ledger() -> None:
    answered = Line(3, 10.5, 10.5001, 10.75, 200, "", b"", b"")
    assert json.loads(answered.to_json(10.0)) == {
        "n": 3,
        "intended_s": 0.5,
        "sent_s": 0.5001,
        "ended_s": 0.75,
        "latency_ms": 250.0,
        "status": 200,
    }
    never_sent = json.loads(Line(4, 10.5, 0.0, 11.5, 0, "timeout", b"", b"").to_json(10.0))
    assert never_sent["sent_s"] is None and never_sent["error"] == "timeout"
