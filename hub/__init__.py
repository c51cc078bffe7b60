"""The application: requests in, through a dialect and a service to a store, and answers out."""
