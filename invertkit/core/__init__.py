"""What all rooms speak of: scene, view, images, draws, schedules, recorded steps."""
