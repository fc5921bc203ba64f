"""Training of a classifier: plan, start, loop, card."""
