"""Speed and memory, for ``asv run``: ``time_*`` and ``peakmem_*`` by parameter; budgets live here and not in tests."""
