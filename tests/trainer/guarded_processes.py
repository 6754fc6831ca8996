"""One of two processes that train together, of which the second has bad rows from its second rollout batch on.

accelerate launch --multi_gpu --num_processes 2 -m tests.trainer.guarded_processes FOLDER
"""

import math
import sys
from pathlib import Path

import torch

from r1reward.data.build import training_dataset
from r1reward.data.shapes.rows import preference_row
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from r1reward.trainer.config import StableReinforceConfig
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from r1reward.trainer.step_guard import NumericalTrouble, StepGuard
from tests.trainer.conftest import letters


class OneSided(StableReinforceTrainer):
    made = 0

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        self.made += 1
        if self.made > 1 and self.accelerator.process_index == 1:
            batch["advantages"][:] = math.nan
        return batch


def main(folder: Path):
    processor = build_processor(tokenizer_corpus(num_rows=200), vocab_size=400)
    torch.manual_seed(0)
    model = build_model(processor, hidden_size=32, num_layers=2, vision_hidden_size=16, vision_depth=1, initializer_range=0.2)
    arguments = StableReinforceConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=4,
        steps_per_generation=2,
        num_generations=4,
        max_completion_length=6,
        max_steps=9,
        learning_rate=1e-2,
        advantage_filter="none",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    guard = StepGuard(folder / "run")
    trainer = OneSided(
        model=model,
        reward_funcs=letters,
        args=arguments,
        step_guard=guard,
        train_dataset=training_dataset([preference_row(0, "train", index) for index in range(32)]),
        processing_class=processor,
    )
    message = None
    try:
        trainer.train()
    except NumericalTrouble as error:
        message = str(error)
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    outcome = {"message": message, "weights": weights, "state": guard.state_dict(), "step": trainer.state.global_step}
    torch.save(outcome, folder / f"outcome-{trainer.accelerator.process_index}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
