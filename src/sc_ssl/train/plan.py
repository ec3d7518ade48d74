"""One training plan for every method: it sums, optimises and logs the named terms of ``module.ssl_loss``."""

from functools import partial
from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from .schedules import warmup_cosine

#: names of parameters that weight decay leaves alone, beside biases and norms
UNDECAYED = ("position", "token")


class SSLTrainingPlan(LightningModule):
    """Adam(W) with a per-step schedule on the sum of the module's named loss terms.

    scvi-tools' own plan is not inherited: it logs an ELBO, monitors it, and sets Adam's eps to 0.01. The history holds
    ``train_loss`` and ``<term>_train``, with a validation set also ``validation_loss`` and ``<term>_validation``.

    Parameters
    ----------
    module
        Has ``ssl_loss(cells) -> {term: weighted scalar}`` and ``after_step()``.
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
    prefix
        Put before every name in the history, for a model that trains in phases.
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
        prefix: str = "",
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
        self.prefix = prefix

    def on_fit_start(self) -> None:
        """Back to train mode: scvi-tools leaves a trained or loaded module in eval mode, and lightning keeps that."""
        self.module.train()

    def training_step(self, cells: dict[str, Tensor], batch_idx: int) -> Tensor:
        """One minibatch."""
        terms = self.module.ssl_loss(cells)
        return self._log_terms(terms, "train", len(cells["batch"]))

    def on_train_batch_end(self, *_: Any) -> None:
        """Let the module follow the step, a moving average for example."""
        self.module.after_step()

    def validation_step(self, cells: dict[str, Tensor], batch_idx: int) -> None:
        """The same masks and noise at every epoch, so that the best epoch is not the luckiest one."""
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(batch_idx)
            self._log_terms(self.module.ssl_loss(cells), "validation", len(cells["batch"]))

    def on_train_epoch_end(self) -> None:
        """Stop at a loss that is no number any more, before the run is spent on it."""
        loss = self.trainer.callback_metrics.get(f"{self.prefix}train_loss")
        if loss is not None and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the training loss became {float(loss)} in epoch {self.current_epoch + 1}; lower the learning rate "
                f"(plan_kwargs={{'lr': ...}}, now {self.lr})."
            )

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW (Adam without decay), eps 1e-8, fused where torch can; the schedule steps with every minibatch."""
        named = [(name, p) for name, p in self.module.named_parameters() if p.requires_grad]
        decays = {name for name, p in named if p.ndim > 1 and not name.endswith(UNDECAYED)}
        groups = [
            {"params": [p for name, p in named if name in decays], "weight_decay": self.weight_decay},
            {"params": [p for name, p in named if name not in decays], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self.lr,
            betas=self.betas,
            fused=self.device.type in ("cpu", "cuda"),
        )
        if self.schedule == "constant":
            return {"optimizer": optimizer}
        n_steps = int(self.trainer.estimated_stepping_batches)
        factor = partial(warmup_cosine, n_steps=n_steps, warmup_rate=self.warmup_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _log_terms(self, terms: dict[str, Tensor], split: str, n_cells: int) -> Tensor:
        loss = torch.stack(list(terms.values())).sum()
        logged = {f"{name}_{split}": term.detach() for name, term in terms.items()}
        logged[f"{split}_loss"] = loss.detach()
        self.log_dict(
            {self.prefix + name: value for name, value in logged.items()},
            on_step=False,
            on_epoch=True,
            batch_size=n_cells,
            prog_bar=False,
        )
        return loss
