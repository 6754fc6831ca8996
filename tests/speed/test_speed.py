"""The benchmark measures what it says: prompts of the given length, every part timed, tables with the right ratios."""

import json
import time

import pytest
import torch
from PIL import Image

from r1reward import bench
from r1reward.rewards.judges.rule import RuleJudge
from r1reward.rewards.preference import PreferenceReward
from r1reward.speed import operations, workload
from r1reward.speed.checkpointing import checkpointing
from r1reward.speed.evaluation import evaluation
from r1reward.speed.measure import Bench, Machine
from r1reward.speed.report import draw_growth, steps_table, write_report
from r1reward.speed.rewards import judgements, scoring
from r1reward.speed.trainers import Clock, build, trial
from r1reward.speed.workload import Shape

CPU = Machine("cpu", "float32", "small")


@pytest.fixture(scope="module")
def processor():
    return workload.processor()


@pytest.fixture(scope="module")
def model(processor):
    return workload.model("small", processor, "cpu", torch.float32)


@pytest.mark.parametrize("prompt", [256, 1000])
def test_prompts_have_exactly_the_length_asked_for(processor, tmp_path, prompt):
    shape = Shape(prompt, 8, 2)
    rows = workload.prompts(shape, processor, tmp_path, count=2)
    for row in rows:
        text = processor.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        ids = processor(text=[text], images=[[Image.open(row["images"][0]["path"])]])["input_ids"][0]
        assert len(ids) == prompt
        image_token = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
        assert ids.count(image_token) == shape.side**2
        assert abs(shape.side**2 / prompt - 0.4) < 0.03
    assert rows[0]["prompt"] != rows[1]["prompt"]


def test_the_small_model_is_the_one_that_the_published_numbers_name(model):
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 7.3
    assert round(sum(p.numel() for p in model.model.visual.parameters()) / 1e6, 1) == 2.0


def test_necessary_operations_grow_as_p_plus_g_times_r(model):
    """Each completion more costs the same, and doubling the prompts doubles the work."""
    works = [operations.necessary(model, Shape(256, 64, group)).old for group in (2, 3, 4)]
    assert works[2] - works[1] == pytest.approx(works[1] - works[0])
    one, two = (operations.necessary(model, Shape(256, 64, 4, prompts)).step for prompts in (2, 4))
    assert two == pytest.approx(2 * one)


def test_necessary_operations_are_those_that_torch_counts(model):
    """One forward pass of a prompt alone, by torch's own counter; not every version of it knows fused attention on a CPU."""
    from torch.utils.flop_counter import FlopCounterMode

    shape = Shape(256, 1, 1, prompts=1)
    ids = torch.randint(10, 200, (1, shape.prompt + shape.completion))
    model.set_attn_implementation({"text_config": "eager"})
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.model.language_model(input_ids=ids)
    model.set_attn_implementation({"text_config": "sdpa"})
    head = 2 * model.config.text_config.vocab_size * model.config.text_config.hidden_size
    # torch counts all pairs of tokens in attention, we those at or below the diagonal
    text, tokens = model.config.text_config, shape.prompt + 1
    above = 4 * text.hidden_size * text.num_hidden_layers * (tokens**2 - shape.prompt**2 / 2 - (shape.prompt + 0.5))
    assert operations.necessary(model, shape).old - head + above == pytest.approx(counter.get_total_flops(), rel=1e-3)


def test_a_part_inside_another_is_taken_off_it():
    clock = Clock()
    with clock.part("outer"), clock.part("inner"):
        time.sleep(0.2)
    assert clock.seconds["inner"] >= 0.2 > 10 * clock.seconds["outer"]


@pytest.mark.parametrize("kind", ["stock", "unshared", "ours"])
def test_every_part_of_a_step_is_timed(processor, tmp_path, kind):
    shape = Shape(200, 4, 2)
    rows = workload.prompts(shape, processor, tmp_path, count=4)
    model = workload.model("small", processor, "cpu", torch.float32)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    options = {"use_cpu": True, "bf16": False}
    load = workload.Qwen2_5_VLForConditionalGeneration.from_pretrained
    trainer = build(kind, shape, str(tmp_path / "model"), load, rows, processor, str(tmp_path / "run"), options)
    for _ in range(2):  # a second call of train goes on with the next rollout batch
        seconds = trial(trainer)
        parts = ["rollout", "old", "reference", "rewards", "update", "preparation"]
        assert all(seconds[part] > 0 for part in parts)
        assert sum(seconds[part] for part in parts) <= seconds["step"]
    assert ("additions" in seconds) is (kind != "stock")
    assert trainer.state.global_step == 2


