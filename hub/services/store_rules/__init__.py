"""Rules of stores with a purpose, kept by each commit that writes to them."""
