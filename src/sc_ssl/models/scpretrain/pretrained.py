"""Encoders that come with the package: read under the names that the genes of some data have, and written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from sc_ssl import _compat
from sc_ssl.data import describe_names, without_version
from sc_ssl.models.base import read_config, read_tensors, restored, write_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sc_ssl.models.base import SSLModel


#: a folder for each method that has a shipped encoder
SHIPPED = Path(__file__).parent / "shipped"
#: beside the model: a row a gene, in the model's order; empty where a gene has no name of that kind
GENES = "genes.csv"
#: species and kind of names → column
COLUMNS = {
    ("human", "symbol"): "human_symbol",
    ("human", "ensembl"): "human_ensembl",
    ("mouse", "symbol"): "mouse_symbol",
}


def pretrained(names: Sequence[str] | pd.Index, method: str = "scpretrain", *, species: str | None = None) -> SSLModel:
    """The encoder that comes with the package, for data whose genes have these names.

    Its genes take the names of the data's species, so that the model embeds the data as they are, and
    :meth:`CellClassifier.from_pretrained <sc_ssl.models.CellClassifier.from_pretrained>` and :func:`sc_ssl.tl.annotate`
    take it as any other. Genes without a one-to-one ortholog are left out for mouse data. The card in its
    folder, ``README.md``, describes its training.

    Parameters
    ----------
    names
        Names of the data's genes: human symbols, human Ensembl ids (a version is ignored) or mouse symbols.
    method
        ``"scpretrain"`` is the only one with a shipped encoder.
    species
        ``"human"`` or ``"mouse"``; by default read from how the names are written.

    Returns
    -------
    A trained model on the CPU, without cells.

    Raises
    ------
    ValueError
        No encoder is shipped for the method; names of another species or kind.

    Examples
    --------
    >>> import sc_ssl
    >>> model = sc_ssl.models.pretrained(["CD3D", "LYZ", "MS4A1"])  # names of genes as in your data
    >>> len(model.var_names)
    4096
    """
    if not (SHIPPED / method / GENES).is_file():
        there = ", ".join(repr(path.parent.name) for path in sorted(SHIPPED.glob(f"*/{GENES}")))
        raise ValueError(
            f"a pretrained encoder is shipped for {there}, found {method!r}; train one without pretrained."
        )
    return load_renamed(SHIPPED / method, names, species=species)


def load_renamed(folder: Path, names: Sequence[str] | pd.Index, *, species: str | None = None) -> SSLModel:
    """The encoder in a folder, its genes renamed, and those left out that have no name of that kind."""
    found, names = describe_names(names), pd.Index(names).astype(str)
    species = species or found.species
    column = COLUMNS.get((species, found.kind))
    if column is None:
        raise ValueError(
            f"the shipped encoder knows {', '.join(f'{s} {kind} names' for s, kind in COLUMNS)}; found {found.kind} names "
            f"of {species or 'an unknown species'}, such as {names[0]!r}. Rename the genes (sc_ssl.pp.map_orthologs for "
            "other species), or name the species with species= if the names do not show it."
        )
    table = pd.read_csv(folder / GENES, dtype=str, keep_default_na=False)
    kept = np.flatnonzero(table[column] != "")
    as_in_the_data = dict(zip(without_version(names), names, strict=True)) if found.kind == "ensembl" else {}
    genes = [as_in_the_data.get(name, name) for name in table[column].iloc[kept]]
    config = read_config(folder)
    config["init_params"]["species"] = species
    config["registry"] = _compat.registry_for(config["registry"], genes, layer=None)
    tensors = {
        name: tensor[..., kept] if tensor.ndim and tensor.shape[-1] == len(table) else tensor
        for name, tensor in read_tensors(folder, config.get("id")).items()
    }
    return restored(config, tensors)


def ship(model: SSLModel, folder: Path, names: pd.DataFrame) -> None:
    """Write an encoder with half the precision and without its training labels, and what its genes are called."""
    tensors = {
        name: tensor.half() if torch.is_floating_point(tensor) else tensor
        for name, tensor in model.module.state_dict().items()
    }
    labels = [name for name in tensors if name.endswith("_extra_state")]
    tensors |= {name: tensors[name][:0] for name in labels}
    config = model.configuration()
    config["history"] = {name: curve for name, curve in config["history"].items() if name == "train_loss"}
    write_model(folder, config, tensors, overwrite=True)
    names[list(COLUMNS.values())].to_csv(folder / GENES, index=False)


def gene_names(symbols: Sequence[str], orthologs: pd.DataFrame, ensembl: pd.DataFrame) -> pd.DataFrame:
    """What human genes are called: a row a gene, empty where no name is the gene's alone.

    Parameters
    ----------
    symbols
        Human symbols, all different.
    orthologs
        ``human_symbol``, ``mouse_symbol``.
    ensembl
        ``human_ensembl``, ``human_symbol``.
    """
    table = pd.DataFrame({"human_symbol": list(symbols)})
    for pairs, column in ((orthologs, "mouse_symbol"), (ensembl, "human_ensembl")):
        pairs = pairs[["human_symbol", column]].dropna().drop_duplicates()
        alone = ~(pairs["human_symbol"].duplicated(keep=False) | pairs[column].duplicated(keep=False))
        table[column] = table["human_symbol"].map(pairs[alone].set_index("human_symbol")[column]).fillna("")
    return table
