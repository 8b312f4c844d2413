"""Executed by `python -m eagleray.as_ray stay.py [STATEMENTS]`: the program `program.py` of this folder, then requests.

Without statements the program is a script: it becomes `__main__` here, unchanged. With them it is imported, and they
deploy what it defines. As long as something is served, each line of the input is a call by a handle.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import ray
from ray import serve
from tests.compat.seeds.surroundings import HOST, HOSTS

sys.path.insert(0, str(Path.cwd()))
source = Path("program.py").read_text()
for host, (path, prefix) in HOSTS.items():
    if f"//{host}:" in source:
        module, _, name = path.partition(":")
        serve.run(getattr(import_module(module), name), name=f"{HOST}{host}", route_prefix=prefix)
if sys.argv[1]:
    import program

    exec(sys.argv[1], {"program": program, "serve": serve})
else:
    exec(compile(source, "program.py", "exec", dont_inherit=True), globals())

applications = [name for name in serve.status().applications if not name.startswith(HOST)]
print("seed program", "serves" if applications else "ended", flush=True)
for line in sys.stdin if applications else []:
    question = json.loads(line)
    try:
        handle = serve.get_app_handle(question["app"])
        handle.remote(question["body"]).result(timeout_s=60)
        print("seed handle answered", flush=True)
    except Exception as error:
        print(f"seed handle {type(error).__name__}: {str(error).strip().splitlines()[-1]}"[:200], flush=True)
serve.shutdown()
ray.shutdown()
