"""From the change feed to those who watch: what a change means to one view of a store."""
