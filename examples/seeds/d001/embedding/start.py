"""Starts the service from a script, as the document does, with the options' names of its time.

cd examples/seeds && EAGLERAY_NUM_GPUS=1 python -m d001.embedding.start [production]
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from d001.embedding.app import Arguments, app
from eagleray import serve
from eagleray.serve.config import HTTPOptions


def main(environment: str) -> None:
    """Serves until Ctrl-C."""
    serve.start(
        http_options=HTTPOptions(
            host=os.environ.get("HOST", "0.0.0.0"),
            port=int(os.environ.get("PORT", "4008")),
            root_path="/api/v1",
            max_concurrent_queries=100,
            request_timeout_s=300,
        )
    )
    arguments = Arguments.model_validate({"environment": environment})
    with suppress(KeyboardInterrupt):
        serve.run(app(arguments), name="retrieval", blocking=True)
    serve.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:] or ["development"])
