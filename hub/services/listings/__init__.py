"""What the listings API is built on: its stores, their reference data, and how both are prepared."""
