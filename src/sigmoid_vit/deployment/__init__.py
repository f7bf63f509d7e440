"""A trained network at work: predictions of any images, and files that other programs load."""
