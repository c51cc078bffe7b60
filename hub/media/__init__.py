"""Images that clients send: what is accepted of them, and the processes that convert them."""
