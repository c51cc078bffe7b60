"""Files of entities: uploads, the conversion of images, storage, serving, and the removal of files that nothing has."""
