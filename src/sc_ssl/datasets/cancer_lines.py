"""Cancer cell lines and their response to drugs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd

from sc_ssl.datasets._local import Converted, local_copy

if TYPE_CHECKING:
    from anndata import AnnData

FILE = Converted(
    filename="celllines_ccle_gdsc.h5ad",
    sha256="1a9c724949bcb60aeca2ef420083dff3b723af1078643d80380f72f3e5e36a18",
    repository="violet-sto/TGSA",
    path="data/CellLines_DepMap/CCLE_580_18281/census_706/*.npy, data/similarity_augment/dict/*",
    licence="MIT",
)
STRUCTURES = Converted(
    filename="drug_smiles_170.csv",
    sha256="7cc578a3419549cf3a032c4b2a4e9e06b33e284fb06d531a5a7d23e27f0d8b97",
    repository="violet-sto/TGSA",
    path="data/drug_smiles.csv",
    licence="MIT",
)


def cancer_lines() -> AnnData:
    """Cancer cell lines and 170 drugs, 580 lines x 706 cancer genes, bulk (CCLE, GDSC).

    Read from the first folders of the environment variable ``SC_SSL_DATA`` that have ``celllines_ccle_gdsc.h5ad`` and
    ``drug_smiles_170.csv``; their checksums are verified. They are not downloaded: they were joined from many files.

    Returns
    -------
    ``X``: z-scored log expression. ``layers["copy_number"]``, ``layers["mutation"]``. ``obs["cell_type"]``: the tissue;
    ``obs["name"]``. ``obsm["ln_ic50"]``: DataFrame of lines x drugs, NaN where not measured. ``uns["smiles"]``: the SMILES
    of each drug by its name.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the files.
    ValueError
        If a file is another one.

    Notes
    -----
    The expression is scaled: ``sc_ssl.tl.drug_response(adata, "ln_ic50", adata.uns["smiles"], input="scaled")``.

    Source: `violet-sto/TGSA <https://github.com/violet-sto/TGSA>`__, MIT.

    References
    ----------
    Zhu et al. (2022), TGSA: protein-protein association-based twin graph neural networks for drug response prediction with
    similarity augmentation, Bioinformatics 38, 461.

    Examples
    --------
    >>> import sc_ssl
    >>> adata = sc_ssl.datasets.cancer_lines()  # doctest: +SKIP
    """
    adata = ad.read_h5ad(local_copy(FILE))
    drugs = list(adata.uns["drug_names"])
    adata.obsm["ln_ic50"] = pd.DataFrame(adata.obsm["ln_ic50"], adata.obs_names, drugs)
    smiles = pd.read_csv(local_copy(STRUCTURES), index_col="drug_name")["IsomericSMILES"]
    adata.uns["smiles"] = smiles.loc[drugs].to_dict()
    return adata
