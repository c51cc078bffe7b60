"""Live subscriptions, on real hubs with real clients: a live view always equals the REST answer."""
