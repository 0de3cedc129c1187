"""Make this a package, so that its files may share names with those of tests/unit."""
