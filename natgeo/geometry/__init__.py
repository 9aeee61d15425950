"""From features to the natural geometry of the training set."""
