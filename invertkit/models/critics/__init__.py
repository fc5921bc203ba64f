"""Networks that score the patches of an image."""
