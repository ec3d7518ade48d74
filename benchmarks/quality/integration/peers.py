"""Integration methods of others: in this environment where it has them, else in one of their own (``make peers``).

Their packages are no dependencies: harmonypy is GPL, and Scanorama and Concord bring much of their own. A peer runs as a
script, ``python peers.py NAME IN.npz OUT.npy SEED``, and reads log-normalised cells of 2,000 genes, 50 components, and the batch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

#: made by `make peers`
ENVIRONMENT = Path(__file__).parents[3] / ".peers"


def run(name: str, log_ng: np.ndarray, components_nc: np.ndarray, batch_n: np.ndarray, seed: int) -> np.ndarray:
    """The embedding of a peer, in the peers' environment."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        raise FileNotFoundError(
            f"{name} needs the environment of the peers, {ENVIRONMENT}, which is not there: make peers."
        )
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "cells.npz", Path(folder) / "embedding.npy"
        np.savez(given, log=log_ng, components=components_nc, batch=batch_n.astype(str))
        command = [python, __file__, name, given, made, str(seed)]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(
                f"{name} failed: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}"
            )
        return np.load(made)


def harmony(log_ng: np.ndarray, components_nc: np.ndarray, batch_n: np.ndarray, seed: int) -> np.ndarray:
    """Harmonypy at its defaults on the components."""
    import harmonypy
    import pandas as pd

    z = np.asarray(
        harmonypy.run_harmony(components_nc, pd.DataFrame({"batch": batch_n}), ["batch"], random_state=seed).Z_corr
    )
    return z if len(z) == len(batch_n) else z.T


def scanorama(log_ng: np.ndarray, components_nc: np.ndarray, batch_n: np.ndarray, seed: int) -> np.ndarray:
    """Scanorama's 100 dimensions of the batches' log-expression."""
    import scanorama as package

    np.random.seed(seed)
    order = np.argsort(batch_n, kind="stable")
    parts = [log_ng[batch_n == name] for name in np.unique(batch_n)]
    genes = [[str(g) for g in range(log_ng.shape[1])]] * len(parts)
    found, _ = package.integrate(parts, genes, verbose=False)
    z = np.empty((len(batch_n), found[0].shape[1]))
    z[order] = np.concatenate(found)
    return z


def concord(log_ng: np.ndarray, components_nc: np.ndarray, batch_n: np.ndarray, seed: int) -> np.ndarray:
    """Concord at its defaults, batches as domains."""
    import anndata
    import concord as package
    import pandas as pd
    import torch

    torch.set_num_threads(1)
    adata = anndata.AnnData(log_ng, obs=pd.DataFrame({"batch": pd.Categorical(batch_n)}))
    adata.obs_names = [f"cell_{i}" for i in range(len(batch_n))]
    options = {"save_dir": None, "copy_adata": True, "preload_dense": True, "use_faiss": False}
    model = package.Concord(adata=adata, domain_key="batch", device=torch.device("cpu"), seed=seed, **options)
    model.fit_transform(output_key="Concord", save_model=False)
    return adata.obsm["Concord"] if "Concord" in adata.obsm else model.adata.obsm["Concord"]


def main() -> None:
    """What the peers' Python runs."""
    name, given, made, seed = sys.argv[1:]
    cells = np.load(given)
    np.save(made, globals()[name](cells["log"], cells["components"], cells["batch"], int(seed)))


if __name__ == "__main__":
    main()
