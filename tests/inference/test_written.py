"""The text that a policy wrote: what the chat template opens of it, and what was taken apart, belong to it."""

import json

import pytest

from r1reward.data.shapes.rows import preference_row
from r1reward.inference.backend import Completion, Sampling
from r1reward.inference.reward_model import RewardModel
from r1reward.inference.server_backend import completion_in
from r1reward.inference.transformers_backend import TransformersBackend
from r1reward.inference.unreadable import LEAST, Unreadable, UnreadableWatch
from r1reward.models.loading import ModelSettings, load_model, load_processor
from r1reward.models.tiny import build_model, build_processor, tokenizer_corpus
from r1reward.rewards.verdict import parse
from r1reward.rewards.written import after_opening, full_text, opening, opening_of_text, text_of

CHATML = (
    "{%- for message in messages -%}<|im_start|>{{ message['role'] }}\n"
    "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>{%- else -%}{{ part['text'] }}{%- endif -%}"
    "{%- endfor -%}{%- endif -%}<|im_end|>\n{% endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant\n"
)
OPENINGS = {
    "as Qwen3-VL-Thinking": ("{{ '<think>\\n' }}", "<think>\n"),
    "without a line": ("<think>", "<think>"),
    "thinking switched off": ("{{ '<think>\\n\\n</think>\\n\\n' }}", "<think>\n\n</think>\n\n"),
    "with first words": ("<think>Okay, ", "<think>Okay, "),
    "none": ("", ""),
}


@pytest.fixture(scope="module")
def processor():
    return build_processor(tokenizer_corpus(num_rows=100), vocab_size=400)


@pytest.mark.parametrize(("begins", "expected"), OPENINGS.values(), ids=OPENINGS)
def test_what_a_template_opens(processor, begins, expected):
    assert opening(processor, CHATML + begins + "{% endif %}") == expected


def test_a_template_with_a_switch(processor):
    template = CHATML + "{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
    assert opening(processor, template, enable_thinking=False) == "<think></think>"
    assert opening(processor, template, enable_thinking=True) == ""
    assert opening(processor) == ""  # its own template opens nothing


def test_a_prompt_that_mentions_the_tags_opens_nothing():
    assert opening_of_text("Think inside <think></think>, then <answer>.\nAnswer:") == ""
    assert opening_of_text("Think inside <think></think>, then <answer>.\nAnswer: <think>\n") == "<think>\n"
    assert opening_of_text("No thinking.\nAnswer: <think>\n\n</think>\n\n") == "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "b</think><answer>1</answer>"}, "<think>b</think><answer>1</answer>"),
        ({"content": None}, "<think>"),
        ({"content": "<answer>1</answer>", "reasoning_content": "b"}, "<think>b</think><answer>1</answer>"),
        ({"content": "<answer>1</answer>", "reasoning": "b"}, "<think>b</think><answer>1</answer>"),
        ({"content": [{"type": "text", "text": "<answer>1</answer>"}], "thinking": "b"}, "<think>b</think><answer>1</answer>"),
        ({"content": None, "reasoning_content": "cut off"}, "<think>cut off"),
    ],
)
def test_a_message_is_written_as_a_whole(message, expected):
    assert full_text(message, "<think>") == expected
    assert text_of("a text") == "a text"


@pytest.mark.parametrize("begins", ["<think>", "<think>\n", "<think>\n\n</think>\n\n", ""])
def test_a_target_is_what_is_left_to_write(begins):
    target = "<think></think><answer>1</answer>"
    written = begins + after_opening(target, begins)
    assert parse(written).choice == 1
    if begins:
        with pytest.raises(ValueError, match="opens the turn"):
            after_opening("<answer>1</answer>", begins)


def reply(**message) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", **message}}], "usage": {"completion_tokens": 7}}).encode()


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<answer>2</answer>", "reasoning_content": "Response 2 is better."},  # a parser of reasoning, vLLM's
        {"content": "\n\n<answer>2</answer>", "reasoning": "Response 2 is better."},  # of other servers
        {"content": "Response 2 is better.</think><answer>2</answer>"},  # no parser, and a template that opens <think>
        {"content": "<think>Response 2 is better.</think><answer>2</answer>", "reasoning_content": None},
    ],
    ids=["reasoning_content", "reasoning", "opened", "whole"],
)
def test_a_servers_reply_is_a_whole_verdict(message):
    completion = completion_in(reply(**message))
    assert completion.tokens == 7
    verdict = parse(completion.text)
    assert verdict.choice == 2 and verdict.reasoning == "Response 2 is better."


def test_a_reply_cut_off_while_thinking_is_no_verdict():
    completion = completion_in(reply(content=None, reasoning_content="Response 2 is"))
    assert completion.failure is None and completion.text.endswith("Response 2 is")
    assert parse(completion.text).choice is None


def test_the_backend_counts_what_the_template_opens(processor):
    model = build_model(processor, hidden_size=32, num_layers=1, vision_hidden_size=16, vision_depth=1)
    plain, begins = processor.chat_template, "{{ '<think>\\n' }}"
    try:
        processor.chat_template = CHATML + begins + "{% endif %}"
        backend = TransformersBackend(model, processor)
        ((completion,),) = backend.complete([preference_row(0, "train", 0)], 1, Sampling(4), 0)
    finally:
        processor.chat_template = plain
    assert completion.text.startswith("<think>\n") and completion.tokens <= 4


def test_the_embedded_model_judges_with_a_template_that_opens_its_thoughts(shared_cases):
    settings = ModelSettings(path="embedded")
    processor = load_processor(settings)
    processor.chat_template = (shared_cases / "case05_chat_template_opens_think.jinja").read_text()
    model = RewardModel(TransformersBackend(load_model(settings), processor))
    rows = [preference_row(0, "train", index) for index in range(8)]
    assert all(judgement.verdict.choice for judgement in model.judge(rows))  # each of them was unreadable


class Says:
    """A backend that gives texts."""

    def __init__(self, *texts: str):
        self.texts = texts

    def complete(self, rows, votes, sampling, seed):
        return [[Completion(self.texts[n % len(self.texts)], 3)] * votes for n in range(len(rows))]


GOOD = "<think>So response 1 is better.</think><answer>1</answer>"


@pytest.mark.parametrize(
    ("texts", "fault"),
    [
        (["nothing"], "no_think"),
        ([GOOD[7:].replace(">1<", ">maybe<")], "no_think"),
        (["<think>and on and on"], "open_think"),
        ([""], "empty"),
    ],
)
def test_an_evaluation_that_reads_nothing_says_so_once(texts, fault):
    rows = [preference_row(0, "train", index) for index in range(16)]
    model = RewardModel(Says(*texts))
    with pytest.warns(Unreadable, match=fault) as caught:
        model.judge(rows)
        model.vote(rows, 2, Sampling(8, 1.0), 0)
    assert len(caught) == 1 and texts[0][:20] in str(caught[0].message)


def test_one_that_reads_some_says_nothing(recwarn):
    rows = [preference_row(0, "train", index) for index in range(16)]
    RewardModel(Says(GOOD, "nothing", "nothing", "nothing")).judge(rows)  # a quarter is read
    RewardModel(Says("nothing")).judge(rows[: LEAST - 1])  # too few to tell
    assert not [one for one in recwarn if issubclass(one.category, Unreadable)]


def test_the_commonest_reason_is_named():
    watch = UnreadableWatch("a model")
    with pytest.warns(Unreadable, match="9 of the first 10 texts of a model .* 6 of them by 'b'"):
        watch.saw([("x", "a")] * 3 + [("y", "b")] * 6 + [("z", None)])
