"""Numbers about finished pictures, gradients and pairs of image sets."""
