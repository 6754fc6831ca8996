"""A composite reward as one reward function in the form that TRL calls: for `GRPOTrainer`, or beside other functions."""

import math


class AsFunction:
    """Gives a `CompositeReward` its total as a function. A subclass names itself in the metrics by `__name__`.

    `StableReinforceTrainer` needs it only where a composite reward is one of several; by itself it takes the terms apart, and
    has the product of terms over all processes, which is the same numbers.
    """

    def __call__(self, completions, log_metric=None, **columns) -> list[float | None]:
        """The total of each row, None where no term applies; the mean of each term is logged as `<name>/<term>`.

        Args:
            completions: One conversation, or text, per row.
            log_metric: TRL's.
            columns: The dataset's, one list each, and what else TRL passes.
        """
        import torch

        functions, terms = self.reward_functions(), []
        for function in functions:
            found = function(completions=completions, log_metric=log_metric, **columns)
            terms.append(torch.tensor([math.nan if value is None else float(value) for value in found]))
            if log_metric is not None and not terms[-1].isnan().all():
                log_metric(f"{self.__name__}/{function.__name__}", terms[-1].nanmean().item())
        applies = ~torch.stack(terms).isnan().all(0)
        return [value if row else None for value, row in zip(self.total(*terms).tolist(), applies.tolist(), strict=True)]
