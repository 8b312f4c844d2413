"""Cuts the programs out of the documents of a folder and runs those that are complete, unchanged, under `as_ray`.

python tests/compat/seed_documents.py FOLDER

The documents are articles with code in them (`*.txt`, `*.md`). Prints a line for each program: what it is called, its
lines in the document, and what came of it. Exits with 0 only if each complete program ran as intended, or failed with
the one error that names Ray and the Ray engine. What is incomplete is told with its reason and not run.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [root] if (root := str(Path(__file__).parents[2])) not in sys.path else []

from tests.compat.seeds.programs import Program, programs  # noqa: E402
from tests.compat.seeds.running import run  # noqa: E402


def main(arguments: list[str]) -> int:
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("Usage: seed_documents.py FOLDER (a folder with articles, *.txt or *.md)", file=sys.stderr)
        return 2
    folder = Path(arguments[0])
    documents = sorted([*folder.glob("*.txt"), *folder.glob("*.md")])
    counts = dict.fromkeys(["as intended", "failed", "not run here", "incomplete"], 0)
    print(f"{'document':<9} {'program':<40}  {'lines':<22}  verdict")
    for document in documents:
        found = programs(document)
        short = document.stem.partition("_")[0][:9]
        if not found:
            print(f"{short:<9} {'-':<40}  {'-':<22}  there is no code in it", flush=True)
        for one in found:
            kind, verdict = judge(one)
            counts[kind] += 1
            print(f"{short:<9} {_cut(one.name, 40):<40}  {_cut(one.lines, 22):<22}  {verdict}", flush=True)
    print(f"programs: {', '.join(f'{number} {word}' for word, number in counts.items())}")
    return 0 if documents and not counts["failed"] else 1


def judge(one: Program) -> tuple[str, str]:
    """The kind of its verdict, and the verdict."""
    if one.incomplete:
        return "incomplete", f"incomplete: {one.incomplete}"
    if one.lacks:
        return "not run here", f"not run here: {one.lacks}"
    outcome = run(one)
    return "as intended" if outcome.is_right else "failed", outcome.said


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
