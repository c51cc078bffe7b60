"""A hub that serves the shelf dialect beside the platform's API: ``python serving.py <root of the project>``."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])

    from hub.serve import serve
    from hub.settings import Settings
    from tests.dialects.shelf import make_shelf

    sys.exit(serve(Settings(), [make_shelf]))
