"""Drugs as fingerprints, features or molecular graphs, and the graph network that reads these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeAlias

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sc_ssl._names import as_names
from sc_ssl.nn import MLP

if TYPE_CHECKING:
    from rdkit.Chem import Mol

    #: a drug's SMILES, or its vector of features, by its name
    Drugs: TypeAlias = Mapping[str, str] | Mapping[str, Sequence[float]] | pd.Series | pd.DataFrame

#: of Morgan fingerprints: bits, and bonds around each atom (radius 2 is ECFP4)
N_BITS, RADIUS = 2048, 2


def plain_drugs(drugs: Drugs) -> dict[str, str] | dict[str, list[float]]:
    """Drugs as plain data: name → SMILES, or name → features."""
    if not isinstance(drugs, Mapping | pd.DataFrame | pd.Series):
        raise TypeError(f"drugs are SMILES or features by name, {{name: SMILES, …}}, found a {type(drugs).__name__}.")
    names = as_names(list(drugs.index if isinstance(drugs, pd.DataFrame | pd.Series) else drugs))
    if not len(names):
        raise ValueError("at least one drug is needed, found none.")
    if names.isna().any() or (names == "").any():
        raise ValueError("each drug needs a name, found one that is missing or empty; leave it out.")
    names = pd.Index(names)
    if not names.is_unique:
        raise ValueError(f"drugs must have unique names, found {names[names.duplicated()][0]!r} more than once.")
    if isinstance(drugs, pd.DataFrame):
        texts = [name for name in drugs if not pd.api.types.is_numeric_dtype(drugs[name])]
        if texts:
            raise ValueError(
                f"a table of drugs holds features, numbers, found text in the column {texts[0]!r}; if it holds SMILES, pass "
                f"that column alone: drugs[{texts[0]!r}]."
            )
        drugs = drugs.to_numpy(float)
    else:
        drugs = list(drugs.values()) if isinstance(drugs, Mapping) else list(drugs)
    drugs = dict(zip(names, drugs, strict=True))
    missing = [name for name, value in drugs.items() if not isinstance(value, str) and np.ndim(value) == 0]
    if missing:
        raise ValueError(
            f"each drug has a SMILES or a vector of features, found {drugs[missing[0]]!r} for {missing[0]!r}."
        )
    return {name: value if isinstance(value, str) else list(map(float, value)) for name, value in drugs.items()}


def drug_features(drugs: Mapping[str, str] | Mapping[str, Sequence[float]]) -> np.ndarray:
    """(m, f) float32: Morgan fingerprints of 2,048 bits and radius 2 (Rogers & Hahn 2010), or the features given.

    Raises
    ------
    ImportError
        SMILES without rdkit.
    ValueError
        A SMILES that rdkit rejects, named; features of unequal length or that are not finite.
    """
    if all(isinstance(value, str) for value in drugs.values()):
        return _fingerprints(drugs)
    lengths = {name: np.size(value) for name, value in drugs.items()}
    if any(isinstance(value, str) for value in drugs.values()) or len(set(lengths.values())) > 1:
        raise ValueError("drugs are all SMILES, or all vectors of features of one length.")
    features = np.asarray(list(drugs.values()), dtype=np.float32)
    bad = ~np.isfinite(features).all(axis=1)
    if bad.any():
        raise ValueError(f"features must be finite, found others of the drug {list(drugs)[bad.argmax()]!r}.")
    return features


class MolecularGraphs(NamedTuple):
    """Molecules side by side.

    Attributes
    ----------
    atom_va
        Categorical features of each atom, (v, a): element, chirality, degree, charge, hydrogens, radical electrons,
        hybridisation, aromatic, in a ring.
    bond_2e
        Positions of the atoms of each bond, both ways, (2, e).
    molecule_v
        Each atom's molecule, (v,).
    """

    atom_va: Tensor
    bond_2e: Tensor
    molecule_v: Tensor

    def to(self, device: torch.device) -> Self:
        """On a device."""
        return type(self)(*(tensor.to(device) for tensor in self))


def molecular_graphs(drugs: Mapping[str, Any]) -> tuple[MolecularGraphs, tuple[int, ...]]:
    """Atoms and bonds of SMILES by torch-geometric, and how many values each feature of an atom takes.

    Raises
    ------
    ImportError
        Without rdkit or torch-geometric.
    ValueError
        A drug without SMILES, or one that rdkit rejects, named.
    """
    if find_spec("rdkit") is None or find_spec("torch_geometric") is None:
        raise ImportError('graphs of molecules need rdkit and torch-geometric: pip install "sc_ssl[drug,ppi]".')
    from torch_geometric.utils.smiles import from_rdmol, x_map

    graphs = []
    for name, smiles in drugs.items():
        if not isinstance(smiles, str):
            raise ValueError(f"a graph needs SMILES, found features of the drug {name!r}.")
        graphs.append(from_rdmol(_molecule(name, smiles)))
    n_v = torch.tensor([len(graph.x) for graph in graphs])
    starts = n_v.cumsum(0) - n_v
    bonds = [graph.edge_index + start for graph, start in zip(graphs, starts, strict=True)]
    molecule_v = torch.arange(len(graphs)).repeat_interleave(n_v)
    atoms = MolecularGraphs(torch.cat([graph.x for graph in graphs]), torch.cat(bonds, dim=1), molecule_v)
    return atoms, tuple(map(len, x_map.values()))


def _fingerprints(smiles: Mapping[str, str]) -> np.ndarray:
    try:
        from rdkit.Chem import rdFingerprintGenerator
    except ImportError as error:
        raise ImportError(
            'SMILES are read by rdkit, which is not installed: pip install "sc_ssl[drug]"; or give features of the drugs.'
        ) from error
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=N_BITS)
    molecules = [_molecule(name, text) for name, text in smiles.items()]
    return np.stack([generator.GetFingerprintAsNumPy(molecule) for molecule in molecules]).astype(np.float32)


def _molecule(name: str, smiles: str) -> Mol:
    from rdkit import Chem, RDLogger

    parser = Chem.SmilesParserParams()
    RDLogger.DisableLog("rdApp.error")  # what it logs is in the error below
    try:
        molecule = Chem.MolFromSmiles(smiles, parser)
    finally:
        RDLogger.EnableLog("rdApp.error")
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise ValueError(
            f"rdkit cannot read the SMILES of the drug {name!r}: {smiles!r}. Correct or leave out the drug."
        )
    return molecule


#: layers, and the width of each
N_LAYERS, WIDTH = 3, 128


class MoleculeGIN(nn.Module):
    """Atoms and bonds → one vector a molecule: graph isomorphism layers, the largest value over atoms, an MLP.

    Three layers of 128 whose outputs are joined, as in the drug branch of CellLM's authors. Needs torch-geometric.

    Parameters
    ----------
    n_values
        Values that each of an atom's categorical features takes; each value has a vector, and an atom starts as the sum.
    n_output
        Width of the vector.

    References
    ----------
    Xu et al. (2019), How powerful are graph neural networks?, ICLR.
    """

    offset_a: Tensor

    def __init__(self, n_values: tuple[int, ...], n_output: int) -> None:
        from torch_geometric.nn.models import GIN

        super().__init__()
        self.register_buffer("offset_a", torch.tensor([0, *n_values[:-1]]).cumsum(0))
        self.atoms = nn.EmbeddingBag(sum(n_values), WIDTH, mode="sum")
        self.layers = GIN(WIDTH, WIDTH, N_LAYERS, norm="batch_norm", jk="cat")
        self.readout = MLP(WIDTH, (WIDTH,), n_output, norm="layer")

    def forward(self, atom_va: Tensor, bond_2e: Tensor, molecule_v: Tensor) -> Tensor:
        """Features of atoms (v, a), their bonds both ways and each atom's molecule (v,) → (m, n_output)."""
        from torch_geometric.nn import global_max_pool

        h_vd = self.layers(self.atoms(atom_va + self.offset_a), bond_2e)
        molecule_md: Tensor = self.readout(global_max_pool(h_vd, molecule_v))
        return molecule_md
