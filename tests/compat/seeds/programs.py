"""The programs in a document's excerpts, and whether each is complete.

A program is what an excerpt runs itself, an application that it binds, a function that deploys, or else each single
deployment class. Where an excerpt refers to names that it does not bind, it goes on with an earlier one of its chapter
that does; imports carry over through the whole document, as readers take them to. A program is complete when it parses,
all its names are known, its deployments have bodies and attributes, and what it imports is there.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

from tests.compat.seeds.asking import Ask, asks
from tests.compat.seeds.names import (
    Definition,
    bound_names,
    calls,
    imported_modules,
    is_deployment,
    lacking,
    line_of_name,
    methods,
    needs_gpu,
    references,
)
from tests.compat.seeds.reading import Excerpt, excerpts
from tests.compat.seeds.statements import (
    called,
    deployment_name,
    does_something,
    first_line,
    ingresses,
    is_bind,
    is_main_guard,
    ranges,
    text_of,
)
from tests.compat.seeds.surroundings import has_gpu, is_there, stands_for, stood_in


@dataclass
class Program:
    """`source` is the text of the document that it consists of; it is run as a script, or as a module with `start`.

    `start` are statements to be executed after `import program`; "" means that it is a script. `target` is what
    `eagleray run` takes, where the article has an application for it. `incomplete` says why it is not run, `lacks` what
    a complete one needs that this machine does not have, `stood_in`
    what is not the article's own around it.
    """

    document: str
    name: str
    lines: str
    source: str = ""
    start: str = ""
    target: str = ""
    is_bound_by_us: bool = False
    incomplete: str = ""
    lacks: str = ""
    stood_in: list[str] = field(default_factory=list)
    asks: list[Ask] = field(default_factory=list)


@dataclass
class _Parsed:
    """An excerpt, parsed; line numbers of its tree are those of the document."""

    excerpt: Excerpt
    body: list[ast.stmt]

    def binds(self, name: str) -> bool:
        return any(name in bound_names(one) for one in self.body)


def programs(path: Path) -> list[Program]:
    """All of a document, in order."""
    parsed: list[_Parsed] = []
    found: list[Program] = []
    for excerpt in excerpts(path):
        try:
            body = ast.parse(excerpt.text).body
        except SyntaxError as error:
            found.append(_unparsable(excerpt, error))
            continue
        for one in body:
            ast.increment_lineno(one, excerpt.first - 1)
        one = _Parsed(excerpt, body)
        part = _Module(one, parsed)
        units = part.programs()
        absorbed = {name for unit in units for name in unit.name.split(", ")}
        found = [
            old
            for old in found
            if not (
                old.is_bound_by_us
                and old.name in absorbed
                and any(old.source in unit.source for unit in units)
            )
        ]
        found += units
        parsed.append(one)
    return found


def _unparsable(excerpt: Excerpt, error: SyntaxError) -> Program:
    names = re.findall(r"^\s*(?:class|def|async def) (\w+)", excerpt.text, re.MULTILINE)
    top = [name for name in names if name[0].isupper()] or names[:1]
    why = f"{type(error).__name__} at line {error.lineno} of the excerpt: {error.msg}"
    if isinstance(error, IndentationError) and not re.search(r"^\s+\S", excerpt.text, re.MULTILINE):
        why = f"{why} (the document has lost its indentation)"
    if not top and excerpt.text.lstrip().startswith("@"):
        why = "a fragment: a decorator that decorates nothing"
    end = excerpt.first + excerpt.text.count("\n") - 1
    return Program(excerpt.document, ", ".join(top) or "-", f"{excerpt.first}-{end}", incomplete=why)


class _Module:
    """One excerpt with what it goes on with."""

    def __init__(self, own: _Parsed, earlier: list[_Parsed]) -> None:
        self.own = own
        self.parts = [own]
        self.imports: list[tuple[Excerpt, ast.stmt]] = []
        self._earlier = earlier
        self._used: set[int] = set()
        self._look_up({name for one in own.body for name in references(one, deep=True)})

    def _look_up(self, wanted: set[str]) -> None:
        """Takes in what earlier excerpts know of these names."""
        for name in sorted(wanted - self.bound):
            chapter = self.own.excerpt.chapter
            for part in reversed(self._earlier):
                binding = next((one for one in part.body if name in bound_names(one)), None)
                if binding is None or name in self.bound:
                    continue
                if isinstance(binding, ast.Import | ast.ImportFrom):
                    self.imports.append((part.excerpt, binding))
                elif part.excerpt.chapter == chapter:
                    self.parts.insert(0, part)
                    self._look_up({needed for one in part.body for needed in references(one, deep=True)})

    @property
    def body(self) -> list[ast.stmt]:
        return [*(one for _, one in self.imports), *(one for part in self.parts for one in part.body)]

    @property
    def bound(self) -> set[str]:
        return {name for one in self.body for name in bound_names(one)}

    @property
    def source(self) -> str:
        lines = [text_of(excerpt, one) for excerpt, one in self.imports]
        return "\n".join([*lines, *(part.excerpt.text for part in self.parts)])

    def programs(self) -> list[Program]:
        own = self.own.body
        executed = [one for one in own if does_something(one)]
        apps = [one for one in own if isinstance(one, ast.Assign) and is_bind(one.value)]
        found: list[Program] = []
        if executed:
            found.append(self._program(executed, is_script=True))
        elif apps:
            found.append(self._application(apps[-1]))
        told = {
            name
            for unit in found
            for name in unit.name.split(", ")
            if not unit.incomplete or not self._is_guarded
        }
        for one in own:
            if isinstance(one, ast.ClassDef) and not is_deployment(one):
                found += [self._program([one], start=f"program.{one.name}.{m.name}()", name=one.name)
                          for m in methods(one) if calls(m, "serve.run") and not m.args.args]  # fmt: skip
            elif isinstance(one, Definition) and is_deployment(one) and one.name not in told:
                found.append(self._single(one))
            elif (
                isinstance(one, Definition) and calls(one, "serve.run") and not one.args.args and not executed
            ):
                found.append(self._program([one], start=f"program.{one.name}()", name=one.name))
        return [*found, *self._leftovers()] if found else [self._fragment()]

    @property
    def _is_guarded(self) -> bool:
        """Whether it is a script only when it is not imported."""
        return not any(does_something(one) and not is_main_guard(one) for one in self.own.body)

    def _leftovers(self) -> list[Program]:
        """Definitions that no program of the excerpt uses."""
        left = [one for one in self.own.body if isinstance(one, Definition) and id(one) not in self._used]
        fragments = [self._program([one], name=one.name) for one in left]
        for fragment in fragments:
            fragment.incomplete = fragment.incomplete or "a fragment: nothing runs it"
        return fragments

    def _fragment(self) -> Program:
        names = [one.name for one in self.own.body if isinstance(one, Definition)]
        names = names or [name for one in self.own.body for name in bound_names(one)]
        program = self._program(self.own.body, name=", ".join(names[:4]) or "-")
        program.incomplete = program.incomplete or "a fragment: nothing in it serves or runs"
        return program

    def _application(self, binding: ast.Assign) -> Program:
        target = ast.unparse(binding.targets[0])
        program = self._program([binding], start=f"serve.run(program.{target})", name="")
        program.target = f"program:{target}"
        return program

    def _single(self, one: Definition) -> Program:
        """A deployment that is not bound where it is defined: as the article binds it elsewhere, or as we can."""
        others = self._by_name(one)
        start = [_run(self._binding(other), other, app) for other, app in others]
        binding = self._binding(one)
        if binding is None:
            program = self._program([one], name=one.name)
            program.incomplete = (
                program.incomplete or f"nothing binds {one.name}, and its arguments are unknown"
            )
            return program
        start.append(_run(binding, one, "asked"))
        program = self._program([one, *(other for other, _ in others)], start="\n".join(start), name=one.name)
        program.is_bound_by_us = not self._bound_in_the_text(one.name)
        program.asks = asks(one, [other for other, _ in others], "asked")
        return program

    def _by_name(self, one: Definition) -> list[tuple[Definition, str]]:
        """Deployments that it looks up by the names of their applications."""
        wanted = [
            getattr(call.args[0], "value", "") for call in calls(one, "serve.get_deployment") if call.args
        ]
        named = {deployment_name(other): other for other in self.body if is_deployment(other)}
        return [(named[name], name) for name in wanted if name in named]

    def _bound_in_the_text(self, name: str) -> str | None:
        for one in self.body:
            for call in ast.walk(one):
                constant = isinstance(call, ast.Call) and all(isinstance(a, ast.Constant) for a in call.args)
                if constant and ast.unparse(call.func) == f"{name}.bind" and not call.keywords:
                    return ast.unparse(call)
        return None

    def _binding(self, one: Definition) -> str | None:
        """An expression that binds the deployment, or None where an argument is unknown."""
        if text := self._bound_in_the_text(one.name):
            return f"program.{text}"
        init = (
            next((m for m in methods(one) if m.name == "__init__"), None)
            if isinstance(one, ast.ClassDef)
            else None
        )
        required = init.args.args[1 : len(init.args.args) - len(init.args.defaults)] if init else []
        values = [self._argument(parameter.arg) for parameter in required]
        if None in values:
            return None
        return f"program.{one.name}.bind({', '.join(map(str, values))})"

    def _argument(self, name: str) -> str | None:
        if (value := stands_for(name)) is not None:
            return repr(value)
        wanted = name.removesuffix("_handle").replace("_", "")
        chapter = self.own.excerpt.chapter
        for part in [self.own, *(one for one in reversed(self._earlier) if one.excerpt.chapter == chapter)]:
            for other in part.body:
                if isinstance(other, Definition) and is_deployment(other) and other.name.lower() == wanted:
                    self._look_up({other.name})
                    return self._binding(other)
        return None

    def _program(
        self, roots: list[ast.stmt], *, start: str = "", name: str = "", is_script: bool = False
    ) -> Program:
        named = set(re.findall(r"program\.(\w+)", start))
        roots = [*roots, *(one for one in self.body if named & bound_names(one) and one not in roots)]
        reached = self._reached(roots)
        self._used |= {id(one) for one in reached}
        mine = {id(one) for part in self.parts for one in part.body}
        shown = sorted({(first_line(one), one.end_lineno or one.lineno) for one in reached if id(one) in mine
                        and not isinstance(one, ast.Import | ast.ImportFrom)})  # fmt: skip
        deployed = [one for one in reached if isinstance(one, Definition) and is_deployment(one)]
        defined = [one.name for one in reached if isinstance(one, Definition)]
        names = (
            [one.name for one in deployed]
            or defined
            or [ast.unparse(c.func) for r in roots for c in called(r)]
        )
        program = Program(
            document=self.own.excerpt.document,
            name=name or ", ".join(dict.fromkeys(names)) or "a script",
            lines=ranges(shown),
            source=self.source,
            start=start,
            incomplete=self._why_incomplete(reached, deployed),
            lacks=self._lacks(reached),
            stood_in=stood_in(imported_modules(reached), self.source),
        )
        if is_script or start:
            program.asks = [ask for one in ingresses(deployed, reached) for ask in asks(one, deployed)]
        return program

    def _reached(self, roots: list[ast.stmt]) -> list[ast.stmt]:
        """The statements that these ones use, and theirs, in the order of the text."""
        todo, reached = list(roots), list(roots)
        while todo:
            for name in references(todo.pop(), deep=True):
                for one in self.body:
                    if name in bound_names(one) and one not in reached:
                        reached.append(one)
                        todo.append(one)
        return [one for one in self.body if one in reached]

    def _why_incomplete(self, reached: list[ast.stmt], deployed: list[Definition]) -> str:
        at_import = {name for one in self.body for name in references(one, deep=False)}
        unknown = {name for one in reached for name in references(one, deep=True)} - self.bound
        for where, names in ((self.body, at_import - self.bound), (reached, unknown)):
            if names:
                line, name = min((line_of_name(where, name), name) for name in names)
                more = f" (and {len(unknown | names) - 1} more)" if len(unknown | names) > 1 else ""
                return f"name {name} is not defined, line {line}{more}"
        for one in deployed:
            if why := lacking(one):
                return why
        return ""

    def _lacks(self, reached: list[ast.stmt]) -> str:
        """What the machine has not that the code needs."""
        if needs_gpu(reached) and not has_gpu():
            return "it asks for a GPU, and this machine has none"
        absent = [module for module in imported_modules(reached) if not is_there(module)]
        return f"the package {absent[0]} is not installed" if absent else ""


def _run(binding: str | None, one: Definition, app: str) -> str:
    prefix = "/" if app == "asked" else f"/{app}"
    return f"serve.run({binding}, name={app!r}, route_prefix={prefix!r})"
