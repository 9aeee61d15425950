"""Model and data in, one feature per example out."""
