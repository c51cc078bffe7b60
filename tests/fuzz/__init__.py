"""Whatever anybody sends: the parsers that face the network take it or refuse it with their documented error."""
