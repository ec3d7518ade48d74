"""Table 1 of the mask-sc paper: ARI, NMI and silhouette, by the row of ours that they belong beside."""

#: the paper's rows and ours; its PCA and scRNA (NMF without a source) agree, digit for digit with one exception, with
#: stored results of contrastive-sc's authors that were made of raw counts without normalisation
ROWS = {
    "masksc": "mask-sc",
    "contrastive_sc": "contrastive-sc",
    "scdeepcluster": "ScDeepCluster",
    "sczidesk": "ScziDesk",
    "nmf_raw": "scRNA",
    "pca_raw": "PCA",
}
TABLE_1 = {
    "pbmc4k": {
        "masksc": (0.8064, 0.7923, 0.6941),
        "contrastive_sc": (0.6863, 0.7254, 0.5873),
        "scdeepcluster": (0.5154, 0.6598, 0.4852),
        "sczidesk": (0.5520, 0.6867, 0.1446),
        "nmf_raw": (0.4715, 0.5291, 0.2327),
        "pca_raw": (0.1900, 0.3121, 0.4024),
    },
    "worm_neuron": {
        "masksc": (0.5777, 0.7190, 0.4812),
        "contrastive_sc": (0.4503, 0.5880, 0.2783),
        "scdeepcluster": (0.4240, 0.5923, 0.2363),
        "sczidesk": (0.0495, 0.2202, 0.1978),
        "nmf_raw": (0.2458, 0.4152, 0.1085),
        "pca_raw": (0.0465, 0.1756, 0.1769),
    },
}
