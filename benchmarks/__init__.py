"""Speed, quality and memory, in ratios against other libraries that run in the same process.

`python -m benchmarks` prints one table. Each benchmark makes a `Comparison`: two calls, and a check that they did the
same work. Unmeasured, at size "test", it is a test.
"""
