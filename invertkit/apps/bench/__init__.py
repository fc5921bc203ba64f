"""How fast a machine makes each recipe."""
