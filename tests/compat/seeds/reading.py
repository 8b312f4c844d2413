"""The excerpts of Python code in an article: Markdown, or plain text whose fences are lost.

A fenced block is taken when it says that it is Python, or says nothing and looks like it. In a text without fences an
excerpt is the longest run of lines that look like code; it begins with a line that prose cannot be. Code is never
changed: an excerpt whose indentation is lost is one that does not parse.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^\s*(```|~~~)\s*([\w+-]*)\s*$")
_MARKDOWN_HEADING = re.compile(r"^(#{1,6})\s+\S")
_NUMBERED = re.compile(r"^\d+\.\d+")
_PYTHON = {"python", "py", "python3"}
_CLAUSE = re.compile(
    r"^(async\s+def|def|class|if|elif|else|for|async\s+for|while|with|async\s+with|try|except|finally)\b.*:(\s.*)?$"
)
_BEGINS = re.compile(
    r"^(@[A-Za-z_][\w.]*(\(.*)?$|(async\s+)?def\s+\w+\s*\(|class\s+\w+\s*[:(]"
    r"|import\s+[\w., ]+$|from\s+[\w.]+\s+import\s|\w+\s*=\s*[\w.]+\(|(serve|ray)\.\w+\()"
)
_CHAPTER = 2
"""Headings to this level begin a chapter, in which a later excerpt may go on with an earlier one."""


@dataclass(frozen=True)
class Excerpt:
    """`first` is the line of the document where it begins, from 1; `chapter` tells chapters of a document apart."""

    document: str
    first: int
    text: str
    chapter: int


def read(path: Path) -> str:
    """The document's text. UTF-8 that somebody took for a Windows code page is put right as far as it can be."""
    text = path.read_bytes().decode("utf-8", "replace")
    raw = bytearray()
    for char in text:
        for page in ("cp1252", "cp1254", "latin-1"):
            if encoded := char.encode(page, "ignore"):
                raw += encoded
                break
        else:
            return text  # no code page has this
    mended = raw.decode("utf-8", "replace")
    foreign = sum(ord(char) > 127 for char in text)
    return mended if foreign and mended.count("\ufffd") < foreign / 10 else text


def excerpts(path: Path) -> list[Excerpt]:
    """All of a document, in order."""
    lines = read(path).splitlines()
    fenced = any(_FENCE.match(line) for line in lines)
    chapters = _chapters(lines, fenced)
    found = _fenced(lines) if fenced else _unfenced(lines)
    return [
        Excerpt(path.name, begin + 1, "\n".join(lines[begin:end]) + "\n", chapters[begin])
        for begin, end in found
    ]


def _chapters(lines: list[str], fenced: bool) -> list[int]:
    chapter, inside, chapters = 0, False, []
    for number, line in enumerate(lines):
        inside ^= fenced and bool(_FENCE.match(line))
        after = lines[number + 1].strip() if number + 1 < len(lines) else ""
        if fenced:
            heading = None if inside else _MARKDOWN_HEADING.match(line)
            begins = heading is not None and len(heading[1]) <= _CHAPTER
        else:  # the sign of a link to a heading is all that is left of it
            words = line.strip().rstrip("#").strip()
            linked = bool(words) and (line.rstrip().endswith("#") or after == "#")
            begins = linked and not _NUMBERED.match(words)
        chapter += begins
        chapters.append(chapter)
    return chapters


def _fenced(lines: list[str]) -> list[tuple[int, int]]:
    found, opened = [], None
    for number, line in enumerate(lines):
        if fence := _FENCE.match(line):
            if opened is None:
                opened = (number + 1, fence[2].lower())
                continue
            begin, language = opened
            code = [one.strip() for one in lines[begin:number]]
            if language in _PYTHON or (not language and any(_BEGINS.match(one) for one in code)):
                found.append((begin, number))
            opened = None
    return found


def _unfenced(lines: list[str]) -> list[tuple[int, int]]:
    found, number = [], 0
    while number < len(lines):
        end = _end_of_run(lines, number)
        if end > number and any(_BEGINS.match(line) for line in lines[number:end]):
            found.append((number, end))
        number = max(end, number + 1)
    return found


def _end_of_run(lines: list[str], begin: int) -> int:
    """Where the code that begins at a line ends; the line itself if it is none."""
    number = end = begin
    while number < len(lines):
        line = lines[number].strip()
        if not line or line.startswith("# "):
            number += 1  # counts if code comes after it
            if end == begin:
                return begin
            continue
        length = _statement(lines, number)
        if length == 0 or (end == begin and lines[number][:1].isspace()):
            break
        number = end = number + length
    return end


def _statement(lines: list[str], number: int) -> int:
    """How many lines the statement, or the head of a compound one, has that begins at this line; 0: it is prose."""
    line = lines[number].strip()
    if line in {"...", "pass", "return", "break", "continue"} or _CLAUSE.match(line):
        return 1
    if re.match(r"^@\w[\w.]*$", line):
        return 1
    for length in range(1, min(80, len(lines) - number) + 1):
        text = "\n".join(part.strip() for part in lines[number : number + length])
        text += "\nclass C: ..." if text.startswith("@") else ""
        text += "\n  ..." if re.match(r"^(async\s+)?(def|class)\b", text) else ""
        try:
            return length if _is_code(ast.parse(text.replace("await ", "")).body) else 0
        except SyntaxError:
            if "(" not in line and "[" not in line and "{" not in line:
                return 0
    return 0


def _is_code(body: list[ast.stmt]) -> bool:
    """Not a word or two of prose that happen to parse."""
    return bool(body) and not any(
        isinstance(one, ast.Expr) and not isinstance(one.value, ast.Call | ast.Yield | ast.YieldFrom)
        for one in body
    )
