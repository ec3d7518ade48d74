"""What all tasks share: runs are resumed, and the page stands beside the paper."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.quality import data, page
from benchmarks.quality.__main__ import RICHTER_TASKS, main
from benchmarks.quality.richter import neighbours, tasks


def test_the_command_knows_all_tasks():
    assert set(RICHTER_TASKS) == set(tasks.TASKS)


@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_is_resumed_and_writes_its_page(cite, tmp_path, monkeypatch, name):
    done, task = [], tasks.TASKS[name]()

    def row(prepared, seed):
        done.append(seed)
        return dict.fromkeys(task.measures[:-1], 0.5 + seed / 10) | {task.measures[-1]: 0.3}

    monkeypatch.setattr(data, "load", lambda name: cite)
    rows = dict.fromkeys((*list(task.published)[:1], "ours", *filter(None, [task.base])), row)
    quick = replace(task, prepare=lambda name, seed: cite, rows=rows)
    monkeypatch.setitem(tasks.TASKS, name, lambda: quick)
    arguments = ["richter", "--task", name, "--datasets", "cells", "others", "--out", str(tmp_path)]
    assert main([*arguments, "--seeds", "1"]) == 0
    assert main([*arguments, "--seeds", "2"]) == 0
    assert done == [0] * 2 * len(rows) + [1] * 2 * len(rows)
    text = (tmp_path / f"richter_{name}.md").read_text()
    assert "| ours | 0.550 ± 0.050 | 0.550 ± 0.050 |" in text
    assert "20 million cells" in text
    assert ("+0.000 (+0.000 to +0.000)" in text) == (task.base is not None)
    assert (tmp_path / f"richter_{name}.png").stat().st_size > 3000


def test_the_papers_numbers_stand_in_the_last_column():
    runs = pd.DataFrame({"dataset": "cells", "method": ["mae", "ours"], "seed": 0, "macro_f1": [0.5, None]})
    text = "\n".join(page.by_measure(runs, ["macro_f1"], {"mae": {"macro_f1": 0.123}}))
    assert "| row | cells | paper |" in text and "| mae | 0.500 | 0.123 |" in text
    assert "| ours |" not in text  # nothing to show


def test_many_data_sets_are_lines_with_their_mean_over_them():
    scored = [(f"set_{i}", row, 0, i / 10) for row in ("mae", "ours") for i in range(8) if (row, i) != ("ours", 3)]
    columns = ["dataset", "method", "seed", "macro_f1"]
    runs = pd.DataFrame([*scored, ("unscored", "mae", 0, np.nan)], columns=columns)
    text = "\n".join(page.by_measure(runs, ["macro_f1"], neighbours.PUBLISHED))
    assert "| data set | mae | ours |" in text and "| set_2 | 0.200 | 0.200 |" in text and "unscored" not in text
    assert "| set_3 | 0.300 |  |" in text
    assert "| mean | 0.350 |  |" in text  # of rows that were run on all
    assert "| paper | 0.649 |  |" in text


def test_rows_are_compared_where_both_were_run():
    runs = pd.DataFrame(
        [
            ("a", "ours", 0, 0.9),
            ("a", "base", 0, 0.6),
            ("b", "ours", 0, 0.5),
            ("b", "base", 0, 0.6),
            ("b", "ours", 1, 0.6),
            ("b", "base", 1, 0.7),
            ("c", "ours", 0, 1.0),
        ],
        columns=["dataset", "method", "seed", "f1"],
    )
    found = page.compare(runs, "f1", "base")
    assert found.loc["ours", ["won", "data sets"]].tolist() == ["50%", "2"]
    assert page.compare(runs[runs["dataset"] == "a"], "f1", "base").empty
    assert page.compare(runs, "f1", None).empty
    assert found.loc["ours", "difference"].startswith("+0.100 (-0.100 to +0.300)")


def test_an_unknown_task_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["richter", "--task", "cooking", "--out", str(tmp_path)])
    assert "invalid choice: 'cooking'" in capsys.readouterr().err
