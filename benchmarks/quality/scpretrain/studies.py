"""Labelled studies that are left out in turn, and what an encoder may be pretrained on then."""

#: labelled data sets whose genes have names; each is left out in turn
DATASETS = (
    "gut_mca_mouse",
    "pollen",
    "bonemarrow_matsushita_mouse",
    "ipsc_cm",
    "pancreas_baron_mouse",
    "celllines_mixology",
    "pbmc_zheng_facs",
    "brain_zeisel_mouse_subset",
    "pbmc_kang_muscat",
    "pbmc_3tech_symphony",
    "pbmc68k_reduced",
)
#: data sets to pretrain on that are never left out
UNLABELLED = ("pbmc_donorA_mudan", "pbmc_kang_harmony_ctrlstim", "intestine_grun_mouse", "pc9_erlotinib_day11_reps")
#: data sets that share cells or donors with another one, and are not pretrained on when that is left out
RELATED = {
    "pbmc_kang_muscat": ("pbmc_kang_harmony_ctrlstim",),
    "pbmc68k_reduced": ("pbmc_donorA_mudan", "pbmc_zheng_facs"),
    "pbmc_zheng_facs": ("pbmc68k_reduced", "pbmc_donorA_mudan"),
}


def others(name: str) -> list[str]:
    """The studies to pretrain on when this one is left out: none that shares cells or donors with it."""
    left_out = (name, *RELATED.get(name, ()))
    return [other for other in (*DATASETS, *UNLABELLED) if other not in left_out]
