"""The APIs that the hub speaks. A dialect only translates: requests into calls of services, results into answers."""
