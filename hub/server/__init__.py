"""The classes of uvicorn that the hub replaces: connections with limits, heads, and the answer on its way."""
