"""What trainings share: history, progress bar, checkpoints, averaged weights."""
