"""Authentication and authorization. Depends on `stores`, but not on HTTP frameworks or sockets."""