def _results(factor: float = 4.0) -> dict:
    def seconds(step):
        parts = {part: step / 5 for part in ("rollout", "old", "reference", "update")}
        return [parts | {"step": step * scale, "additions": step / 1000} for scale in (0.9, 1.0, 1.2)]

    steps = {
        str(shape): {
            "shape": {"prompt": 1000, "completion": 128, "generations": shape.generations, "prompts": 2},
            "seconds": {"stock": seconds(factor * shape.generations), "ours": seconds(shape.generations)},
            "operations": {"rollout": 1e9, "old": 1e9, "reference": 1e9, "update": 3e9},
            "matmul_speed": 1e9,
        }
        for shape in (Shape(1000, 128, 2), Shape(1000, 128, 8))
    }
    return {
        "machine": CPU.describe(),
        "parameters": 7.3e6,
        "vision_parameters": 2e6,
        "steps": steps,
        "memory": {"P1000-R128-G8": {"stock": {"peak": 4 * 2**30}, "ours": {"peak": 2**30}}},
        "verdicts": {
            "P1000-R128-G8": {"verdicts": 8, "seconds": {"one by one": [6.0, 6.0, 9.0], "in batches": [2.0, 2.0, 2.0]}}
        },
        "evaluation": {
            "items": 200,
            "votes": 15,
            "alone": 40,
            "same_greedy_verdicts": 40,
            "rates": {"one call per verdict": [9.0, 10.0, 11.0], "ours": [150.0, 160.0, 155.0]},
        },
        "rewards": {"completions": 512, "words": 300, "seconds": [0.03, 0.02, 0.05]},
        "checkpoints": {"interval": 16, "bytes": 2e7, "seconds": {"saving": [0.4, 0.2, 1.5], "training": [20.0, 20.0, 30.0]}},
    }


def test_tables_show_medians_ratios_and_shares():
    row = next(line for line in steps_table(_results()) if line.startswith("| P1000-R128-G8 | whole step"))
    assert "32.00 [28.80, 38.40]" in row and "8.00 [7.20, 9.60]" in row and "| 4.0 |" in row
    assert row.endswith("| 19 % | 75 % |")  # 6e9 operations at 1e9 per second are 6 s, of 32 and of 8
    assert "at most 0.10 % of a step" in steps_table(_results())[-1]


def test_the_report_holds_everything(tmp_path):
    (tmp_path / "cpu-small.json").write_text(json.dumps(_results()))
    text = write_report(tmp_path).read_text()
    assert "| P1000-R128-G8 | 4.00 GiB |  | 1.00 GiB | 0.25 |" in text
    assert "| P1000-R128-G8 | 8 | 6.00 [6.00, 9.00] | 2.00 [2.00, 2.00] | 3.0 |" in text
    assert "both orders, 15 votes: 155.00 [150.00, 160.00] verdicts per second" in text and "15.5 times" in text
    assert "Scoring 512 completions of 300 words" in text and "takes 30 [20, 50] ms" in text
    assert "every 16 steps (20 MB," in text and "takes 2.0 [1.0, 5.0] % of its training, in 3 intervals" in text
    assert "7.3 million parameters" in text and "](cpu-small.png)" in text
    assert (tmp_path / "cpu-small.png").stat().st_size > 10_000


def test_a_report_without_steps_has_no_plot(tmp_path):
    results = {name: value for name, value in _results().items() if name not in ("steps", "memory", "verdicts")}
    (tmp_path / "cpu-small.json").write_text(json.dumps(results))
    text = write_report(tmp_path).read_text()
    assert "Scoring 512 completions" in text and ".png" not in text


def test_growth_is_drawn_without_stock(tmp_path):
    results = _results()
    for measured in results["steps"].values():
        del measured["seconds"]["stock"]
    draw_growth(results, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "1000,128"], "give P,R,G"),
        (["--shapes", "10,128,8"], "P must be at least 200"),
        (["--prompts", "3"], "give an even number"),
        (["--report-only"], "holds no results"),
    ],
)
def test_wrong_arguments_are_one_line(arguments, message, capsys, tmp_path):
    assert bench.main([*arguments, "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own(tmp_path):
    from r1reward.speed.measure import peak_memory

    measured = peak_memory(CPU, "ours", Shape(200, 4, 2))
    assert 2**26 < measured["resting"] < measured["peak"]


def test_evaluation_is_measured_beside_single_calls():
    measured = evaluation(trials=1, items=4, votes=2, alone=2, max_new_tokens=48)
    assert measured["same_greedy_verdicts"] == 2
    assert all(len(rates) == 1 and rates[0] > 0 for rates in measured["rates"].values())


def test_the_time_of_checkpoints_is_measured():
    small = ("trainer.rollout_batch_size=16", "trainer.train_batch_size=8", "trainer.micro_batch_size=8", "data.num_train=32")
    measured = checkpointing(
        1, (*small, "trainer.save_steps=2", "trainer.max_completion_length=4", "advantage_filter.threshold=2")
    )
    assert measured["interval"] == 2 and measured["bytes"] > 5e6
    (saving,), (training,) = measured["seconds"]["saving"], measured["seconds"]["training"]
    assert 0 < saving < training


def test_scoring_is_of_long_judgements_of_every_kind():
    texts = judgements(8, words=300)
    assert all(len(text.split()) > 300 for text in texts)
    reward = PreferenceReward(judge=RuleJudge())
    terms = reward.score(texts, [index % 2 + 1 for index in range(8)])
    assert [t.result for t in terms] == [1.0, 1.0, 1.0, 0.0] * 2
    assert [t.consistency for t in terms] == [1.0, 0.0, 0.0, None] * 2
    assert [opinion.value for opinion in RuleJudge()([t.verdict.reasoning for t in terms[:3]], [1, 2, 1])] == [1.0, 0.0, None]
    measured = scoring(trials=2, count=8)
    assert len(measured["seconds"]) == 2 and measured["completions"] == 8 and measured["characters"] > 1200


@pytest.mark.slow
def test_verdicts_one_by_one_and_in_batches(tmp_path):
    measured = Bench(CPU, tmp_path).verdicts(Shape(200, 4, 8), rows=3, trials=1)
    assert all(len(values) == 1 and values[0] > 0 for values in measured["seconds"].values())
