"""Building blocks of tests: real servers, fresh engines, entities, and readers of answers."""
