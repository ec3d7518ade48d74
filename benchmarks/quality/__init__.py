"""Measurements that are too heavy for tests: ``python -m sc_ssl.benchmark clustering --out docs/benchmarks``."""
