"""How good an answer is: detection metrics."""
