"""What a person reads: figures and one self-contained HTML page."""
