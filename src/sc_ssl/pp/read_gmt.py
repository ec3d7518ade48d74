"""Gene programmes from a file."""

from pathlib import Path

import pandas as pd

from sc_ssl.data import read_programs


def read_gmt(source: str | Path | pd.DataFrame) -> dict[str, list[str]]:
    """Read gene programmes from a GMT file, as MSigDB distributes them, or from a decoupler table.

    Parameters
    ----------
    source
        Path of a GMT file: on each line a name, a description and the genes, separated by tabs. Or a table with the
        columns ``source`` (the programme) and ``target`` (a gene), as ``decoupler.op`` returns them; weights are not
        read.

    Returns
    -------
    The genes of each programme, each gene once, in the order of the file.

    Raises
    ------
    FileNotFoundError
        No such file.
    KeyError
        A table without the columns.
    ValueError
        Not a GMT file, with the number of the line; a programme that is there twice.

    Examples
    --------
    >>> import pandas as pd
    >>> import sc_ssl
    >>> sc_ssl.pp.read_gmt(pd.DataFrame({"source": ["T cell", "T cell"], "target": ["CD3D", "CD3E"]}))
    {'T cell': ['CD3D', 'CD3E']}
    """
    return read_programs(source)
