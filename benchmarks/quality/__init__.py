"""How good the methods are, beside simple baselines and published numbers: ``python -m benchmarks.quality NAME``.

What all subjects share stands here: ``runs`` (finished runs in a CSV file), ``table`` (the runner), ``page`` (Markdown),
``figures``, ``data`` and ``cells`` (what is read), ``embeddings`` and ``classifiers`` (methods and baselines that several
subjects score). A subject has a folder.
"""
