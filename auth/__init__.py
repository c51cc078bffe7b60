"""Who is asking, and what they may see and do. Knows stores, but nothing of HTTP frameworks or sockets."""
