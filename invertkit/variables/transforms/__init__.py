"""Transforms of photograph and masks: in space, of colour, one after another."""
