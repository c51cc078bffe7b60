"""Schemathesis against a real hub: no 500, no undeclared status, header or body, no valid request refused, no invalid
request accepted.

The gate sends boundary values. With `--full`, or when this file is named, random requests follow; `--cases 40000` tries
every operation in every way, without a limit on time.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from hub.control import read_control
from tests.conftest import FULL, extent_of
from tests.openapi.sample_stores import ANY
from tests.support.hub import Hub

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")

CASES_PER_EXAMPLE = 500
LEAST_EXAMPLES = 4

UNREACHABLE = re.compile(r"(confirmTotp|removeTotp|confirmReset|second_factors\.|upload|removeFile|linkToFile)")
"""Operations that need a one-time code, a mailed token, a second factor or a stored file, so that no generated request
succeeds."""

BOUNDARIES = (
    r"^(signIn|issueToken|signOut|whoAmI|describe|get|share|history"
    r"|(products|users|groups|roles|tokens|keys)\.create)$"
)
"""Operations whose boundary values the bounded run tests: tens of cases for each constraint."""
CHANGES = r"^(users|groups|roles|tokens|keys)\.change$"
"""Further ones, whose bodies have the constraints of those that create."""


async def run(hub: Hub, folder: Path, *arguments: str) -> None:
    """Run `st` on the hub's document as its administrator; fail with its report."""
    control = read_control(hub.process.folder)
    assert control is not None
    document = folder / "openapi.json"
    document.write_bytes((await hub.client(control.token).get("/openapi.json")).content)
    ours = {"PYTHONPATH": str(ROOT), "OPENAPI_TEST_URL": hub.url, "OPENAPI_TEST_TOKEN": control.token}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
        *("run", str(document), "--url", hub.url, "--no-color", *arguments),
        env=os.environ | ours,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


@pytest.mark.timeout(3_600)
@pytest.mark.parametrize(
    "operations", [pytest.param(BOUNDARIES, id="calls"), pytest.param(CHANGES, id="changes", marks=pytest.mark.full)]
)
async def test_the_hub_keeps_to_its_document_at_the_boundaries(
    fuzzed_hub: Hub, tmp_path: Path, pytestconfig: pytest.Config, operations: str
) -> None:
    unbounded = extent_of(pytestconfig).cases > FULL.cases
    chosen = [] if unbounded and operations == BOUNDARIES else ["--include-operation-id-regex", operations]
    await run(fuzzed_hub, tmp_path, "--phases", "coverage", *chosen)


@pytest.mark.full
@pytest.mark.timeout(3_600)
async def test_the_hub_keeps_to_its_document_whatever_is_sent(
    fuzzed_hub: Hub, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    cases = extent_of(pytestconfig).cases
    phases = "fuzzing" if cases <= FULL.cases else "fuzzing,stateful"
    await run(
        fuzzed_hub, tmp_path, "--phases", phases, "--max-examples", str(max(LEAST_EXAMPLES, cases // CASES_PER_EXAMPLE))
    )
    assert never_done(fuzzed_hub, json.loads((tmp_path / "openapi.json").read_bytes())) == []
    assert not [line for line in fuzzed_hub.process.records() if line["level"] == "error"]


def never_done(hub: Hub, document: dict[str, Any]) -> list[str]:
    """Return the operations that were never answered 200, so that only their refusals were tested."""
    done = {(line["method"], line["path"]) for line in hub.process.records() if line.get("status") == 200}
    described = [
        (operation["operationId"], method.upper(), path.replace("{store}", ANY))
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters" and path.split("/")[3] != ANY
    ]
    never = [name for name, *call in described if not any(is_call(*call, *one) for one in done)]
    return [name for name in never if not UNREACHABLE.match(name)]


def is_call(method: str, path: str, done_method: str, done_path: str) -> bool:
    return method == done_method and re.fullmatch(path.replace("{id}", "[0-9a-f]{24}"), done_path) is not None
