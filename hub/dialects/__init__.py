"""The hub's APIs. A dialect only translates: it turns requests into calls of services, and results into answers."""
