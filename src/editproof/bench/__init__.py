"""Measuring: the benchmark, figures that compare methods, the demonstration, and the report."""
