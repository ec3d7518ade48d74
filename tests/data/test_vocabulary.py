"""The genes of many data sets, in one order."""

import numpy as np
import pytest
from scipy import sparse

from sc_ssl.data import GeneVocabulary, describe_names


def test_union_within_and_intersection_across_species():
    names = {"h1": ["A", "B"], "h2": ["B", "C"], "m": ["B", "C", "D"]}
    species = {"h1": "human", "h2": "human", "m": "mouse"}
    assert GeneVocabulary.of(names, species=species).genes == ("A", "B", "C", "D")
    assert GeneVocabulary.of(names, species=species, across="intersection").genes == ("B", "C")
    assert GeneVocabulary.of(names, min_datasets=2).genes == ("B", "C")


def test_order_and_hash_do_not_depend_on_the_order_of_the_data_sets():
    there = GeneVocabulary.of({"a": ["X", "Y"], "b": ["Y", "Z"]})
    back = GeneVocabulary.of({"b": ["Z", "Y"], "a": ["Y", "X"]})
    assert there == back
    assert there.hash == back.hash
    assert there.hash != GeneVocabulary(there.genes, "mouse").hash
    assert there.hash != GeneVocabulary(there.genes[::-1]).hash


def test_alignment_reorders_sums_and_marks_what_was_not_measured():
    matrix = sparse.random(7, 4, density=0.6, random_state=0, format="csr", dtype=np.float32)
    aligned, measured = GeneVocabulary(("new", "b", "a")).align(matrix, ["a", "b", "other", "a"])
    x = matrix.toarray()
    expected = np.stack([np.zeros(7), x[:, 1], x[:, 0] + x[:, 3]], axis=1)
    np.testing.assert_allclose(aligned.toarray(), expected, rtol=1e-6)
    assert isinstance(aligned, sparse.csr_matrix)
    assert aligned.dtype == np.float32
    assert measured.tolist() == [False, True, True]


def test_a_data_set_that_shares_nothing_is_named():
    with pytest.raises(ValueError, match="'worm' shares no gene with the others; it has names such as 'unc-1'"):
        GeneVocabulary.of({"a": ["A", "B"], "b": ["B"], "worm": ["unc-1"]})


@pytest.mark.parametrize(("genes", "message"), [((), "at least one gene"), (("A", "A"), "'A' more than once")])
def test_no_genes_or_repeated_ones_are_refused(genes, message):
    with pytest.raises(ValueError, match=message):
        GeneVocabulary(genes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["TP53", "HLA-DRA", "C1orf127", "RP11-206L10.2", "AL627309.1", "7SK"], ("symbol", "human")),
        (["Trp53", "H2-Ab1", "1700001C02Rik", "a", "Gm37988"], ("symbol", "mouse")),
        (["ENSG00000141510", "ENSG00000141510.12"], ("ensembl", "human")),
        (["ENSMUSG00000059552", "ENSMUSG00000059553.3"], ("ensembl", "mouse")),
        (["gene_0", "gene_1"], ("symbol", None)),
        (["ENSDARG00000035559"] * 3, ("ensembl", None)),
        (["TP53"] * 19 + ["ENSG00000141510"], ("symbol", "human")),
    ],
)
def test_kind_and_species_are_read_from_the_names(names, expected):
    assert tuple(describe_names(names)) == expected


def test_mixed_names_are_refused():
    with pytest.raises(ValueError, match="50% Ensembl ids such as 'ENSG00000141510' among symbols such as 'TP53'"):
        describe_names(["TP53", "ENSG00000141510"])
