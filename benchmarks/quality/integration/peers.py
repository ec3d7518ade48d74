"""Integration methods of others: in this environment where it has them, else in one of their own (``make peers``).

Their packages are no dependencies: harmonypy is GPL, and Scanorama and Concord bring much of their own. A peer runs as a
script, ``python peers.py NAME IN.npz OUT.npz SEED``, reads arrays and writes arrays. Log-normalised cells are of 2,000 genes.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

#: made by `make peers`
ENVIRONMENT = Path(__file__).parents[3] / ".peers"


def run(name: str, seed: int, **arrays: np.ndarray) -> dict[str, np.ndarray]:
    """What a peer makes of these arrays, in the peers' environment."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(
            f"{name} needs the environment of the peers, {ENVIRONMENT}, which is not there: make peers."
        )
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
        np.savez(given, **arrays)
        command = [python, __file__, name, given, made, str(seed)]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{name} failed: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}"
            )
        with np.load(made) as found:
            return dict(found)


def harmony(seed: int, components: np.ndarray, batch: np.ndarray, **_: np.ndarray) -> dict[str, np.ndarray]:
    """Harmonypy at its defaults on the components."""
    import harmonypy
    import pandas as pd

    obs = pd.DataFrame({"batch": batch})
    z = np.asarray(harmonypy.run_harmony(components, obs, ["batch"], random_state=seed).Z_corr)
    return {"z": z if len(z) == len(batch) else z.T}


def scanorama(seed: int, log: np.ndarray, batch: np.ndarray, **_: np.ndarray) -> dict[str, np.ndarray]:
    """Scanorama's 100 dimensions of the batches' log-expression."""
    import scanorama as package

    np.random.seed(seed)
    order = np.argsort(batch, kind="stable")
    parts = [log[batch == name] for name in np.unique(batch)]
    genes = [[str(g) for g in range(log.shape[1])]] * len(parts)
    found, _ = package.integrate(parts, genes, verbose=False)
    z = np.empty((len(batch), found[0].shape[1]))
    z[order] = np.concatenate(found)
    return {"z": z}


def concord(seed: int, log: np.ndarray, batch: np.ndarray, **_: np.ndarray) -> dict[str, np.ndarray]:
    """Concord at its defaults, batches as domains."""
    import anndata
    import concord as package
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    adata = anndata.AnnData(log, obs=pd.DataFrame({"batch": pd.Categorical(batch)}))
    adata.obs_names = [f"cell_{i}" for i in range(len(batch))]
    options = {"save_dir": None, "copy_adata": True, "preload_dense": True, "use_faiss": False}
    model = package.Concord(adata=adata, domain_key="batch", device=torch.device("cpu"), seed=seed, **options)
    model.fit_transform(output_key="Concord", save_model=False)
    return {"z": adata.obsm["Concord"] if "Concord" in adata.obsm else model.adata.obsm["Concord"]}


def celltypist(
    seed: int, log: np.ndarray, types: np.ndarray, query: np.ndarray, **_: np.ndarray
) -> dict[str, np.ndarray]:
    """CellTypist trained on the reference; by stochastic gradients, which scikit-learn from 1.8 on asks for."""
    import anndata
    import celltypist as package
    import pandas as pd

    cells = [anndata.AnnData(x, var=pd.DataFrame(index=[f"gene_{g}" for g in range(x.shape[1])])) for x in (log, query)]
    np.random.seed(seed)
    options = {"use_SGD": True, "n_jobs": 1, "check_expression": False, "random_state": seed}
    model = package.train(cells[0], labels=list(types), **options)
    found = package.annotate(cells[1], model=model)
    return {
        "types": found.predicted_labels["predicted_labels"].to_numpy(str),
        "novelty": 1 - found.probability_matrix.max(axis=1).to_numpy(),
    }


def symphony(
    seed: int, log: np.ndarray, types: np.ndarray, batch: np.ndarray, query: np.ndarray, **_: np.ndarray
) -> dict[str, np.ndarray]:
    """Symphonypy: the query on the reference's components, corrected by its Harmony clusters; types by 15 neighbours."""
    import anndata
    import pandas as pd
    import scanpy as sc
    import symphonypy

    var = pd.DataFrame(index=[f"gene_{g}" for g in range(log.shape[1])])
    known = anndata.AnnData(log, obs=pd.DataFrame({"batch": pd.Categorical(batch), "types": types}), var=var.copy())
    new = anndata.AnnData(query, var=var.copy())
    known.var["highly_variable"] = True
    sc.pp.scale(known, max_value=10)
    sc.pp.pca(known, n_comps=30, zero_center=False, random_state=seed)
    symphonypy.pp.harmony_integrate(known, key="batch", random_seed=seed)
    symphonypy.tl.map_embedding(new, known)
    symphonypy.tl.per_cell_confidence(new, known)
    symphonypy.tl.transfer_labels_kNN(new, known, "types", n_neighbors=15)
    return {"types": new.obs["types"].to_numpy(str), "novelty": new.obs["symphony_per_cell_dist"].to_numpy(float)}


def main() -> None:
    """What the peers' Python runs."""
    name, given, made, seed = sys.argv[1:]
    with np.load(given) as arrays:
        np.savez(made, **globals()[name](int(seed), **arrays))


if __name__ == "__main__":
    main()
