"""OpenAPI 3.1: the document's skeleton, and what the parts of all dialects are made of."""
