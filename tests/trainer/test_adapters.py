"""Low-rank adapters: which layers get them, what they train, exact resume, the reference, and the whole model at the end."""

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from r1reward.models.adapters import AdapterSettings, adapter_config, check_adapter, merge_adapter, quantization
from r1reward.models.families import family_of
from r1reward.models.loading import ModelSettings, UnusableModel, load_model
from r1reward.trainer.stable_reinforce import StableReinforceTrainer
from tests.trainer.conftest import letters
from tests.trainer.test_resume import Recorder, same

LORA = AdapterSettings("lora", rank=4, alpha=8, dropout=0.1)
FAMILY = family_of("qwen2_5_vl")


def adapted(model) -> set[str]:
    """Names of the modules of the base model that have adapters."""
    return {name for name, module in model.get_base_model().named_modules() if hasattr(module, "lora_A")}


def frozen(*parts: str) -> ModelSettings:
    return ModelSettings("embedded", freeze=list(parts))


@pytest.fixture
def make_trainer(make_model, make_arguments, processor, dataset, tmp_path):
    """A policy loaded from a folder, as a job does; another seed is another base model."""

    def make(adapter=LORA, model_settings=None, base=0, folder="run", callbacks=(), **changes):
        path = tmp_path / f"base-{base}"
        if not path.exists():
            make_model(base).save_pretrained(path)
        model = AutoModelForImageTextToText.from_pretrained(path)
        arguments = {"output_dir": str(tmp_path / folder), "advantage_estimator": "group", "advantage_filter": "none"}
        return StableReinforceTrainer(
            model=model,
            reward_funcs=letters,
            args=make_arguments(**(arguments | changes)),
            train_dataset=dataset,
            processing_class=processor,
            peft_config=adapter_config(model, adapter, model_settings or frozen()),
            callbacks=list(callbacks),
        )

    return make


@pytest.mark.parametrize(
    ("vision", "freeze", "parts"),
    [
        (False, (), {"language"}),
        (False, ("vision", "projector"), {"language"}),
        (True, (), {"language", "vision", "projector"}),
        (True, ("vision",), {"language", "projector"}),
        (True, ("projector",), {"language", "vision"}),
    ],
)
def test_every_linear_layer_of_the_parts_and_no_other(make_model, vision, freeze, parts):
    from peft import get_peft_model

    model = make_model()
    expected = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name != "lm_head" and FAMILY.part_of(name) in parts
    }
    assert {FAMILY.part_of(name) for name in expected} == parts
    settings = AdapterSettings("lora", rank=4, alpha=8, dropout=0.0, vision=vision)
    model = get_peft_model(model, adapter_config(model, settings, frozen(*freeze)))
    assert adapted(model) == expected
    assert all("lora_" in name for name, p in model.named_parameters() if p.requires_grad)
    layer = next(module for module in model.modules() if hasattr(module, "lora_A"))
    assert layer.scaling == {"default": 2.0} and layer.r == {"default": 4}


def test_no_adapters_are_asked_for(make_model):
    assert adapter_config(make_model(), AdapterSettings(), frozen()) is None
    assert quantization(AdapterSettings()) is quantization(LORA) is None
    check_adapter(AdapterSettings(rank=0), frozen())


@pytest.mark.parametrize(
    ("settings", "freeze", "message"),
    [
        (AdapterSettings("lora", rank=0), (), "adapter.rank must be at least 1, got 0"),
        (AdapterSettings("lora", alpha=-1), (), "adapter.alpha must be at least 1, got -1"),
        (AdapterSettings("lora", dropout=1.0), (), "adapter.dropout must be at least 0 and below 1, got 1.0"),
        (AdapterSettings("lora", vision=True), ("vision", "projector"), "adapter.vision=true has no effect: model.freeze"),
    ],
)
def test_settings_that_make_no_sense(settings, freeze, message):
    with pytest.raises(ValueError, match=message):
        check_adapter(settings, frozen(*freeze))


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a machine without a GPU")
def test_qlora_needs_a_gpu():
    with pytest.raises(ValueError, match="adapter=qlora needs a CUDA GPU, and there is none here: set adapter=lora"):
        check_adapter(AdapterSettings("qlora"), frozen())


def test_qlora_asks_for_four_bits():
    wanted = quantization(AdapterSettings("qlora"))
    assert wanted.load_in_4bit and wanted.bnb_4bit_quant_type == "nf4" and wanted.bnb_4bit_use_double_quant


