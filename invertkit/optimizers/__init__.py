"""Optimizers: how it is searched."""
