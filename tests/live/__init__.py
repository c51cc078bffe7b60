"""Live subscriptions, on real hubs with real clients: what is seen live is what REST would return, always."""
