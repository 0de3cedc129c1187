"""The full live-demo stress tests: python -m tests.stage. Short forms are in the test suite."""
