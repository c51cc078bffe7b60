"""From the change feed to those who watch: views, channels, fan-out, live sessions, and the wire that carries them."""
