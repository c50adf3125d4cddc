"""The style of the code that a linter cannot see; what is not checked does not last."""

import ast
import importlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PACKAGES = ("headrace", "app", "agents", "tables", "schemas", "tests", "bench")
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
CONTRACT_LINES_MAX = 600
"""A port's contract is one suite: an implementation keeps all of it or is none."""

LAYERS = ("errors", "events", "log", "tables", "flow", "http", "bridge", "app")
"""Each may import itself and what stands before it."""
LAYER_OF = dict.fromkeys(
    ("causes", "settings", "clock", "configuration", "histogram", "turns", "vitals"), "errors"
)
"""Modules directly under headrace/ that are not of the topmost layer."""

ALLOWED_IN = {
    "aiokafka": ("headrace.log.kafka",),
    "rocksdict": ("headrace.tables.rocksdb",),
    "faust": ("headrace.app", "headrace.lifecycle", "headrace.cli"),
    "opentelemetry": ("headrace.flow",),
    "httpx": ("headrace.client", "headrace.testing", "app"),
    "psycopg": ("headrace.bridge", "headrace.testing", "app"),
    "sqlalchemy": ("headrace.bridge",),
    "mode": ("headrace.app", "headrace.lifecycle", "headrace.cli"),
}
ENVIRONMENT_IN = (
    "headrace.app",
    "headrace.lifecycle",
    "headrace.cli",
    "app.demo",
    "app.before.__main__",
    "tests",
    "bench",
)
SHIPPED = ("headrace", "app", "agents", "tables", "schemas")
TESTING_IN = ("headrace.testing", "app.demo", "app.migrate", "app.before.__main__", "tests", "bench")
PRINT_IN = (
    "app.demo",
    "bench",
    "tests.chaos.__main__",
    "tests.chaos.soak",
    "tests.simulation.planted.__main__",
    "tests.simulation.worlds.__main__",
)
NO_LOOP = (
    "headrace.http.part",
    "headrace.http.scans",
    "headrace.http.whiteboard.census",
    "headrace.client.sync",
    "headrace.log.embedded",
    "headrace.testing.kafka_node",
    "headrace.testing.postgres_server",
    "headrace.watchdog",
    "tests.process.apps.ailing",
    "tests.process.apps.sql_till",
    "app.demo",
    "app.replay",
    "app.service",
    "app.migrate.trade",
    "app.migrate.readers",
    "bench",
)
"""Threads of their own and plain scripts: a sleep there holds no event loop."""
QUIET_TESTS = (
    "tests.unit",
    "tests.contract",
    "tests.simulation",
    "tests.testing",
    "tests.reference_pages",
    "tests.http",
)
FRONT_DOORS = ("headrace", "headrace.testing", "headrace.errors", "headrace.bridge")
"""Packages that users import names from."""
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "common", "base", "misc", "types"}

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One Python file of the repository."""

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def module(self) -> str:
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    def at(self, node: ast.AST | None = None) -> str:
        place = self.path.relative_to(ROOT)
        return f"{place}:{node.lineno}" if isinstance(node, ast.stmt | ast.expr) else str(place)

    def is_in(self, modules: tuple[str, ...]) -> bool:
        return any(self.module == name or self.module.startswith(f"{name}.") for name in modules)

    def imports(self) -> Iterator[tuple[str, ast.stmt]]:
        """Full names of what is imported; for `from a import b` both a and a.b, for b may be a module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module, node
                yield from ((f"{node.module}.{alias.name}", node) for alias in node.names)

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


@cache
def sources() -> tuple[Source, ...]:
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return tuple(Source(file, file.read_text("utf-8")) for file in files)


def found(look: Callable[[Source], Iterator[str]], inside: tuple[str, ...] = PACKAGES) -> list[str]:
    return [finding for source in sources() if source.is_in(inside) for finding in look(source)]


def test_no_module_and_no_function_grows_beyond_its_cap() -> None:
    def too_long(source: Source) -> Iterator[str]:
        lines = source.text.count("\n")
        if lines > (CONTRACT_LINES_MAX if source.is_in(("tests.contract",)) else MODULE_LINES_MAX):
            yield f"{source.at()}: {lines} lines"
        for node in ast.walk(source.tree):
            if isinstance(node, FunctionNode) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    yield f"{source.at(node)}: {node.name} has {lines} lines"

    assert found(too_long) == []


def layer(module: str) -> int | None:
    """The rank of a module of headrace; None for what has no place in the order."""
    first = module.split(".")[1] if "." in module else ""
    if not first or first == "testing":
        return None
    return LAYERS.index(LAYER_OF.get(first, first if first in LAYERS else "app"))


def test_imports_point_from_app_down_to_errors_and_never_back() -> None:
    def upward(source: Source) -> Iterator[str]:
        own = layer(source.module)
        for name, node in source.imports():
            theirs = layer(name) if name.startswith("headrace.") else None
            if own is not None and theirs is not None and theirs > own:
                yield f"{source.at(node)}: {source.module} imports {name}"
            elif own is not None and name == "headrace" and own < LAYERS.index("app"):
                yield f"{source.at(node)}: {source.module} imports the whole package"

    assert found(upward, ("headrace",)) == []


