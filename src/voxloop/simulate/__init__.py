"""Simulated annotators: for demos, learning curves and tests."""
