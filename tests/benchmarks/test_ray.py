"""Runs as tasks of a Ray cluster of two workers."""

import pandas as pd
import pytest

from benchmarks.quality.__main__ import main


@pytest.mark.slow  # each worker imports all that a benchmark needs
def test_a_cluster_writes_the_same_table_and_goes_on_where_it_stopped(build_counts, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    cells = build_counts(120, 90, n_batches=2)
    cells.obs["batch"] = cells.obs["donor"].astype(str)
    cells.write_h5ad(tmp_path / "tiny.h5ad")
    monkeypatch.setenv("SC_SSL_DATA", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    common = ["integration", "--datasets", "tiny", "--seeds", "2", "--methods", "PCA", "pca_cosine"]
    assert main([*common, "--out", str(tmp_path / "alone")]) == 0
    kept = pd.read_csv(tmp_path / "alone" / "integration.csv")
    (tmp_path / "cluster").mkdir()
    kept.iloc[:3].to_csv(tmp_path / "cluster" / "integration.csv", index=False)  # an earlier start
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=on_these_paths(tmp_path))
    try:
        assert main([*common, "--out", str(tmp_path / "cluster"), "--ray"]) == 0
    finally:
        ray.shutdown()
    found = pd.read_csv(tmp_path / "cluster" / "integration.csv")
    keys = ["dataset", "composition", "method", "seed"]
    both = [table.sort_values(keys).drop(columns="seconds").reset_index(drop=True) for table in (kept, found)]
    pd.testing.assert_frame_equal(*both)
    assert (tmp_path / "cluster" / "integration.md").is_file()


def on_these_paths(folder):
    from benchmarks.quality.on_ray import TOP

    return {"env_vars": {"PYTHONPATH": TOP, "SC_SSL_DATA": str(folder), "OMP_NUM_THREADS": "1"}}


def test_a_benchmark_that_is_no_table_takes_no_cluster(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["masksc", "--ray", "--out", str(tmp_path)])
    assert "no single table of runs; leave out --ray" in capsys.readouterr().err
