"""The parts of `hub/fetch.py`: which URLs and addresses the hub may fetch from, and how it connects to them."""
