"""Gene programmes and regulons of the masks, of MSigDB."""

from __future__ import annotations

from sc_ssl.benchmark._data import resource
from sc_ssl.pp import read_gmt

PROGRAMS, REGULONS = "msigdb_c2.cp.reactome.v7.0.symbols.gmt", "msigdb_c3.tft.v7.0.symbols.gmt"
#: arguments of the masked autoencoder beside the programmes, by mask
MASKS: dict[str, tuple[str, dict[str, bool]]] = {
    "gene_programs": (PROGRAMS, {}),
    "one_program": (PROGRAMS, {}),
    "program_to_regulator": (REGULONS, {"leave_out_regulons": True}),
}


def mask_options(mask: str) -> dict[str, object]:
    """What the masked autoencoder takes for this mask."""
    filename, options = MASKS[mask]
    return {"mask": mask, "programs": read_gmt(resource(filename)), **options}
