"""What tests are built from: real servers, fresh engines, entities, and ways to read answers."""
