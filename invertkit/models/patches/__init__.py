"""Networks that score patches, and their normalisation."""
