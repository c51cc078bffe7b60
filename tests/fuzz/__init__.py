"""Fuzzing: parsers of network input accept any input or refuse it with their documented error."""
