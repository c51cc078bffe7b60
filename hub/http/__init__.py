"""The HTTP layer between ASGI and the dialects: calls, bodies, answers, errors, and who gets room for them."""
