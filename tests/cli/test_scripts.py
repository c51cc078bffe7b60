"""The scripts that new contributors and CI run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement

from tests.cli.conftest import PATIENCE, ROOT, CommandLine


@pytest.mark.parametrize(
    "script",
    ["scripts/serve", "scripts/test", "scripts/check", "scripts/mongod", "scripts/lock", "scripts/audit", ".ci/run"],
)
def test_scripts_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text().startswith("#!/usr/bin/env ")


def test_serve_starts_a_hub_from_any_folder(hub: CommandLine) -> None:
    command = [str(ROOT / "scripts" / "serve"), "--port", "0", "--data-dir", str(hub.folder / "data")]
    server = subprocess.Popen(command, cwd=hub.folder, env=hub.environment, stdout=subprocess.PIPE, text=True)
    try:
        url = hub.wait_for_url(server)
        assert httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200
    finally:
        server.terminate()
        out, _ = server.communicate(timeout=PATIENCE)
    assert url in out
    assert len(out.splitlines()) <= 10


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {Requirement(line).name for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]}
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {Requirement(line).name.lower().replace("_", "-"): Requirement(line) for line in lines}
    assert wanted <= pinned.keys()
    for requirement in pinned.values():
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]
        assert requirement.url is None


def pins(name: str) -> set[str]:
    found = re.findall(r"^([A-Za-z0-9][\w.-]*==[^\s\\]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {pin.lower().replace("_", "-") for pin in found}


def test_the_lock_has_the_pinned_versions_with_hashes_and_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert pins("requirements.lock") == pins("constraints.txt"), "constraints.txt has changed: run scripts/lock"
    for block in re.split(r"\n(?=[A-Za-z0-9])", lock)[1:]:
        name, *hashes = block.replace("\\\n", "").split()
        assert hashes, name
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes), name
    assert "://" not in lock
    assert "index" not in lock


def test_the_audit_refuses_a_lock_of_other_versions(tmp_path: Path) -> None:
    for name in ("scripts/audit", "scripts/environment", "constraints.txt", "requirements.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "constraints.txt").open("a") as file:
        file.write("zzz==1\n")
    done = subprocess.run([tmp_path / "scripts" / "audit"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "run scripts/lock" in done.stderr


TESTS = """
import pytest

def test_that_runs(): pass

@pytest.mark.skip(reason="no browser here")
def test_that_is_marked(): pass

def test_that_skips(): pytest.skip("no node here")

@pytest.fixture
def server(): pytest.skip("no mongod here")

def test_that_wants_a_server(server): pass

@pytest.mark.xfail(strict=True)
def test_that_is_expected_to_fail(): assert False
"""
MODULE = 'import pytest\npytest.importorskip("no_such_module")\ndef test_that_runs(): pass\n'


def run_tests(folder: Path, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(TESTS)
    (folder / "test_more.py").write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.no_skips", "--continue-on-collection-errors", "."]
    environment = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_nothing_skips_in_ci(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "true")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 xfailed, 3 errors" in done.stdout.splitlines()[-1]
    for reason in ("no browser here", "no node here", "no mongod here", "no_such_module"):
        assert re.search(f"nothing may skip in CI. .*{reason}", done.stdout)


def test_tests_may_skip_elsewhere(tmp_path: Path) -> None:
    done = run_tests(tmp_path, "")
    assert done.returncode == 0
    assert "1 passed, 4 skipped, 1 xfailed" in done.stdout.splitlines()[-1]
