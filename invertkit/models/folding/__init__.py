"""Batch norms folded into convolutions, so that a step does less."""
