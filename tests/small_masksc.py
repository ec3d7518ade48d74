"""A small MaskSC, and a teacher for it."""

import torch

from sc_ssl.models import ContrastiveSC, MaskSC

TEACHER = {"n_hidden": [32], "n_latent": 8}
SMALL = {
    "teacher": TEACHER,
    "n_components": 8,
    "n_hidden": 16,
    "transformer": {"n_layers": 1, "n_heads": 2},
    "decoder": {"n_bottleneck": 8},
    "patches": {"size": 16},
}
QUICK = {"batch_size": 40, "enable_progress_bar": False, "accelerator": "cpu"}


def build(adata, **options):
    torch.manual_seed(0)
    MaskSC.setup_anndata(adata)
    return MaskSC(adata, **SMALL | options)


def fit(adata, *, max_epochs=2, **options):
    model = build(adata, **options)
    model.train(max_epochs, **QUICK)
    return model


def fit_teacher(adata, *, max_epochs=2):
    ContrastiveSC.setup_anndata(adata)
    teacher = ContrastiveSC(adata, **TEACHER)
    if max_epochs:
        teacher.train(max_epochs, **QUICK)
    return teacher


def patches_of(model):
    return torch.as_tensor(model._map_cells(model.module.patches, None, None))


def normalized(model):
    with torch.no_grad():
        return torch.cat([model.module.normalize(minibatch) for minibatch in model._loader(model._own_cells())])
