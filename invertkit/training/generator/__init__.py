"""Training of a class-conditional generator and its encoder."""
