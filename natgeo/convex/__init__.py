"""Convex models: exact influence, its sensitivity to the data, and what survives it."""
