"""Genes of one species under the names of another."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from sc_ssl.pp import map_orthologs

TABLE = pd.DataFrame(
    {
        "human_symbol": ["H1-0", "ARNT", "TP53", "FOO1", "FOO2", "INS"],
        "mouse_symbol": ["H1f0", "Arnt", "Trp53", "Foo", "Foo", "Ins2"],
        "human_ensembl": [f"ENSG0000000000{i}" for i in range(6)],
        "mouse_ensembl": [f"ENSMUSG0000000000{i}" for i in range(6)],
    }
)


def cells(names):
    x = np.random.default_rng(0).poisson(2, (5, len(names))).astype(np.float32)
    return AnnData(
        sparse.csr_matrix(x), obs=pd.DataFrame({"a": range(5)}, index=list("vwxyz")), var=pd.DataFrame(index=names)
    )


def test_names_follow_the_table_and_not_their_case():
    mouse = cells(["Trp53", "H1f0", "Gm1", "Arnt", "TP53"])
    human = map_orthologs(mouse, TABLE)
    assert list(human.var_names) == ["TP53", "H1-0", "ARNT"]
    assert list(human.var["original_name"]) == ["Trp53", "H1f0", "Arnt"]
    np.testing.assert_array_equal(human.X.toarray(), mouse.X.toarray()[:, [0, 1, 3]])
    assert isinstance(human.X, sparse.csr_matrix)
    pd.testing.assert_frame_equal(human.obs, mouse.obs)


def test_the_other_way_round():
    assert list(map_orthologs(cells(["H1-0", "TP53"]), TABLE).var_names) == ["H1f0", "Trp53"]


def test_ensembl_ids_with_versions():
    human = map_orthologs(cells(["ENSMUSG00000000002.7", "ENSMUSG00000000000"]), TABLE)
    assert list(human.var_names) == ["ENSG00000000002", "ENSG00000000000"]
    symbols = map_orthologs(cells(["ENSMUSG00000000002.7"]), TABLE, target="human_symbol")
    assert list(symbols.var_names) == ["TP53"]


def test_pairs_that_are_not_one_to_one_are_left_out():
    assert list(map_orthologs(cells(["Foo", "Arnt"]), TABLE).var_names) == ["ARNT"]


def test_aliases_are_tried_second_and_sums_are_taken():
    mouse = cells(["Trp53", "p53", "Arnt"])
    human = map_orthologs(mouse, TABLE, aliases={"p53": "Trp53", "Arnt": "Ins2"})
    assert list(human.var_names) == ["TP53", "ARNT"]
    np.testing.assert_array_equal(human.X.toarray()[:, 0], mouse.X.toarray()[:, :2].sum(axis=1))
    assert human.var.loc["TP53", "original_name"] == "Trp53,p53"


def test_genes_without_an_ortholog_can_be_kept():
    assert list(map_orthologs(cells(["Gm1", "Arnt"]), TABLE, unmapped="keep").var_names) == ["Gm1", "ARNT"]


def test_a_file_is_read_and_the_cells_stay_as_they_are(tmp_path):
    TABLE.to_csv(tmp_path / "table.csv", index=False)
    mouse = cells(["H1f0"])
    assert list(map_orthologs(mouse, tmp_path / "table.csv").var_names) == ["H1-0"]
    assert list(mouse.var_names) == ["H1f0"]


def test_of_several_species_the_one_wanted_is_taken(tmp_path):
    table = pd.DataFrame(
        {
            "lemur__gene_name": ["LOC105858624", "ARNT", "TP53"],
            "human__gene_name": ["H1-0", "ARNT", "TP53"],
            "mouse__gene_name": ["H1f0", "Arnt", "Trp53"],
            "": [np.nan] * 3,
        }
    )
    table.to_csv(tmp_path / "numbered.csv")  # as scPretrain's authors gave theirs: a column of numbers, one of nothing
    mouse = cells(["H1f0", "Trp53"])
    for target in ("human__gene_name", ["H1-0", "TP53", "GAPDH"]):
        assert list(map_orthologs(mouse, tmp_path / "numbered.csv", target=target).var_names) == ["H1-0", "TP53"]
    with pytest.raises(ValueError, match="target= which of 'lemur__gene_name', 'human__gene_name'"):
        map_orthologs(mouse, table)
    with pytest.raises(ValueError, match="named as in column 'mouse__gene_name' of the orthologs already"):
        map_orthologs(mouse, table, target="mouse__gene_name")


def test_columns_that_are_named_may_hold_numbers_or_the_same_names():
    table = TABLE.assign(mouse_entrez=range(6))
    mapped = map_orthologs(cells(["0", "2"]), table, source="mouse_entrez", target="human_symbol")
    assert list(mapped.var_names) == ["H1-0", "TP53"]
    same = pd.DataFrame({"human": ["A", "B"], "macaque": ["A", "B"]})
    assert list(map_orthologs(cells(["A", "B"]), same, target=["A", "B"]).var_names) == ["A", "B"]
    with pytest.raises(
        ValueError, match="no column .* has the names wanted, such as 'XXX'; the others are 'human_symbol'"
    ):
        map_orthologs(cells(["Arnt"]), TABLE, target=["XXX"])


def test_what_cannot_be_mapped_is_refused():
    with pytest.raises(ValueError, match="0 of 1 genes are in column .* names such as 'unc-1'"):
        map_orthologs(cells(["unc-1"]), TABLE)
    with pytest.raises(KeyError, match="'rat_symbol' is no column"):
        map_orthologs(cells(["Arnt"]), TABLE, source="rat_symbol")
    with pytest.raises(ValueError, match="'drop' or 'keep'"):
        map_orthologs(cells(["Arnt"]), TABLE, unmapped="ignore")
    with pytest.raises(ValueError, match="each of two species"):
        map_orthologs(cells(["Arnt"]), TABLE[["human_symbol"]])
