"""Options and fixtures shared by all tests: engines, numbers of generated cases, and servers."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from stores.protocol import Engine
from tests.support import hub, mongod, programs, surroundings
from tests.support.distribution import GroupScheduling
from tests.support.engines import KINDS, Database, fitting_database, opened, sqlite_database
from tests.support.hub import Hub, StartHub, running_hub

CASES_PER_EXAMPLE = 20
"""Queries that a property test runs against each generated data set."""
SECONDS_PER_CASE = 0.15
SECONDS_PER_FAULT = 8
SECONDS_PER_RACE = 1
LONG = ("faults", "properties", "openapi", "benchmarks", "live", "fuzz", "hostile", "cli", "platform", "conformance")
"""Folders with files whose tests take long. They begin first, so that none of them is left alone at the end."""
ABOVE_THE_ENGINES = ("platform", "live", "hostile", "cli", "docs", "openapi", "listings", "media", "store_rules")
"""Folders whose tests the gate runs with SQLite. What the engines themselves decide is marked `gate` with both."""
LOG_SHOWN = 5_000
"""Characters of a hub's log that are shown with a failure."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Default lengths of the tests whose length is an option."""

    cases: int
    faults: int
    model_runs: int
    model_runs_on_mongodb: int
    """There a run takes 2.5 times as long."""
    races: int


GATE = Extent(cases=400, faults=4, model_runs=60, model_runs_on_mongodb=20, races=6)
"""For every change."""
FULL = Extent(cases=2_000, faults=8, model_runs=300, model_runs_on_mongodb=300, races=100)
"""For a release: `--full`."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--engine", choices=[*KINDS, "both"], default="both", help="the engines to test")
    parser.addoption("--full", action="store_true", help="as before a release: with tests marked full, and more cases")
    parser.addoption("--cases", type=int, help=f"generated cases of each property ({GATE.cases}, full {FULL.cases})")
    parser.addoption("--faults", type=int, help=f"times that a fault is made ({GATE.faults}, full {FULL.faults})")
    parser.addoption("--races", type=int, help=f"times that each race is run ({GATE.races}, full {FULL.races})")


def extent_of(config: pytest.Config) -> Extent:
    """Return the lengths for this run. `--cases` also sets the number of model runs."""
    extent = FULL if config.getoption("--full") else GATE
    cases, faults, races = (config.getoption(f"--{name}") for name in ("cases", "faults", "races"))
    return Extent(
        cases=cases or extent.cases,
        faults=faults or extent.faults,
        model_runs=cases or extent.model_runs,
        model_runs_on_mongodb=cases or extent.model_runs_on_mongodb,
        races=races or extent.races,
    )


def pytest_configure(config: pytest.Config) -> None:
    surroundings.make_neutral()
    # A shell script starts background processes with SIGINT ignored, and the programs under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "needs(program): a test of a program of the system's package manager")
    config.addinivalue_line("markers", "engine(kind): a test of one engine only")
    config.addinivalue_line("markers", "generated(seconds per case): a property test, whose length --cases decides")
    config.addinivalue_line("markers", "faults: a test whose length --faults decides")
    config.addinivalue_line("markers", "races: a test whose length --races decides")
    config.addinivalue_line("markers", "full: a test that runs with --full only, or when its file or folder is named")
    config.addinivalue_line(
        "markers",
        "gate(kinds): with any other engine the test counts as marked full; without the mark, tests above the engines "
        "run with SQLite and others with each engine",
    )
    config.addinivalue_line(
        "markers", "alone: a test that runs beside no other: it measures delays or loads the machine"
    )
    mongod.expect_warning = lambda pattern: config.addinivalue_line(
        "filterwarnings", f"ignore:{pattern}:ResourceWarning"
    )
    hypothesis.settings.register_profile(
        "hub",
        max_examples=max(1, extent_of(config).cases // CASES_PER_EXAMPLE),
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )
    hypothesis.settings.load_profile("hub")


def chosen_kinds(config: pytest.Config) -> list[str]:
    choice = config.getoption("--engine")
    return list(KINDS) if choice == "both" else [choice]


def is_wanted(item: pytest.Item, kinds: list[str]) -> bool:
    """Return whether the engine in a test's marker is among those to test and agrees with its `engine_kind`."""
    parameter = parameters_of(item).get("engine_kind")
    marked = [mark.args[0] for mark in item.iter_markers("engine")]
    return all(kind in kinds and parameter in (kind, None) for kind in marked)


