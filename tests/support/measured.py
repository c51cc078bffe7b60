"""`python tests/support/measured.py serve …`: the hub of another commit, which does not measure the turns of its event
loop, measured as this tree's hub measures itself (`hub_loop_turn_cpu_seconds` at `/metrics`). That hub's own modules
serve; from this tree comes `hub/loop_watch.py` alone, which stands by itself."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, Final

from prometheus_client import Gauge, Histogram

ROOT: Final = Path(__file__).resolve().parents[2]
BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


def loop_watch() -> Any:
    """This tree's module, whatever `hub` is imported."""
    spec = importlib.util.spec_from_file_location("loop_watch_of_the_tests", ROOT / "hub" / "loop_watch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure_turns(metrics: Any) -> None:
    """Give `hub.metrics.Metrics` what it lacks. The watch starts with the first answer of `/metrics`, for which a test
    asks before what it measures."""
    make, render = metrics.__init__, metrics.render

    def made(self: Any) -> None:
        make(self)
        turns = Histogram("hub_loop_turn_cpu_seconds", "CPU time of one turn", buckets=BUCKETS, registry=self.registry)
        self.turns_watched = loop_watch().LoopWatch(turns.observe)
        lag = Gauge("hub_loop_lag_seconds", "The longest turn of the last minute", registry=self.registry)
        lag.set_function(self.turns_watched.longest)
        self.is_watching = False

    def rendered(self: Any) -> bytes:
        if not self.is_watching:
            self.is_watching = True
            self.turns_watched.start()
        answer: bytes = render(self)
        return answer

    metrics.__init__, metrics.render = made, rendered


def main() -> None:
    sys.path.pop(0)  # the folder of this file
    module = importlib.import_module("hub.metrics")
    if not hasattr(module, "LoopWatch"):
        measure_turns(module.Metrics)
    importlib.import_module("hub.cli.main").main()


if __name__ == "__main__":
    main()
