"""Verdicts that leave the machine: certificate files and their independent checker."""
