"""Drugs as vectors, and drugs that are none."""

import sys

import numpy as np
import pandas as pd
import pytest

from sc_ssl.models.supervised.molecules import N_BITS, drug_features, molecular_graphs, plain_drugs

ASPIRIN, IBUPROFEN = "CC(=O)OC1=CC=CC=C1C(=O)O", "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O"


def test_fingerprints_say_which_environments_of_atoms_a_molecule_has():
    pytest.importorskip("rdkit")
    same = "OC(=O)c1ccccc1OC(C)=O"  # aspirin, written from the other end
    features = drug_features({"aspirin": ASPIRIN, "again": same, "ibuprofen": IBUPROFEN})
    assert features.shape == (3, N_BITS) and features.dtype == np.float32
    assert set(np.unique(features)) == {0.0, 1.0}
    np.testing.assert_array_equal(features[0], features[1])
    shared = (features[0] * features[2]).sum()
    assert 0 < shared < features[0].sum()


def test_tables_series_and_vectors_are_drugs_too():
    table = pd.DataFrame([[1, 0], [0, 2]], index=["a", "b"])
    assert plain_drugs(table) == {"a": [1.0, 0.0], "b": [0.0, 2.0]}
    assert plain_drugs(pd.Series({"aspirin": ASPIRIN})) == {"aspirin": ASPIRIN}
    np.testing.assert_array_equal(drug_features(plain_drugs(table)), table)


@pytest.mark.parametrize(
    ("drugs", "message"),
    [
        ({}, "at least one drug is needed"),
        (pd.DataFrame([[1], [2]], index=["a", "a"]), "unique names, found 'a' more than once"),
        (pd.Series([ASPIRIN, ASPIRIN], index=["a", "a"]), "unique names, found 'a' more than once"),
        (pd.Series({"a": ASPIRIN, "b": None}), "each drug has a SMILES .* found (None|nan) for 'b'"),
        ({"a": [1.0], "b": [1.0, 2.0]}, "vectors of features of one length"),
        ({"a": [1.0], "b": ASPIRIN}, "all SMILES, or all vectors"),
        ({"a": [1.0], "b": [np.nan]}, "features must be finite, found others of the drug 'b'"),
    ],
)
def test_what_is_no_drug_is_refused(drugs, message):
    with pytest.raises(ValueError, match=message):
        drug_features(plain_drugs(drugs))


@pytest.mark.parametrize("smiles", ["C1CC", "not a molecule", ""])
def test_a_smiles_that_rdkit_rejects_is_named(smiles, capfd):
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match="rdkit cannot read the SMILES of the drug 'magic'"):
        drug_features({"aspirin": ASPIRIN, "magic": smiles})
    assert "rror" not in capfd.readouterr().err


def test_without_rdkit_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    monkeypatch.setitem(sys.modules, "rdkit.Chem", None)
    with pytest.raises(ImportError, match=r'pip install "sc_ssl\[drug\]"'):
        drug_features({"aspirin": ASPIRIN})


def test_graphs_have_every_atom_and_every_bond_both_ways():
    pytest.importorskip("torch_geometric")
    pytest.importorskip("rdkit")
    from rdkit import RDLogger, rdBase

    RDLogger.EnableLog("rdApp.warning")
    graphs, n_values = molecular_graphs({"ethanol": "CCO", "aspirin": ASPIRIN})
    assert "rdApp.warning:enabled" in rdBase.LogStatus()  # as the caller had it
    assert graphs.molecule_v.tolist() == [0] * 3 + [1] * 13
    bonds = set(map(tuple, graphs.bond_2e.T.tolist()))
    assert {(0, 1), (1, 0), (1, 2), (2, 1)} <= bonds
    assert len(bonds) == 2 * (2 + 13)
    assert all((b, a) in bonds for a, b in bonds)
    assert graphs.atom_va[:3, 0].tolist() == [6, 6, 8]  # atomic numbers
    assert (graphs.atom_va.amax(dim=0).numpy() < np.array(n_values)).all()


def test_graphs_need_smiles_that_can_be_read():
    pytest.importorskip("torch_geometric")
    pytest.importorskip("rdkit")
    with pytest.raises(ValueError, match="a graph needs SMILES, found features of the drug 'a'"):
        molecular_graphs({"a": [1.0, 2.0]})
    with pytest.raises(ValueError, match="cannot read the SMILES of the drug 'wrong'"):
        molecular_graphs({"ethanol": "CCO", "wrong": "C1CC"})


def test_graphs_without_their_packages_name_the_extras(monkeypatch):
    monkeypatch.setattr("sc_ssl.models.supervised.molecules.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"sc_ssl\[drug,ppi\]"):
        molecular_graphs({"ethanol": "CCO"})


def test_a_table_of_smiles_is_no_table_of_features():
    table = pd.DataFrame({"mass": [180.2], "smiles": [ASPIRIN]}, index=["aspirin"])
    with pytest.raises(
        ValueError, match=r"found text in the column 'smiles'; if it holds SMILES, pass that column alone"
    ):
        plain_drugs(table)
