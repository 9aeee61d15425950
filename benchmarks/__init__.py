"""Benchmarks: one file for each question, one JSON line for each case."""
