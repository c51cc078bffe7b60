"""The surroundings of a run of the tests: what the user's shell, the machine's proxy, git and the limits of the process
would change in them."""

from __future__ import annotations

import os
import resource
from typing import Final

CHANGE_OUTPUT: Final = (
    "CLICOLOR_FORCE",
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",  # Rich takes it for a terminal with colours
    "LINES",
    "NO_COLOR",
    "PY_COLORS",
    "PYTEST_ADDOPTS",
    "PYTHONDEVMODE",
    "PYTHONWARNINGS",
)
FILES: Final = 20_000
"""Open files that the largest tests need, with some to spare."""
LOOPBACK: Final = "127.0.0.1,localhost,::1"


def make_neutral() -> None:
    """Prepare this process and those that it starts, such as the workers of pytest-xdist."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    for name in [*os.environ]:
        if name in CHANGE_OUTPUT or (name.startswith("HUB_") and not name.startswith("HUB_TEST_")):
            del os.environ[name]
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), LOOPBACK)))
    trust_the_checkout()
    allow_files()


def trust_the_checkout() -> None:
    """Let git read a checkout of another user, as root sees it in a container."""
    number = int(os.environ.get("GIT_CONFIG_COUNT", "0"))
    os.environ[f"GIT_CONFIG_KEY_{number}"] = "safe.directory"
    os.environ[f"GIT_CONFIG_VALUE_{number}"] = "*"
    os.environ["GIT_CONFIG_COUNT"] = str(number + 1)


def allow_files() -> None:
    """Raise the limit of open files, because some tests have thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
