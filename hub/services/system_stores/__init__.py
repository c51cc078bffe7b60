"""Hooks of system stores, beyond their schema: one module for each store."""
