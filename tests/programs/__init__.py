"""Programs of functions that the hub has had since 06e37b2: `tests.support.program.printed` runs one on the tree whose
hub is tested, which may be another than this."""
