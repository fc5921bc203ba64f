"""A step taken down once and done again: tapes, graphs, the optimizer that stays on the device."""
