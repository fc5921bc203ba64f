"""Tensors out of checkpoints that hold pickled objects too, without running any of them."""
