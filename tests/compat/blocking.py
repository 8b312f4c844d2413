"""A user's script: `python -m tests.compat.blocking PORT` serves what it defines itself until Ctrl-C."""

import sys

from tests.compat.impl import prepare, serve


@serve.deployment
class Hello:
    def __call__(self) -> str:
        return f"hello from {type(self).__module__}"


if __name__ == "__main__":
    prepare()
    serve.start(http_options={"port": int(sys.argv[1])})
    try:
        serve.run(Hello.bind(), blocking=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        serve.shutdown()
