"""Every touch of anndata, scvi-tools and lightning that their documentation does not promise, in one place."""

import copy
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from anndata import AnnData
from anndata.experimental.multi_files._anncollection import AnnCollectionView as AnnCollectionView
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException, SIGTERMException
from scvi.model._utils import parse_device_args
from scvi.model.base import BaseModelClass
from scvi.train import LoudEarlyStopping, Trainer

from sc_ssl._names import as_text


def registered_names(registry: dict[str, Any]) -> list[str]:
    """Names of the genes that a model was set up with, in order."""
    return [as_text(name) for name in registry["field_registries"]["X"]["state_registry"]["column_names"]]


def registered_batches(registry: dict[str, Any]) -> list[str]:
    """Batch categories that a model was set up with, in the order of their codes."""
    return [as_text(name) for name in registry["field_registries"]["batch"]["state_registry"]["categorical_mapping"]]


def setup_arguments(registry: dict[str, Any]) -> dict[str, Any]:
    """The arguments of ``setup_anndata``."""
    return dict(registry["setup_args"])


def registry_for(registry: dict[str, Any], genes: list[str], *, layer: str | None) -> dict[str, Any]:
    """A copy of a model's registry for other genes, and cells whose counts are in another layer."""
    registry = copy.deepcopy(registry)
    counts = registry["field_registries"]["X"]
    counts["state_registry"]["column_names"] = np.asarray(genes, dtype=object)
    counts["summary_stats"]["n_vars"] = len(genes)
    registry["setup_args"]["layer"] = layer
    return registry


def viewed(view: AnnData) -> tuple[AnnData, np.ndarray, np.ndarray]:
    """What a view is of, and the positions of its cells and genes there."""
    whole = view._adata_ref
    rows, columns = (np.arange(n)[index] for n, index in zip(whole.shape, (view._oidx, view._vidx), strict=True))
    return whole, rows, columns


def torch_device(accelerator: str, device: int | str) -> torch.device:
    """The device that scvi-tools would choose."""
    *_, chosen = parse_device_args(accelerator, device, return_device="torch", validate_single_device=True)
    return chosen


def release(model_class: type[BaseModelClass], adata: Any) -> None:
    """Drop scvi-tools' class-level references to an AnnData, which otherwise outlives its last use (#2053)."""
    uuid = adata.uns.get("_scvi_uuid")
    model_class._setup_adata_manager_store.pop(uuid, None)
    for model_id, managers in list(model_class._per_instance_manager_store.items()):
        managers.pop(uuid, None)
        if not managers:
            del model_class._per_instance_manager_store[model_id]


class Where(NamedTuple):
    """Accelerator and devices as lightning wants them, and torch's device."""

    accelerator: str
    devices: int | list[int] | str
    device: torch.device


def resolve_devices(accelerator: str, devices: int | list[int] | str) -> Where:
    """Where scvi-tools would train."""
    return Where(*parse_device_args(accelerator, devices, return_device="torch"))


def trainer(where: Where, **kwargs: Any) -> Trainer:
    """scvi-tools' trainer, made without lightning's lines on devices and tips."""
    with _quiet():
        try:
            trainer = Trainer(accelerator=where.accelerator, devices=where.devices, **kwargs)
        except MisconfigurationException as error:
            raise ValueError(f"training cannot run like this: {error}") from error
    for callback in trainer.callbacks:
        if isinstance(callback, LoudEarlyStopping):  # prints past any logging; sc_ssl.train.EpochProgress logs it
            callback.teardown = lambda *_, **__: None
    return trainer


def run(
    trainer: Trainer, plan: LightningModule, datamodule: LightningDataModule, *, ckpt_path: str | Path | None
) -> BaseException | None:
    """Train; what ended the training before its time, an interruption or an error, or ``None``.

    Lightning answers Ctrl-C by ignoring further ones and by ``sys.exit(1)``, which would end a script and leave the
    model in train mode without its history, and SIGTERM by an exit that reports success. Here the signal handler comes
    back and the caller decides.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main_thread else None
    try:
        with _quiet():
            trainer.fit(plan, datamodule, ckpt_path=ckpt_path)
    except SIGTERMException:
        return SystemExit(128 + signal.SIGTERM)
    except (KeyboardInterrupt, SystemExit) as stop:
        by_user = isinstance(stop, KeyboardInterrupt) or isinstance(stop.__context__, KeyboardInterrupt)
        return KeyboardInterrupt() if by_user else stop
    except Exception as error:  # noqa: BLE001 - the caller raises it, once the model is in order
        return error
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, handler)
    return None


@contextmanager
def _quiet() -> Iterator[None]:
    """No device lines and tips for every fit; warnings still come through."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            # lightning 2.6 on torch 2.13
            warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
            # frozen teachers are in eval mode on purpose
            warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
