"""One training plan for every method: it sums, optimises and logs the named terms of ``module.loss_terms``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn


def warmup_cosine(step: int, *, n_steps: int, warmup_rate: float) -> float:
    """Linear rise over the first ``warmup_rate`` of the steps, then half a cosine down to 0."""
    n_warmup = warmup_rate * n_steps
    if step < n_warmup:
        return (step + 1) / (n_warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - n_warmup) / max(n_steps - n_warmup, 1)))


#: names of parameters that weight decay leaves alone, beside biases and norms
UNDECAYED = ("position", "token")


class SSLTrainingPlan(LightningModule):
    """Adam(W) with a per-step schedule on the sum of the module's named loss terms.

    scvi-tools' own plan is not inherited: it logs an ELBO, monitors it, and sets Adam's eps to 0.01. The history holds
    ``train_loss`` and ``<term>_train``, with a validation set also ``validation_loss`` and ``<term>_validation``.

    Parameters
    ----------
    module
        Has ``loss_terms(cells) -> {term: weighted scalar}`` and ``after_step()``.
    lr
        Base learning rate.
    weight_decay
        AdamW's decay of weight matrices; biases, norms, tokens and positions are left alone.
    betas
        Adam's decay rates of both moments.
    schedule
        ``"cosine"``: warm-up, then half a cosine to 0 over the whole run; ``"constant"``: ``lr`` throughout.
    warmup_rate
        Share of the steps over which the rate rises, in [0, 1); only with ``"cosine"``.
    lr_factor
        What the rate is multiplied by for parameters whose name starts so, for example ``{"encoder.": 0.1}``.
    prefix
        Put before every name in the history, for a model that trains in phases.
    fused
        One kernel for a step where torch has one; not with mixed precision, whose gradients Lightning could not clip.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        schedule: Literal["cosine", "constant"] = "cosine",
        warmup_rate: float = 0.0,
        lr_factor: Mapping[str, float] | None = None,
        prefix: str = "",
        fused: bool = True,
    ) -> None:
        super().__init__()
        if schedule not in ("cosine", "constant"):
            raise ValueError(f"schedule is 'cosine' or 'constant', found {schedule!r}.")
        self.module = module
        self.lr = lr
        self.weight_decay = weight_decay
        self.betas = tuple(betas)
        self.schedule = schedule
        self.warmup_rate = warmup_rate
        self.lr_factor = dict(lr_factor or {})
        self.prefix = prefix
        self.fused = fused
        self._totals: dict[str, dict[str, Tensor]] = {"train": {}, "validation": {}}
        self._n_cells = {"train": 0, "validation": 0}

    def on_fit_start(self) -> None:
        """Back to train mode: scvi-tools leaves a trained or loaded module in eval mode, and lightning keeps that."""
        self.module.train()

    def training_step(self, cells: Mapping[str, Tensor], batch_idx: int) -> Tensor:
        """One minibatch."""
        terms = self.module.loss_terms(cells)
        return self._add_terms(terms, "train", len(cells["batch"]))

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the module follow the step, a moving average for example."""
        self.module.after_step()

    def validation_step(self, cells: Mapping[str, Tensor], batch_idx: int) -> None:
        """The same masks and noise at every epoch, so that the best epoch is not the luckiest one."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(batch_idx)
            self._add_terms(self.module.loss_terms(cells), "validation", len(cells["batch"]))

    def on_validation_epoch_end(self) -> None:
        """Log the means of the held-out cells."""
        self._log_means("validation")

    def on_train_epoch_end(self) -> None:
        """Log the means; stop at a loss that is no number any more, before the run is spent on it."""
        loss = float(self._log_means("train")[f"{self.prefix}train_loss"])
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the training loss became {loss} in epoch {self.current_epoch + 1}; lower the learning rate "
                f"(plan_kwargs={{'lr': ...}}, now {self.lr})."
            )

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW (Adam without decay), eps 1e-8, fused where torch can; the schedule steps with every minibatch."""
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for decayed in (True, False):
            for name, p in named:
                if (p.ndim > 1 and not name.endswith(UNDECAYED)) == decayed:
                    factor = next((f for start, f in self.lr_factor.items() if name.startswith(start)), 1.0)
                    groups.setdefault((self.weight_decay if decayed else 0.0, factor), []).append(p)
        optimizer = torch.optim.AdamW(
            [{"params": p, "weight_decay": decay, "lr": self.lr * f} for (decay, f), p in groups.items()],
            lr=self.lr,
            betas=self.betas,
            fused=self.fused and self.device.type in ("cpu", "cuda"),
        )
        schedule = _constant
        if self.schedule == "cosine":
            n_steps = int(self.trainer.estimated_stepping_batches)
            schedule = partial(warmup_cosine, n_steps=n_steps, warmup_rate=self.warmup_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _add_terms(self, terms: dict[str, Tensor], split: str, n_cells: int) -> Tensor:
        """Add a minibatch to the epoch's means, on the device: to log every step costs more than a small step."""
        loss = torch.stack(list(terms.values())).sum()
        named = {f"{name}_{split}": term for name, term in terms.items()} | {f"{split}_loss": loss}
        totals, self._n_cells[split] = self._totals[split], self._n_cells[split] + n_cells
        for name, value in named.items():
            totals[name] = totals.get(name, 0.0) + n_cells * value.detach()
        return loss

    def _log_means(self, split: str) -> dict[str, Tensor]:
        """Log the epoch's mean of each term and start again."""
        means = {f"{self.prefix}{name}": total / self._n_cells[split] for name, total in self._totals[split].items()}
        self._totals[split], self._n_cells[split] = {}, 0
        self.log_dict(means)
        return means


def _constant(step: int) -> float:
    return 1.0
