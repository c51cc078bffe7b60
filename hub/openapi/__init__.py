"""OpenAPI 3.1: the skeleton of the document, and building blocks for the parts of all dialects."""
