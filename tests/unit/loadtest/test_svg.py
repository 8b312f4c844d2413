"""The picture of a report: well-formed, and with everything that was measured in it."""

from __future__ import annotations

from xml.etree import ElementTree

from eagleray.loadtest.plan import Message, Plan, Url
from eagleray.loadtest.report import summary
from eagleray.loadtest.svg import draw
from eagleray.loadtest.tally import Tally

SVG = "{http://www.w3.org/2000/svg}"


def drawn(tally: Tally) -> ElementTree.Element:
    url = Url.parse("http://h/?a=1&b=<x>")
    return ElementTree.fromstring(draw(summary(url, Message(), Plan(), tally)))


def test_it_has_a_line_for_percentiles_rates_tails_and_failures() -> None:
    tally = Tally()
    for second in range(10):
        for number in range(1000):
            tally.answered(200, 0.001 * (1 + number % 10))
        tally.failed("closed", second)
        tally.tick(second + 1.0, is_sending=True)
    root = drawn(tally)
    kinds = [line.get("class") for line in root.iter(f"{SVG}polyline")]
    assert sorted(kinds) == ["failed", "late", "late", "rate"]  # type: ignore[type-var]
    for line in root.iter(f"{SVG}polyline"):
        for place in str(line.get("points")).split():
            x, y = map(float, place.split(","))
            assert 70 <= x <= 690 and 40 <= y <= 210
    words = "".join(root.itertext())
    assert "p99.9" in words and "10 ms" in words and "1,000.0 good answers/s" in words


def test_nothing_was_answered() -> None:
    tally = Tally()
    tally.failed("refused", 3)
    tally.tick(1.0, is_sending=True)
    assert "no good answer" in "".join(drawn(tally).itertext())
    assert drawn(Tally()).tag == f"{SVG}svg"
