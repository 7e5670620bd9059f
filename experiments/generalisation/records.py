"""What the stage generalise writes of a row, and its report reads: the errors under each setting of each factor."""

from __future__ import annotations

from pipeline.config.values import Values
from pipeline.poses.row_metrics import MeanStd


class SettingScores(Values):
    """The errors of a row's runs under one setting; `trained` says whether it is the condition of training."""

    curve: str
    setting: str
    trained: bool
    mpjpe_mm: MeanStd
    p_mpjpe_mm: MeanStd
    n_mpjpe_mm: MeanStd
    per_action: dict[str, MeanStd]  # MPJPE in mm

    @property
    def mean_mm(self) -> float:
        """The mean MPJPE of the runs."""
        assert self.mpjpe_mm.mean is not None
        return self.mpjpe_mm.mean

    @property
    def words(self) -> str:
        """The setting and, where a factor has several curves, which of them."""
        return self.setting + (f" ({self.curve})" if self.curve else "")


class FactorScores(Values):
    """The settings of one factor, all scored on the same frames."""

    frames: int
    settings: tuple[SettingScores, ...]

    @property
    def trained_mm(self) -> float:
        """The mean MPJPE under the condition of training."""
        return next(setting.mean_mm for setting in self.settings if setting.trained)

    @property
    def worst(self) -> SettingScores:
        """The setting of the largest MPJPE."""
        return max(self.settings, key=lambda setting: setting.mean_mm)

    @property
    def rise(self) -> float:
        """By what share of itself the MPJPE rises from the condition of training to the worst setting."""
        return self.worst.mean_mm / self.trained_mm - 1

    @property
    def curves(self) -> list[str]:
        """The names of the curves in their order."""
        return list(dict.fromkeys(setting.curve for setting in self.settings))


class RowScores(Values):
    """The whole record of a row; `how` says in words what is scored."""

    row: str
    seeds: tuple[int, ...]
    how: str
    factors: dict[str, FactorScores]
