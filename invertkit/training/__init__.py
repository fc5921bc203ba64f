"""Training of the networks that invertkit makes itself."""
