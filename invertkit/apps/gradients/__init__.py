"""What classifiers see: input gradients side by side."""