def test_an_unknown_family_says_what_to_do(make_model):
    model = make_model()
    model.config.model_type = "of_nobody"
    with pytest.raises(UnusableModel, match="adapter=lora: model type 'of_nobody' is of no family known"):
        adapter_config(model, LORA, frozen())


def test_adapters_follow_the_seed_and_alone_move(make_trainer):
    trainers = {seed: make_trainer(seed=seed, max_steps=2, folder=str(seed)) for seed in (3, 4)}
    again = make_trainer(seed=3, folder="again")
    drawn = {seed: trainer.model.state_dict() for seed, trainer in trainers.items()}
    names = [name for name in drawn[3] if "lora_A" in name]
    for name in names:
        assert torch.equal(drawn[3][name], again.model.state_dict()[name])
        assert not torch.equal(drawn[3][name], drawn[4][name])
    trainer = trainers[3]
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    moved = {name for name, value in trainer.model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert {name for name in before if "lora_B" in name} <= moved


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_a_killed_run_goes_on_exactly(make_trainer, tmp_path, beta):
    """With dropout, which draws random numbers; with the base model as the reference of a KL term."""
    full, rest = Recorder(), Recorder()
    options = {"save_strategy": "steps", "save_steps": 3, "max_steps": 4, "beta": beta, "lr_scheduler_type": "cosine"}
    whole = make_trainer(callbacks=[full], **options)
    whole.train()
    if beta:
        assert whole.ref_model is None and "ref" not in whole.model.peft_config
        assert full.metrics[4]["kl"] > 0  # adapters moved away from the base model
    checkpoint = whole.checkpoints.path(3)
    assert {"adapter_model.safetensors", "adapter_config.json"} <= {path.name for path in checkpoint.iterdir()}
    assert not (checkpoint / "model.safetensors").exists()
    resumed = make_trainer(callbacks=[rest], seed=0, **options)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert rest.metrics == {4: full.metrics[4]}
    same(whole, resumed)


def test_dropout_acts_in_the_update_alone(make_trainer):
    """Old log-probabilities are the evaluated policy's; those of the update draw a mask each time."""
    trainer = make_trainer(AdapterSettings("lora", rank=4, alpha=8, dropout=0.5))
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    first, second = trainer._current_log_probs(batch), trainer._current_log_probs(batch)
    assert (first - second).abs().max() > 0.01
    for module in trainer.model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    torch.testing.assert_close(trainer._current_log_probs(batch), batch["old_per_token_logps"], atol=1e-5, rtol=1e-5)


def test_the_reference_is_the_base_model(make_trainer):
    """The first KL, of adapters that begin at zero, is zero; dropout aside."""
    trainer = make_trainer(AdapterSettings("lora", rank=4, alpha=8, dropout=0.0), beta=0.1)
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batch = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    torch.testing.assert_close(batch["ref_per_token_logps"], batch["old_per_token_logps"], atol=0, rtol=0)
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.05)
    again = trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
    assert (again["ref_per_token_logps"] - again["old_per_token_logps"]).abs().max() > 0.1


def test_merged_into_a_whole_model_that_computes_the_same(make_trainer, processor, rows, tmp_path):
    trainer = make_trainer(AdapterSettings("lora", rank=4, alpha=8, dropout=0.1, vision=True), max_steps=2)
    trainer.train()
    folder = tmp_path / "final"
    trainer.save_model(str(folder))
    merge_adapter(AutoModelForImageTextToText.from_pretrained(tmp_path / "base-0"), folder)
    assert not list(folder.glob("adapter_*"))
    merged = load_model(ModelSettings(str(folder)))
    assert type(merged) is type(trainer.model.get_base_model())
    images = [[image] for image in trainer.bad_images.decode([trainer.train_dataset[0]])[0][0]["images"]]
    text = processor.apply_chat_template(rows[0].messages(), tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=images, return_tensors="pt")
    trainer.model.eval()
    with torch.no_grad():
        live, base = trainer.model(**inputs).logits, AutoModelForImageTextToText.from_pretrained(tmp_path / "base-0")
        torch.testing.assert_close(merged(**inputs).logits, live, atol=1e-4, rtol=1e-4)
        assert (base(**inputs).logits - live).abs().max() > 0.01
