"""The main job from end to end: train, serve, send the whole held-out test set over HTTP, stop.

Prints accuracy, requests per second and latencies; exits with 0 only if everything was answered well enough.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import quantiles

import psutil

sys.path.insert(0, str(Path(__file__).parent))

from train import split, train

from eagleray import serve

CONNECTIONS = 8
ENOUGH = 0.95


def ask(port: int, images: list[list[float]]) -> list[tuple[int, float]]:
    """Sends the images one after another over one connection; (digit, seconds) for each."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    answers = []
    for pixels in images:
        body = json.dumps({"pixels": pixels})
        sent = time.perf_counter()
        connection.request("POST", "/classify", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        text = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"HTTP {reply.status}: {text.decode(errors='replace')}")
        answers.append((json.loads(text)["digit"], time.perf_counter() - sent))
    connection.close()
    return answers


def main() -> int:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    print(f"1. train      accuracy on the training part {train():.4f}")
    _, images, _, labels = split()

    began = time.perf_counter()
    serve.start(http_options={"port": port})
    from app import app

    serve.run(app, name="digits")
    print(f"2. serve      http://127.0.0.1:{port}/classify after {time.perf_counter() - began:.2f} s")

    parts = [images[i::CONNECTIONS].tolist() for i in range(CONNECTIONS)]
    began = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        answered = list(pool.map(lambda part: ask(port, part), parts))
    took = time.perf_counter() - began

    right = sum(
        digit == label
        for i, part in enumerate(answered)
        for (digit, _), label in zip(part, labels[i::CONNECTIONS], strict=True)
    )
    times = sorted(seconds * 1000 for part in answered for _, seconds in part)
    accuracy = right / len(times)
    percentiles = quantiles(times, n=100)
    print(f"3. test set   {len(times)} images over HTTP, {CONNECTIONS} connections, accuracy {accuracy:.4f}")
    print(
        f"              {len(times) / took:.0f} requests/s, p50 {percentiles[49]:.2f} ms, p99 {percentiles[98]:.2f} ms"
    )

    serve.shutdown()
    left = psutil.Process().children(recursive=True)
    print(f"4. shut down  {len(left)} processes left")
    return 0 if accuracy > ENOUGH and not left else 1


if __name__ == "__main__":
    sys.exit(main())
