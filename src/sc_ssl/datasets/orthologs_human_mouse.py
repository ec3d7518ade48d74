"""One-to-one orthologs of human and mouse."""

from __future__ import annotations

import pandas as pd

from sc_ssl.datasets._local import Converted, local_copy

FILE = Converted(
    filename="orthologs_human_mouse_one2one.csv",
    sha256="261b6b088902be9d7282d0c62dbf177a8ca38a51a4256a9c6127e9e1e180e449",
    repository="ruiyi-zhang/scPretrain",
    path="the table of orthologs",
    licence="MIT",
)


def orthologs_human_mouse() -> pd.DataFrame:
    """One-to-one orthologs of human and mouse, 15,514 pairs of symbols, for ``orthologs=``.

    Read from the first folder of the environment variable ``SC_SSL_DATA`` that has ``orthologs_human_mouse_one2one.csv``; its
    checksum is verified. Any other table with these columns will do, from Ensembl BioMart for example.

    Returns
    -------
    Columns ``human_symbol`` and ``mouse_symbol``.

    Raises
    ------
    FileNotFoundError
        If no folder of ``SC_SSL_DATA`` has the file.
    ValueError
        If the file is another one.

    Notes
    -----
    Source: `ruiyi-zhang/scPretrain <https://github.com/ruiyi-zhang/scPretrain>`__, MIT.

    Examples
    --------
    >>> import sc_ssl
    >>> orthologs = sc_ssl.datasets.orthologs_human_mouse()  # doctest: +SKIP
    """
    return pd.read_csv(local_copy(FILE), dtype=str)
