"""Frozen networks, and how their weights are read."""
