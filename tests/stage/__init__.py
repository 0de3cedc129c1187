"""What is promised of a live demo, tried at full length: python -m tests.stage. Short forms of each are in the test suite."""
