"""Side-by-side measurements of speed: python -m benchmarks. Not tests: nothing fails where a machine is slow."""
