"""The stores of the listings API, their reference data, and the preparation of both."""
