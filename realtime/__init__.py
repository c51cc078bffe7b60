"""From the change feed to subscribers: views, channels, fan-out, live sessions and the wire protocols."""
