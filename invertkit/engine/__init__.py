"""The loop: stages, steps, losses and the best so far; it knows the roles and no concrete part."""
