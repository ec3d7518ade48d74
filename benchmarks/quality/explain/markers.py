"""Published markers of cell types, by the names that the data sets give the types.

Blood: the table of canonical markers in Seurat's guided clustering tutorial on 2,700 PBMC (Satija lab), with CD79A/B, NKG7 and
CD3D/E as in Zheng et al. 2017, Nature Communications 8:14049, Figure 3. Pancreas: Baron et al. 2016, Cell Systems 3:346, Figure 1
and Table S2.
"""

BLOOD = {
    "B": ["MS4A1", "CD79A", "CD79B", "CD19"],
    "CD14": ["CD14", "LYZ", "S100A8", "S100A9"],
    "FCGR3A": ["FCGR3A", "MS4A7", "LST1"],
    "CD4 T": ["IL7R", "CCR7", "CD3D", "CD3E"],
    "CD8 T": ["CD8A", "CD8B", "CD3D", "NKG7", "CCL5"],
    "NK": ["GNLY", "NKG7", "GZMB", "PRF1"],
}
PANCREAS = {
    "alpha": ["GCG", "TTR", "IRX2", "TM4SF4"],
    "beta": ["INS", "INS1", "INS2", "IAPP", "MAFA"],
    "delta": ["SST", "RBP4", "LEPR"],
    "gamma": ["PPY"],
    "ductal": ["KRT19", "KRT18", "SPP1", "CFTR"],
    "acinar": ["CPA1", "PRSS1", "CELA3A"],
    "activated_stellate": ["PDGFRA", "PDGFRB", "COL1A1"],
    "quiescent_stellate": ["RGS5", "PDGFRB"],
    "endothelial": ["VWF", "PECAM1", "CD34"],
    "macrophage": ["CD163", "CD68", "IGSF6"],
    "schwann": ["SOX10", "PLP1"],
    "B_cell": ["CD79A", "MS4A1"],
    "T_cell": ["CD3D", "CD3E", "TRAC"],
}
#: data set → its names of the types → published markers
MARKERS = {
    "pbmc_kang_muscat": {
        "B cells": BLOOD["B"],
        "CD14+ Monocytes": BLOOD["CD14"],
        "FCGR3A+ Monocytes": BLOOD["FCGR3A"],
        "CD4 T cells": BLOOD["CD4 T"],
        "CD8 T cells": BLOOD["CD8 T"],
    },
    "pbmc68k_reduced": {
        "CD19+ B": BLOOD["B"],
        "CD14+ Monocyte": BLOOD["CD14"],
        "CD56+ NK": BLOOD["NK"],
        "CD8+ Cytotoxic T": BLOOD["CD8 T"],
    },
    "pancreas_baron_mouse": PANCREAS,
}
