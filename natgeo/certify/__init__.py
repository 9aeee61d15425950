"""From the geometry to verdicts: statements, threats, rankings, counterexamples."""