def is_left_to_full(item: pytest.Item, config: pytest.Config) -> bool:
    """Return whether a test is not in the gate, `--full` is not given, and neither its file nor its folder is named."""
    if item.get_closest_marker("full") is None and not is_left_to_another_engine(item, config):
        return False
    return not config.getoption("--full") and not is_named(item.path, config)


def is_left_to_another_engine(item: pytest.Item, config: pytest.Config) -> bool:
    """Return whether the gate runs a test with another of the chosen engines only."""
    kind, gate = parameters_of(item).get("engine_kind"), gate_of(item)
    return kind is not None and kind not in gate and any(chosen in gate for chosen in chosen_kinds(config))


def gate_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the engines with which the gate runs a test."""
    if marker := item.get_closest_marker("gate"):
        return marker.args
    is_above = item.path.parent.name in ABOVE_THE_ENGINES and item.get_closest_marker("engine") is None
    return ("sqlite",) if is_above else KINDS


def is_named(path: Path, config: pytest.Config) -> bool:
    """Return whether a file, or a folder that holds it, is an argument of pytest."""
    if config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        return False
    named = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    return any(each in (path, *path.parents) for each in named)


def parameters_of(item: pytest.Item) -> dict[str, object]:
    return item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}


def rank_of(item: pytest.Item) -> int:
    folder = item.path.parent.name
    return LONG.index(folder) if folder in LONG else len(LONG)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine_kind" in metafunc.fixturenames:
        metafunc.parametrize("engine_kind", chosen_kinds(metafunc.config), scope="session")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    return GroupScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare garbage collections the thousands of tests and modules, which stay for as long as the process runs."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m alone`, do not import the many files without such a test."""
    if config.getoption("markexpr") != "alone" or collection_path.suffix != ".py":
        return None
    return None if "mark.alone" in collection_path.read_text(encoding="utf-8") else True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kinds = chosen_kinds(config)
    wanted = {item for item in items if is_wanted(item, kinds) and not is_left_to_full(item, config)}
    if len(wanted) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
        items[:] = [item for item in items if item in wanted]
    leave_out(items)
    items.sort(key=rank_of)
    extent = extent_of(config)
    for item in items:
        if marker := item.get_closest_marker("generated"):
            [seconds] = marker.args or (SECONDS_PER_CASE,)
            item.add_marker(pytest.mark.timeout(120 + seconds * extent.cases))
        if item.get_closest_marker("races"):
            item.add_marker(pytest.mark.timeout(120 + SECONDS_PER_RACE * extent.races))
        if item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.timeout(180 + SECONDS_PER_FAULT * extent.faults))


def leave_out(items: list[pytest.Item]) -> None:
    """Deselect the tests of programs that are not installed; in CI they fail instead."""
    if os.environ.get("CI") != "true":
        items[:] = [i for i in items if all(programs.found(m.args[0]) for m in i.iter_markers("needs"))]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for name in programs.NEEDED:
        if not programs.found(name):
            advice = f"{name} is not installed (Debian: apt-get install {name})"
            terminalreporter.write_line(f"LEFT OUT: the tests that need {name}. {advice}", red=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of every running hub's log to the report of a failure."""
    report = yield
    if report.failed:
        for process in hub.running:
            report.sections.append((f"Log of the hub at {process.url}", process.log[-LOG_SHOWN:]))
    return report


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the hubs of the tests out of the user's state folder, and those of the user out of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session")
def mongodb() -> Iterator[str]:
    """The URL of a replica set shared by the whole session and started for the first test that uses it."""
    with mongod.running() as server:
        yield server.url


@pytest.fixture(scope="module")
async def sqlite_hub(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StartHub]:
    """A function that starts a hub for one module, for tests that do not depend on the engine:
    ``await sqlite_hub(head_timeout=1)``."""
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Hub:
            folder = tmp_path_factory.mktemp("hub")
            return await stack.enter_async_context(running_hub(sqlite_database(folder), folder / "hub", **settings))

        yield start


@pytest.fixture
async def database(engine_kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Database]:
    """A new database; the test runs once with each kind."""
    async with fitting_database(engine_kind, request, tmp_path) as database:
        yield database


@pytest.fixture
async def engine(database: Database) -> AsyncIterator[Engine]:
    """An open engine on a new database."""
    async with opened(database.engine()) as engine:
        yield engine


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Let nothing be freed by the garbage collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
