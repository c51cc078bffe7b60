"""The application: a request passes a dialect and a service to a store, and the answer returns the same way."""
