"""Makes ``helpers`` importable from every test."""
