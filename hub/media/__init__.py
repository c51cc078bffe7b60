"""Files of entities: storage, uploads, serving, and the removal of files that nothing has any more."""