def test_nothing_that_runs_in_production_imports_testing() -> None:
    def testing(source: Source) -> Iterator[str]:
        for name, node in source.imports():
            if (name + ".").startswith(("headrace.testing.", "tests.")) and not source.is_in(TESTING_IN):
                yield f"{source.at(node)}: imports {name}"

    assert found(testing) == []


def test_each_big_dependency_is_known_to_one_place_only() -> None:
    def leaking(source: Source) -> Iterator[str]:
        for name, node in source.imports():
            allowed = ALLOWED_IN.get(name.split(".")[0])
            if allowed is not None and not source.is_in(allowed):
                yield f"{source.at(node)}: imports {name}"

    assert found(leaking, SHIPPED) == []


def test_every_task_has_a_name() -> None:
    def nameless(source: Source) -> Iterator[str]:
        for name, call in source.calls():
            is_start = name.split(".")[-1] in ("create_task", "ensure_future")
            if is_start and not any(keyword.arg == "name" for keyword in call.keywords):
                yield f"{source.at(call)}: {name} without name="

    assert found(nameless) == []


def test_the_environment_is_read_in_few_places() -> None:
    def reading(source: Source) -> Iterator[str]:
        for node in ast.walk(source.tree):
            is_environment = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "putenv")
            if is_environment and ast.unparse(node).startswith("os.") and not source.is_in(ENVIRONMENT_IN):
                yield f"{source.at(node)}: {ast.unparse(node)}"

    assert found(reading) == []


def test_nothing_prints_and_nothing_sleeps_with_the_loop_in_its_hands() -> None:
    def banned(source: Source) -> Iterator[str]:
        for name, call in source.calls():
            is_print = name in ("print", "pprint") and not source.is_in(PRINT_IN)
            if is_print or (name in ("time.sleep", "sleep") and not source.is_in(NO_LOOP)):
                yield f"{source.at(call)}: {name}()"

    assert found(banned) == []


def test_tests_await_events_instead_of_sleeping() -> None:
    def sleeping(source: Source) -> Iterator[str]:
        for name, call in source.calls():
            if name == "asyncio.sleep" and not (call.args and ast.unparse(call.args[0]) == "0"):
                yield f"{source.at(call)}: {ast.unparse(call)}"

    assert found(sleeping, QUIET_TESTS) == []


def test_no_exception_is_swallowed() -> None:
    broad = {"Exception", "BaseException"}

    def swallowed(source: Source) -> Iterator[str]:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {ast.unparse(part) for part in ast.walk(node.type)} if node.type else broad
                if caught & broad and all(isinstance(part, ast.Pass | ast.Continue) for part in node.body):
                    yield f"{source.at(node.body[0])}: an exception ends here in silence"
        for name, call in source.calls():
            if name.split(".")[-1] == "suppress" and broad & {ast.unparse(part) for part in call.args}:
                yield f"{source.at(call)}: {ast.unparse(call)}"

    assert found(swallowed) == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    def named(source: Source) -> Iterator[str]:
        if EMPTY_NAMES & set(source.module.split(".")):
            yield source.at()

    assert found(named) == []


def test_only_front_doors_re_export() -> None:
    def filled(source: Source) -> Iterator[str]:
        is_inner = source.path.name == "__init__.py" and source.module not in FRONT_DOORS
        if is_inner and any(not isinstance(node, ast.Expr) for node in source.tree.body):
            yield source.at()

    assert found(filled, ("headrace",)) == []


def imported() -> Iterator[ModuleType]:
    for source in sources():
        is_script = source.path.name == "__main__.py"
        if source.is_in(("headrace",)) and source.text.strip() and not is_script:
            yield importlib.import_module(source.module)


def own_classes(module: ModuleType) -> Iterator[type]:
    for value in vars(module).values():
        if inspect.isclass(value) and value.__module__ == module.__name__ and value.__name__[0] != "_":
            yield value


def is_protocol(cls: type) -> bool:
    return bool(getattr(cls, "_is_protocol", False))


def undocumented_methods(cls: type, promised: set[str]) -> Iterator[str]:
    for name, member in vars(cls).items():
        inner = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if isinstance(member, property) and is_protocol(cls):
            continue  # reads as an attribute: its name and type say it
        is_method = inspect.isfunction(inner) and inner.__module__ == cls.__module__
        if name[0] == "_" or not (is_method or isinstance(member, property)):
            continue
        if getattr(inner, "__name__", name)[0] == "_":
            continue  # one private function under several names, such as a refusal
        # A method that a port or a base class promises is documented there, once.
        if name not in promised and not inspect.getdoc(getattr(cls, name)):
            yield f"{cls.__module__}.{cls.__qualname__}.{name}"


def test_every_public_name_is_documented() -> None:
    modules = list(imported())
    classes = [cls for module in modules for cls in own_classes(module)]
    promised = {
        name
        for cls in classes
        if is_protocol(cls)
        for name, member in vars(cls).items()
        if isinstance(member, property) or getattr(member, "__doc__", None)
    }
    missing = [module.__name__ for module in modules if not module.__doc__]
    missing += [
        f"{module.__name__}.{name}"
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
        if not value.__doc__
    ]
    for cls in classes:
        # A dataclass without docstring gets its signature as one.
        if not cls.__doc__ or cls.__doc__.startswith(f"{cls.__name__}("):
            missing.append(f"{cls.__module__}.{cls.__qualname__}")
        missing += undocumented_methods(cls, promised)
    assert missing == []
