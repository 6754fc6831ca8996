"""One of several processes that train with a judge which fails on the second one.

accelerate launch --multi_gpu --num_processes 2 -m tests.several_processes.failing FOLDER
"""

import os
import sys
from pathlib import Path

from r1reward.rewards.judges.opinion import FailureLimit, Opinion
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from tests.several_processes.scenarios import Scenario, make_trainer


class Failing(RuleJudge):
    def __call__(self, reasonings, choices):
        if os.environ["RANK"] == "0":
            return super().__call__(reasonings, choices)
        return [Opinion(None, "timeout") for _ in reasonings]


def reward():
    return PreferenceReward(judge=Failing(), failure_limit=FailureLimit(0.2, at_least=1))


if __name__ == "__main__":
    trainer = make_trainer(Scenario({"shuffle_dataset": False}, composite=reward, verdicts=True), Path(sys.argv[1]))
    trainer.train()
    print("the training went on")
